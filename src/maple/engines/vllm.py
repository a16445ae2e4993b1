"""vLLM, offline, as an engine: one loaded base, adapters named per request.

Written against the documented interface of vLLM 0.10 and later. No GPU was at hand when it was
written: what is tested is tested on a stand-in, and the audit decides on your machine.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from maple.catalog.contracts import GenerationResponse, RankingResponse
from maple.engines.seeds import seed_of
from maple.errors import EngineError, UsageError
from maple.evaluate.encode import EncodedOption, EncodedRequest

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that ``max_lora_rank`` takes."""
_MEMORY_SHARE = 0.5
"""Of the GPU's memory: the reference engine's base, which it is held against, stays there too."""
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


class VllmBase:
    """A base loaded by vLLM, on which adapters are put by request."""

    def __init__(
        self, source: str, *, quantization: str, max_length: int, max_rank: int, seed: int = 0
    ) -> None:
        """Loads the base.

        Args:
            source: directory of the model, as fetched.
            quantization: catalog name; 16 and 32 bits only.
            max_length: tokens of prompt and answer at most.
            max_rank: the largest rank of any adapter that will come; 0: none will.
            seed: of vLLM's own generator.

        Raises:
            EngineError: bits that vLLM's adapters do not go with, or a rank above its largest.
            UsageError: vLLM is not installed.
        """
        if quantization not in _DTYPES:
            raise EngineError(
                f"the engine vllm serves bases in {', '.join(_DTYPES)}, not in {quantization}: its "
                "quantized layers are others than those the adapters were trained on. Score with "
                "the engine 'reference'."
            )
        try:
            from vllm import LLM
        except ImportError as error:
            raise UsageError(
                "the engine vllm is not installed. Run: pip install 'maple-peft[vllm]' on a "
                "machine with a GPU, or score with the engine 'reference'."
            ) from error
        self.limit = max_length
        self._numbers: dict[Path, int] = {}
        adapters = {"enable_lora": True, "max_lora_rank": _room(max_rank)} if max_rank else {}
        self.llm: Any = LLM(
            model=source,
            tokenizer=source,
            dtype=_DTYPES[quantization],
            max_model_len=max_length,
            gpu_memory_utilization=_MEMORY_SHARE,
            seed=seed,
            **adapters,
        )

    def engine(self, adapter: Path | None, end_ids: Collection[int]) -> VllmEngine:
        """The base, or the base with an adapter on it.

        Args:
            adapter: a PEFT directory; None: the base alone.
            end_ids: tokens that end an answer.

        Raises:
            EngineError: an adapter that vLLM does not apply as PEFT does.
        """
        if adapter is None:
            return VllmEngine(self, None, end_ids)
        if (reason := why_not(adapter)) is not None:
            raise EngineError(
                f"the engine vllm cannot serve {adapter}: {reason}. Score it with the engine "
                "'reference'."
            )
        from vllm.lora.request import LoRARequest

        # vLLM keeps what it has loaded by this number, which must be the adapter's own.
        number = self._numbers.setdefault(adapter, len(self._numbers) + 1)
        return VllmEngine(self, LoRARequest(f"adapter-{number}", number, str(adapter)), end_ids)


class VllmEngine:
    """One model of a loaded base."""

    def __init__(self, base: VllmBase, lora: Any, end_ids: Collection[int]) -> None:
        self._base = base
        self._lora = lora
        self._end_ids = sorted(end_ids)

    def loglikelihoods(self, requests: Sequence[EncodedRequest]) -> list[RankingResponse]:
        """Scores the options of each request, all of them in one call.

        Raises:
            EngineError: vLLM returns no log-probability of a token that is to be scored.
        """
        from vllm import SamplingParams

        options = [self._fit(option) for request in requests for option in request.options]
        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False)
        outputs = iter(self._run([o.ids for o in options], params))
        found = iter([_scored(option, next(outputs)) for option in options])
        return [_response([next(found) for _ in request.options]) for request in requests]

    def generate(self, requests: Sequence[EncodedRequest]) -> list[GenerationResponse]:
        """Continues each prompt, all of them in one call."""
        outputs = self._run([r.prompt for r in requests], [self._params(r) for r in requests])
        found = []
        for request, output in zip(requests, outputs, strict=True):
            answer = output.outputs[0]
            cuts = [p for s in request.stop if s and (p := answer.text.find(s)) >= 0]
            ended = bool(cuts) or answer.finish_reason != "length"
            kept = [t for t in answer.token_ids if t not in self._end_ids]
            found.append(
                GenerationResponse(
                    text=answer.text[: min(cuts)] if cuts else answer.text,
                    finish="stop" if ended else "length",
                    n_tokens=len(kept),
                )
            )
        return found

    def _run(self, prompts: Sequence[Sequence[int]], params: Any) -> list[Any]:
        inputs = [{"prompt_token_ids": list(ids)} for ids in prompts]
        run = self._base.llm.generate(inputs, params, use_tqdm=False, lora_request=self._lora)
        return list(run)

    def _fit(self, option: EncodedOption) -> EncodedOption:
        """An option with room for the token that vLLM generates behind every prompt.

        The reference engine takes one token more than the model's length, since the last one is
        predicted and never fed: of such a prompt, cut already, a token or two more is cut here.
        """
        excess = max(0, len(option.ids) - (self._base.limit - 1))
        return EncodedOption(option.ids[excess:], max(1, option.start - excess))

    def _params(self, request: EncodedRequest) -> Any:
        from vllm import SamplingParams

        drawn: dict[str, Any] = {"temperature": 0.0}
        if (sampling := request.sampling) is not None:
            drawn = {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k or -1,
                "seed": seed_of(request),
            }
        return SamplingParams(
            max_tokens=request.max_new_tokens,
            stop=[s for s in request.stop if s],
            stop_token_ids=self._end_ids,
            skip_special_tokens=True,
            **drawn,
        )


def why_not(adapter: Path) -> str | None:
    """Why vLLM would not apply an adapter as PEFT does; None where it does."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if str(config.get("peft_type")).upper() != "LORA":
        return f"it is of the type {config.get('peft_type')}, and vLLM serves LoRA"
    for key in ("use_dora", "modules_to_save", "alora_invocation_tokens", "layer_replication"):
        if config.get(key):
            return f"its {key} is set, which vLLM leaves out or refuses"
    if config.get("bias", "none") != "none":
        return "it trains biases"
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        return "its ranks or alphas differ by layer"
    return None


def _room(rank: int) -> int:
    for room in _RANKS:
        if rank <= room:
            return room
    raise EngineError(
        f"the engine vllm takes ranks up to {_RANKS[-1]}, not {rank}. Score such adapters with the "
        "engine 'reference'."
    )


def _scored(option: EncodedOption, output: Any) -> tuple[float, bool, int]:
    """Sum of an option's log-probabilities, whether it is greedy, and its tokens."""
    places: Sequence[Mapping[int, Any] | None] = output.prompt_logprobs or ()
    total, is_greedy = 0.0, True
    if len(places) != len(option.ids):
        raise EngineError(
            f"vLLM returns {len(places)} log-probabilities for a prompt of {len(option.ids)} "
            "tokens. Score with the engine 'reference'."
        )
    for token, found in zip(option.ids[option.start :], places[option.start :], strict=True):
        if not found or token not in found:
            raise EngineError(
                "vLLM returns no log-probability of a token that is to be scored. Score with the "
                "engine 'reference'."
            )
        values = {key: float(getattr(entry, "logprob", entry)) for key, entry in found.items()}
        total += values[token]
        is_greedy = is_greedy and values[token] >= max(values.values())
    return total, is_greedy, len(option.ids) - option.start


def _response(scored: Sequence[tuple[float, bool, int]]) -> RankingResponse:
    sums, flags, counts = zip(*scored, strict=True)
    return RankingResponse(loglikelihoods=sums, is_greedy=flags, n_tokens=counts)
