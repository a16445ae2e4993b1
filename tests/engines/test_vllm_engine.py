"""vLLM behind the two calls, on a stand-in that records what it is asked: there is no GPU here."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tests.engines.test_openai_engine import PROMPTS, RANKINGS, encoded
from tests.run.tiny import stored_rows

from maple.base import LoadedBase
from maple.cli.app import data_files
from maple.engines import compare
from maple.engines.vllm import VllmBase, why_not
from maple.errors import EngineError, UsageError
from maple.evaluate import Engine
from maple.evaluate.encode import EncodedOption, EncodedRequest
from maple.plan import Evaluation
from maple.run import Progress, evaluate_models
from maple.run.evaluate import EvaluationRequest
from maple.study import DecodingSettings, EngineSettings


class FakeLLM:
    """``vllm.LLM`` on a loaded base: the documented arguments in, its outputs' fields out."""

    base: LoadedBase
    made: list[FakeLLM]

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.calls: list[tuple[list[Any], Any, Any]] = []
        FakeLLM.made.append(self)

    def generate(
        self, prompts: list[Any], sampling_params: Any, *, use_tqdm: bool, lora_request: Any
    ) -> list[Any]:
        self.calls.append((prompts, sampling_params, lora_request))
        params = sampling_params if isinstance(sampling_params, list) else None
        return [
            self._answer(p["prompt_token_ids"], params[n] if params else sampling_params)
            for n, p in enumerate(prompts)
        ]

    def _answer(self, ids: list[int], params: Any) -> Any:
        import torch

        assert len(ids) + params.max_tokens <= self.arguments["max_model_len"]
        with torch.inference_mode():
            scores = self.base.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        places: list[Any] = [None]
        for place, token in enumerate(ids[1:]):
            best = int(scores[place].argmax())
            places.append(
                {t: SimpleNamespace(logprob=float(scores[place, t])) for t in (best, token)}
            )
        written = self._written(ids, params) if getattr(params, "stop", None) is not None else None
        return SimpleNamespace(
            prompt_logprobs=places if getattr(params, "prompt_logprobs", None) else None,
            outputs=[written],
        )

    def _written(self, ids: list[int], params: Any) -> Any:
        (answer,) = Engine(self.base.model, self.base).generate(
            [
                EncodedRequest(
                    prompt=tuple(ids), stop=tuple(params.stop), max_new_tokens=params.max_tokens
                )
            ]
        )
        return SimpleNamespace(
            text=answer.text, token_ids=[9] * answer.n_tokens, finish_reason=answer.finish
        )


@pytest.fixture
def vllm(base: LoadedBase, monkeypatch: pytest.MonkeyPatch) -> type[FakeLLM]:
    FakeLLM.base, FakeLLM.made = base, []
    module = types.ModuleType("vllm")
    lora = types.ModuleType("vllm.lora")
    request = types.ModuleType("vllm.lora.request")
    vars(module).update(LLM=FakeLLM, SamplingParams=lambda **given: SimpleNamespace(**given))
    vars(request).update(
        LoRARequest=lambda lora_name, lora_int_id, lora_path: SimpleNamespace(
            lora_name=lora_name, lora_int_id=lora_int_id, lora_path=lora_path
        )
    )
    for name, content in (("vllm", module), ("vllm.lora", lora), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, content)
    return FakeLLM


def load(**changes: Any) -> VllmBase:
    arguments = {"quantization": "fp32", "max_length": 512, "max_rank": 0}
    return VllmBase("somewhere", **(arguments | changes))


def adapter(folder: Path, name: str = "a", **changes: Any) -> Path:
    content = {"peft_type": "LORA", "r": 8, "bias": "none", "use_dora": False} | changes
    (folder / name).mkdir()
    (folder / name / "adapter_config.json").write_text(json.dumps(content))
    return folder / name


def test_rankings_and_texts_pass_the_audit(base, vllm) -> None:
    engine, reference = load().engine(None, {1}), Engine(base.model, base)
    rankings, prompts = encoded(base, RANKINGS), encoded(base, PROMPTS)
    found = compare(engine, rankings, reference, rankings)
    assert found.largest_difference is not None
    assert found.largest_difference < 1e-4
    assert not found.problems()
    assert compare(engine, prompts, reference, prompts).equal_texts == 1.0
    mine, other = engine.loglikelihoods(rankings), reference.loglikelihoods(rankings)
    assert [r.is_greedy for r in mine] == [r.is_greedy for r in other]
    assert [r.n_tokens for r in mine] == [r.n_tokens for r in other]


def test_all_requests_go_to_vllm_in_one_call_with_the_documented_parameters(base, vllm) -> None:
    engine = load().engine(None, {1, 7})
    engine.loglikelihoods(encoded(base, RANKINGS))
    engine.generate(encoded(base, PROMPTS))
    (loaded,) = vllm.made
    (ranked, params, _), (written, each, _) = loaded.calls
    assert len(ranked) == sum(len(r.continuations) for r in RANKINGS)
    assert vars(params) == {
        "temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 1, "detokenize": False,
    }  # fmt: skip
    assert len(written) == len(each) == 3
    assert (each[0].temperature, each[0].max_tokens, each[0].stop) == (0.0, 9, ["\n"])
    assert each[0].stop_token_ids == [1, 7]
    assert loaded.arguments["dtype"] == "float32"
    assert "enable_lora" not in loaded.arguments


def test_drawn_texts_carry_their_settings(base, vllm) -> None:
    settings = DecodingSettings(temperature=0.5, top_p=0.8)
    request = EncodedRequest(prompt=(0, 5), max_new_tokens=2, sampling=settings, draw_key="x")
    load().engine(None, {1}).generate([request])
    ((_, (params,), _),) = vllm.made[0].calls
    assert (params.temperature, params.top_p, params.top_k) == (0.5, 0.8, -1)
    assert params.seed >= 0


def test_each_adapter_has_a_number_of_its_own_on_one_loaded_base(base, vllm, tmp_path) -> None:
    loaded = load(max_rank=20)
    one, two = adapter(tmp_path, "one"), adapter(tmp_path, "two")
    requests = encoded(base, RANKINGS[:1])
    for directory in (one, two, one, None):
        loaded.engine(directory, {1}).loglikelihoods(requests)
    (fake,) = vllm.made
    assert fake.arguments["enable_lora"] is True
    assert fake.arguments["max_lora_rank"] == 32
    named = [(lora.lora_int_id, lora.lora_path) if lora else None for _, _, lora in fake.calls]
    assert named == [(1, str(one)), (2, str(two)), (1, str(one)), None]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "type IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "biases"),
        ({"rank_pattern": {"q_proj": 4}}, "differ by layer"),
    ],
)
def test_an_adapter_that_vllm_would_apply_otherwise_is_refused(
    changes, said, base, vllm, tmp_path
) -> None:
    directory = adapter(tmp_path, **changes)
    assert said in str(why_not(directory))
    with pytest.raises(EngineError, match=f"{said}.*'reference'"):
        load(max_rank=8).engine(directory, {1})
    assert why_not(adapter(tmp_path, "plain")) is None


def test_a_run_by_vllm_stores_the_rows_of_the_reference(
    vllm, data, model_directory, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("maple.run.optional.version", lambda name: "0.0.fake")
    rows = []
    for name in ("vllm", "reference"):
        settings = {"name": name} | ({"audit_samples": 3} if name == "vllm" else {})
        request = EvaluationRequest(
            model=str(model_directory("llama")),
            quantization="fp32",
            evaluations=tuple(Evaluation(task=t, language="swh_Latn") for t in ("xcopa", "xquad")),
            limit=4,
            engine=EngineSettings(**settings),
        )
        out = tmp_path / name
        progress = Progress(Console(file=io.StringIO()))
        files = data_files(str(data), out)
        assert not evaluate_models(request, files, out, progress=progress).failures
        rows.append(stored_rows(out))
    assert [r["text"] for r in rows[0]] == [r["text"] for r in rows[1]]
    for mine, other in zip(*rows, strict=True):
        assert mine["loglikelihoods"] == pytest.approx(other["loglikelihoods"], rel=1e-4)
    specs = [json.loads(p.read_text()) for p in (tmp_path / "vllm").glob("evals/*/spec.json")]
    assert [s["audit"]["is_parity"] for s in specs] == [True, True]
    assert {s["engine"] for s in specs} == {"vllm"}
    assert specs[0]["audit"]["engine"] == {
        "name": "vllm", "version": "0.0.fake", "quantization": "fp32",
    }  # fmt: skip
    assert len(vllm.made) == 1, "one loaded base for all tasks"


def test_bits_and_ranks_that_it_does_not_serve_are_refused(vllm) -> None:
    with pytest.raises(EngineError, match="not in nf4"):
        load(quantization="nf4")
    with pytest.raises(EngineError, match="up to 512, not 513"):
        load(max_rank=513)


def test_a_prompt_as_long_as_the_model_leaves_room_for_the_token_it_generates(base, vllm) -> None:
    engine = load(max_length=16).engine(None, {1})
    long = EncodedOption(tuple(range(3, 20)), 12)  # 17 tokens: one more than the model is long
    (found,) = engine.loglikelihoods([EncodedRequest(options=(long,))])
    assert found.n_tokens == (5,)
    assert len(vllm.made[0].calls[0][0][0]["prompt_token_ids"]) == 15


def test_missing_log_probabilities_are_refused(base, vllm, monkeypatch) -> None:
    honest = FakeLLM._answer

    def without(self: FakeLLM, ids: list[int], params: Any) -> Any:
        answer = honest(self, ids, params)
        answer.prompt_logprobs[-1] = None
        return answer

    monkeypatch.setattr(FakeLLM, "_answer", without)
    with pytest.raises(EngineError, match="no log-probability"):
        load().engine(None, {1}).loglikelihoods(encoded(base, RANKINGS[:1]))


def test_without_vllm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UsageError, match=r"maple-peft\[vllm\]"):
        load()
