"""lm-evaluation-harness's tasks on Maple's engine: ``lm_eval --model maple``.

    lm_eval --model maple --model_args pretrained=DIR,peft=runs/ID/adapter --batch_size auto ...

The harness words the prompts and scores the answers; tokenization, batches, the float32
log-softmax, quantization and the proof that an adapter is alive are those of ``maple eval``.
``maple_lm_eval`` makes the name known; ``MapleLM(pretrained=...)`` is the same thing in Python.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from maple.catalog.contracts import GenerationRequest, RankingRequest
from maple.errors import UsageError
from maple.evaluate import Engine
from maple.evaluate.batches import token_budget_batches
from maple.evaluate.encode import EncodedOption, EncodedRequest, Encoder
from maple.evaluate.generation import Limits
from maple.run.cohort import EVALUATION_TOKENS
from maple.run.lm_eval_arguments import (
    MAX_NEW_TOKENS,
    checked_arguments,
    greedy_settings,
    open_model,
)
from maple.study import PromptSettings, content_id

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

_OWNER = "maple: whose answers these are"


class MapleLM(TemplateLM):  # type: ignore[misc]
    """A base, or an adapter on it, as the harness asks one: likelihoods and greedy text."""

    def __init__(self, pretrained: str, **arguments: Any) -> None:
        """Loads the model.

        Args:
            pretrained: Hub repository, directory, ``atlas-base`` or ``atlas-qwen``.
            arguments: the other fields of ``ModelArguments``.

        Raises:
            UsageError: an argument that does not exist or cannot be.
            MismatchError: an adapter of another base or other bits, unless allowed.
            DeadAdapterError: an adapter that does not change the base's logits.
            SourceError: a model or adapter that cannot be had.
        """
        super().__init__()
        wanted = checked_arguments({"pretrained": pretrained, **arguments})
        self._max_requests = wanted.max_requests()
        self.base, model, self.info = open_model(wanted)
        self.engine = Engine(model, self.base)
        self.tokenizer: Any = self.base.tokenizer
        self._length = wanted.max_length or self.base.max_length
        plain = PromptSettings(form="lm-eval")
        self.encoder = Encoder(self.tokenizer, self.base.family, plain, max_length=self._length)

    # ------------------------------------------------------------------ what the harness reads

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands before an empty context: BOS, else EOS."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def max_length(self) -> int:
        """Tokens that context and answer may have together."""
        return self._length

    @property
    def max_gen_toks(self) -> int:
        """New tokens of a request that states no limit."""
        return MAX_NEW_TOKENS

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.base.device

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in the harness's cache of worded requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes into ``config`` of its results file."""
        return dict(self.info)

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Takes the harness's cache of answers.

        Raises:
            UsageError: it holds another model's. The harness's key leaves the model out, so that
                an adapter would be given its base's answers.
        """
        stored = cache_hook.dbdict
        if stored is not None:
            identity = content_id({**self.info, "max_length": self._length})
            if len(stored) and stored.get(_OWNER) != identity:
                raise UsageError(
                    f"--use_cache {stored.filename}: the file holds the answers of another model. "
                    "Name another file for each model, adapter and quantization."
                )
            stored[_OWNER] = identity
        super().set_cache_hook(cache_hook)

    # ------------------------------------------------------------------------------ three calls

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Scores each continuation after its context, both tokenized as one text."""
        pairs = [request.args for request in requests]
        encoded = [self._encode(context, continuation) for context, continuation in pairs]
        self._say_truncated(encoded)
        answers: dict[int, tuple[float, bool]] = {}
        for index, answer in self._ranked(encoded, disable_tqdm):
            answers[index] = answer
            self.cache_hook.add_partial("loglikelihood", pairs[index], answer)
        return [answers[index] for index in range(len(pairs))]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Scores whole texts in the harness's windows, each as long as the model allows."""
        texts = [request.args[0] for request in requests]
        owners: list[int] = []
        windows = []
        for index, text in enumerate(texts):
            for window in get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._length,
                context_len=1,
            ):
                owners.append(index)
                windows.append((None, *make_disjoint_window(window)))
        totals = [0.0] * len(texts)
        answers = self._loglikelihood_tokens(windows, disable_tqdm=disable_tqdm)
        for index, (value, _) in zip(owners, answers, strict=True):
            totals[index] += value
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Continues each context greedily until a stop string, the end token or the limit.

        Raises:
            UsageError: a request to draw at random, or to decode in another way.
        """
        from tqdm import tqdm  # type: ignore[import-untyped]

        asked = [request.args for request in requests]
        encoded = [self._prompt(context, settings) for context, settings in asked]
        self._say_truncated(encoded)
        texts: dict[int, str] = {}
        limits = Limits(max_tokens=EVALUATION_TOKENS, max_requests=self._max_requests)
        with tqdm(total=len(encoded), disable=disable_tqdm, desc="maple") as bar:
            for index, response in self.engine.generate_stream(encoded, limits=limits):
                texts[index] = response.text
                self.cache_hook.add_partial("generate_until", asked[index], response.text)
                bar.update()
        return [texts[index] for index in range(len(asked))]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Words a conversation by the tokenizer's chat template, else by the model family's."""
        import jinja2

        if not getattr(self.tokenizer, "chat_template", None):
            return self._family_chat(chat_history, add_generation_prompt)
        options = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, **options))
        except jinja2.exceptions.TemplateError:
            # Some templates know no system turn; the harness leaves it out too.
            turns = [turn for turn in chat_history if turn["role"] != "system"]
            return str(self.tokenizer.apply_chat_template(turns, **options))

    # -------------------------------------------------------------------------------- tokens

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Token ids of a text; one that already begins with BOS gets no second one."""
        if add_special_tokens is None:
            ids = self.tokenizer(self._without_bos(string))["input_ids"]
        else:
            ids = self.tokenizer(string, add_special_tokens=add_special_tokens)["input_ids"]
        return list(ids)

    def tok_decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens))

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **options: Any
    ) -> list[tuple[float, bool]]:
        encoded = [self._tokens(before, after) for _, before, after in requests]
        found = dict(self._ranked(encoded, bool(options.get("disable_tqdm"))))
        return [found[index] for index in range(len(encoded))]

    def _tokens(self, before: Sequence[int], after: Sequence[int]) -> EncodedRequest:
        ids = (*before, *after)
        excess = max(0, len(ids) - (self._length + 1))
        option = EncodedOption(ids[excess:], max(1, len(before) - excess))
        return EncodedRequest(options=(option,), was_truncated=excess > 0)

    def _encode(self, context: str, continuation: str) -> EncodedRequest:
        request = RankingRequest(
            context=self._without_bos(context), continuations=(continuation,), delimiter=""
        )
        found = self.encoder.ranking(request)
        # The harness asks for an answer without its context in a request of its own.
        return EncodedRequest(options=found.options, was_truncated=found.was_truncated)

    def _prompt(self, context: str, settings: Mapping[str, Any]) -> EncodedRequest:
        stop, limit = greedy_settings(settings)
        request = GenerationRequest(
            context=self._without_bos(context), stop=stop, max_new_tokens=limit
        )
        return self.encoder.generation(request, None)

    def _without_bos(self, text: str) -> str:
        """A chat template's own BOS, left out where the tokenizer puts one anyway."""
        bos = self.tokenizer.bos_token
        if not bos or not text.startswith(bos):
            return text
        adds_it = list(self.tokenizer("")["input_ids"])[:1] == [self.tokenizer.bos_token_id]
        return text.removeprefix(bos) if adds_it else text

    def _family_chat(self, chat_history: list[dict[str, str]], add_generation_prompt: bool) -> str:
        turns = [(turn["role"], turn["content"]) for turn in chat_history]
        if add_generation_prompt:
            return self.base.family.chat(turns)
        return self.base.family.chat(turns[:-1]) + turns[-1][1]

    # ------------------------------------------------------------------------------- batches

    def _ranked(
        self, encoded: Sequence[EncodedRequest], is_quiet: bool
    ) -> Iterator[tuple[int, tuple[float, bool]]]:
        for batch in self._batches(encoded, is_quiet):
            found = self.engine.loglikelihoods([encoded[i] for i in batch])
            for index, response in zip(batch, found, strict=True):
                yield index, (response.loglikelihoods[0], response.is_greedy[0])

    def _batches(self, encoded: Sequence[EncodedRequest], is_quiet: bool) -> Iterator[list[int]]:
        from tqdm import tqdm

        batches = token_budget_batches(
            [request.width for request in encoded],
            [1] * len(encoded),
            max_tokens=EVALUATION_TOKENS,
            max_requests=self._max_requests,
        )
        with tqdm(total=len(encoded), disable=is_quiet, desc="maple") as bar:
            for batch in batches:
                yield batch
                bar.update(len(batch))

    def _say_truncated(self, encoded: Sequence[EncodedRequest]) -> None:
        n = sum(request.was_truncated for request in encoded)
        if n:
            _log.warning(
                "%d of %d requests are longer than the model's %d tokens and lose their left end",
                n, len(encoded), self._length,
            )  # fmt: skip
