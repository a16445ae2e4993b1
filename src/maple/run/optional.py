"""The optional engines there are, as the runs of one base use them: an endpoint, vLLM."""

from __future__ import annotations

from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from maple.endpoint import Server, ServerSettings
from maple.engines import OpenAIEngine, TextEncoder
from maple.engines.vllm import VllmBase
from maple.errors import EngineError
from maple.evaluate import Engine, PreparedTask, prepare_task
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.prepare import TaskRequest
from maple.evaluate.protocol import ScoringEngine
from maple.files import Files
from maple.plan import Resolver
from maple.run.engines import OptionalEngine, Subject, Work
from maple.store.usage import add_usage
from maple.study import EngineSettings, ModelRef, PromptSettings

_TOKENS_AT_ONCE = 1 << 22
_REQUESTS_AT_ONCE = 512
"""An engine that batches by itself is given much at once; what is finished is stored after each."""


class Endpoint(OptionalEngine):
    """An OpenAI-compatible server, for one base or for a model that only it has."""

    def __init__(self, settings: EngineSettings, model: str) -> None:
        """Sends nothing yet.

        Args:
            settings: address, form and pace.
            model: the base's name; what the server calls it unless the settings say.

        Raises:
            UsageError: no server is named, or the ``openai`` package is not installed.
        """
        super().__init__(settings)
        self._server = Server(
            ServerSettings(
                base_url=settings.endpoint, requests_per_minute=settings.requests_per_minute
            ),
            asker="the engine openai",
        )
        self._engine = OpenAIEngine(self._server, settings, model=settings.model or model)

    def serve(self, subject: Subject, reference: Engine | None) -> ScoringEngine:
        """The endpoint's model.

        Raises:
            EngineError: an adapter that the settings do not name.
        """
        if subject.directory is not None and self.settings.model is None:
            raise EngineError(
                "an endpoint serves an adapter under a name of its own: say which one by "
                "--engine-model, or score with the engine 'reference'."
            )
        return self._engine

    def own(self, prepared: PreparedTask, files: Files) -> PreparedTask:
        """The task in single requests: as token ids, or worded again as text.

        Raises:
            EngineError: a chat endpoint under another template.
        """
        if (conflict := chat_conflict(self.settings, prepared.prompt)) is not None:
            raise EngineError(conflict)
        if self.settings.api == "tokens":
            return replace(prepared, max_requests=1)
        wanted = TaskRequest(
            task=prepared.name,
            language=prepared.language,
            split=prepared.split,
            limit=prepared.limit,
            decoding=prepared.decoding,
            engine=prepared.engine,
        )
        encoder = TextEncoder(prepared.prompt, is_chat=self.settings.api == "chat")
        return prepare_task(wanted, files, encoder, max_tokens=1, max_requests=1)

    def describe(self) -> dict[str, Any]:
        """Address, model and form; never the key."""
        return {
            "name": self.settings.name,
            "api": self.settings.api,
            "url": self._server.url or "OpenAI",
            "model": self._engine.model,
            "reported_model": self._engine.reported_model,
        }

    def rows(self, work: Work) -> None:
        """Scores many samples at once; every answer that came is kept, whatever fails."""
        prepared, engine = work.prepared, self._engine
        names, encoded = prepared.sample_ids, prepared.encoded
        order = [i for batch in prepared.batches for i in batch if names[i] not in work.stored]
        alone = [
            EncodedRequest(options=(option,))
            for batch in (prepared.alone if order else ())
            for option in batch
        ]
        engine.expect([*alone, *(encoded[i] for i in order)])
        try:
            work.run(set(work.stored))
        except BaseException:
            engine.settle()
            if all(engine.has(request) for request in alone):
                late = {names[i] for i in order if engine.has(encoded[i])}
                work.run(set(names) - (late - work.stored))
            work.flush()
            raise
        finally:
            folder = work.place.store.layout.evaluation(work.spec.id)
            add_usage(folder, asdict(engine.take_usage()))
        work.finish()

    def close(self) -> None:
        """Ends threads and connections."""
        self._engine.close()


class Vllm(OptionalEngine):
    """vLLM in this process, one loaded base for all its adapters."""

    def __init__(
        self, settings: EngineSettings, source: str, *, quantization: str, max_rank: int
    ) -> None:
        """Loads nothing yet.

        Args:
            settings: the audit's size.
            source: directory of the model, as fetched.
            quantization: catalog name of the base's bits.
            max_rank: the largest rank of any adapter that will come; 0: none will.
        """
        super().__init__(settings)
        self._source = source
        self._quantization = quantization
        self._max_rank = max_rank
        self._loaded: VllmBase | None = None

    def serve(self, subject: Subject, reference: Engine | None) -> ScoringEngine:
        """The base, or the base with the subject's adapter on it.

        Raises:
            EngineError: bits or an adapter that vLLM does not serve; no reference.
            UsageError: vLLM is not installed.
        """
        if reference is None:
            raise EngineError("the engine vllm is held against the reference, and there is none.")
        if self._loaded is None:
            self._loaded = VllmBase(
                self._source,
                quantization=self._quantization,
                max_length=reference.base.max_length,
                max_rank=self._max_rank,
            )
        return self._loaded.engine(subject.directory, reference.end_ids())

    def own(self, prepared: PreparedTask, files: Files) -> PreparedTask:
        """The task in large batches."""
        return replace(prepared, max_tokens=_TOKENS_AT_ONCE, max_requests=_REQUESTS_AT_ONCE)

    def describe(self) -> dict[str, Any]:
        """The package's version and the bits."""
        found = {"name": self.settings.name, "version": version("vllm")}
        return found | {"quantization": self._quantization}

    def rows(self, work: Work) -> None:
        """Scores batch by batch; finished batches are kept, whatever fails."""
        try:
            work.run(set(work.stored))
        finally:
            work.flush()
        work.finish()

    def close(self) -> None:
        """Lets go of the loaded base."""
        self._loaded = None


def chat_conflict(settings: EngineSettings, prompt: PromptSettings) -> str | None:
    """Why a wording does not go with an endpoint's form; None where it does."""
    if settings.api != "chat" or prompt.template == "chat":
        return None
    return (
        "a chat endpoint wraps every prompt in its model's chat template: ask with the template "
        "chat (--template chat), so that the result says so."
    )


def open_engine(
    settings: EngineSettings, model: ModelRef, files: Files, *, quantization: str, max_rank: int
) -> OptionalEngine | None:
    """The optional engine that settings name, for the runs of one base; None: the reference.

    Args:
        settings: which one, and how it is reached.
        model: the base, resolved.
        files: where it comes from.
        quantization: catalog name of its bits.
        max_rank: the largest rank of any adapter that will come; 0: none will.

    Raises:
        SourceError: the base cannot be had.
        UsageError: no server is named, or a package is not installed.
    """
    if settings.name == "reference":
        return None
    if settings.name == "openai":
        return Endpoint(settings, model.name)
    directory = Resolver(files).model_directory(model)
    source = directory or files.hub.snapshot(model.name, model.revision)
    return Vllm(settings, str(source), quantization=quantization, max_rank=max_rank)
