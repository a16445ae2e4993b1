"""Fused ranking against plain forwards, option by option; and many models at once against each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from tests.evaluate.test_engine import naive_loglikelihood

from maple.base import LoadedBase
from maple.base.fused import LowRank, Updates
from maple.catalog.contracts import RankingResponse
from maple.evaluate import Engine
from maple.evaluate.encode import EncodedOption, EncodedRequest, Encoder
from maple.evaluate.prepare import TaskRequest, prepare_task
from maple.evaluate.ranking import FusedRanking
from maple.files import Files
from maple.study import PromptSettings

Bases = Callable[..., LoadedBase]

FUSED = ("llama", "mistral", "qwen2", "qwen3")
WINDOW = 200


def wide_base(shared_base: Bases, family: str, quantization: str = "fp32") -> LoadedBase:
    """A base whose sliding window holds all but the longest of the drawn requests."""
    changes = {"sliding_window": WINDOW} if family == "mistral" else {}
    return shared_base(family, quantization, **changes)


def requests(count: int = 12, seed: int = 0) -> list[EncodedRequest]:
    """Questions behind one beginning, two and two on a passage, with options of any length."""
    drawn = random.Random(seed)

    def words(low: int, high: int) -> tuple[int, ...]:
        return tuple(drawn.randrange(3, 640) for _ in range(drawn.randint(low, high)))

    beginning, made, passage = words(20, 20), [], words(0, 0)
    for number in range(count):
        passage = passage if number % 2 else words(10, 60)
        prompt = (*beginning, *passage, *words(1, 12))
        options = ((*prompt, *words(1, 9)) for _ in range(3))
        made.append(EncodedRequest(tuple(EncodedOption(ids, len(prompt)) for ids in options)))
    return made


def check_against_naive(
    base: LoadedBase, asked: Sequence[EncodedRequest], found: Sequence[RankingResponse]
) -> None:
    for request, response in zip(asked, found, strict=True):
        naive = [naive_loglikelihood(base.model, o.ids, o.start) for o in request.options]
        values = [value for value, _ in naive]
        # float32, sums in another order; the oracle's log-softmax is float64.
        assert response.loglikelihoods == pytest.approx(values, rel=1e-6)
        assert list(response.is_greedy) == [greedy for _, greedy in naive]
        best = max(range(len(values)), key=values.__getitem__)
        assert best == max(range(len(values)), key=response.loglikelihoods.__getitem__)


@pytest.mark.parametrize("family", FUSED)
def test_fused_ranking_equals_a_forward_per_option(shared_base: Bases, family: str) -> None:
    base = wide_base(shared_base, family)
    ranking = FusedRanking(base.model, base, [{}])
    assert ranking.works
    asked = requests()
    found = ranking(asked)
    assert found is not None
    check_against_naive(base, asked, found[0])


def test_what_is_shared_is_fed_once(shared_base: Bases) -> None:
    base = shared_base("llama")
    asked = requests()
    engine, fed = Engine(base.model, base), []
    layer = base.model.model.layers[1].mlp
    handle = layer.register_forward_pre_hook(lambda _, x: fed.append(x[0].shape[:-1].numel()))
    try:
        engine.loglikelihoods(asked[:2])
        fed.clear()
        engine.loglikelihoods(asked)
        n_fused = sum(fed)
        fed.clear()
        engine._takes_masks = False
        engine.loglikelihoods(asked)
    finally:
        handle.remove()
    assert n_fused < 0.35 * sum(fed)


@pytest.mark.parametrize("family", ["gemma2", "mistral"])
def test_a_model_that_cannot_be_fused_is_ranked_all_the_same(
    shared_base: Bases, family: str
) -> None:
    # Gemma's norm and capped scores are not known; nor is a window of 8 tokens.
    base = shared_base(family)
    asked = requests(4)
    engine = Engine(base.model, base)
    found = engine.loglikelihoods(asked)
    assert engine._fused is None or engine._fused.window < max(r.width for r in asked)
    check_against_naive(base, asked, found)


@pytest.mark.parametrize("quantization", ["fp32", "bf16", "nf4", "int8"])
def test_an_adapter_is_fused_as_far_as_the_base_is(fresh_base: Bases, quantization: str) -> None:
    from peft import LoraConfig, get_peft_model

    base = fresh_base("llama", quantization)
    found = [FusedRanking(base.model, base, [{}])._fusion.fusion.counts]
    config = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    ranking = Engine(get_peft_model(base.model, config), base)._fused
    assert ranking is not None
    # Factors stay float32; the passes, and so the proof that modules are put to, are the base's.
    assert found == [ranking._fusion.fusion.counts]
    assert set(found[0]) == {"attention", "unit", "norm"}


def test_a_ranking_leaves_the_model_as_it_was(shared_base: Bases) -> None:
    base = shared_base("llama")
    before = {name: set(vars(m)) for name, m in base.model.named_modules()}
    Engine(base.model, base).loglikelihoods(requests(3))
    assert {name: set(vars(m)) for name, m in base.model.named_modules()} == before


@pytest.mark.parametrize(
    ("quantization", "tolerance"), [("fp32", 1e-6), ("bf16", 1e-2)], ids=["fp32", "bf16"]
)
def test_a_score_does_not_depend_on_its_batch(
    shared_base: Bases, quantization: str, tolerance: float
) -> None:
    base = shared_base("llama", quantization)
    asked = requests()
    engine = Engine(base.model, base)
    together = engine.loglikelihoods(asked)
    for request, expected in zip(asked, together, strict=True):
        (alone,) = engine.loglikelihoods([request])
        assert alone.loglikelihoods == pytest.approx(expected.loglikelihoods, rel=tolerance)
    # The same batch is the same to the bit, whatever was asked before.
    assert engine.loglikelihoods(asked) == together


# ----------------------------------------------------------------------------- many at once


def drawn_updates(base: LoadedBase, rank: int) -> Updates:
    """An adapter's factors on every linear layer of every block but some."""
    generator = torch.Generator().manual_seed(rank)

    def factor(*shape: int) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.randn(*shape, generator=generator) * 0.2)

    return {
        module: (LowRank(factor(rank, module.in_features), factor(module.out_features, rank), 0.5),)
        for name, module in base.model.named_modules()
        if name.endswith("_proj") and not (rank == 4 and "layers.0.self_attn.q" in name)
    }


@pytest.mark.parametrize("quantization", ["fp32", "bf16", "nf4"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_no_score_depends_on_the_neighbours_in_a_pass(
    shared_base: Bases, family: str, quantization: str
) -> None:
    base = shared_base(family, quantization)
    asked = requests(6)
    adapters = [drawn_updates(base, rank) for rank in (2, 4, 16)]
    models: list[Updates] = [{}, *adapters]
    alone = [_ranked(base, [m], asked)[0] for m in models]
    assert len({found[0].loglikelihoods for found in alone}) == 4
    # To the bit: products of 16 rows and more give a row the same whatever rows are beside it.
    assert _ranked(base, models, asked) == alone
    assert _ranked(base, models[::-1], asked) == alone[::-1]
    assert _ranked(base, adapters[1:], asked) == alone[2:]


def test_the_first_layers_products_are_made_once_for_all(
    shared_base: Bases,
) -> None:
    base = shared_base("llama")
    asked = requests(3)
    ranking = FusedRanking(base.model, base, [{}, drawn_updates(base, 2), drawn_updates(base, 8)])
    rows: dict[str, list[int]] = {}
    plain = torch.nn.functional.linear

    def counted(x: torch.Tensor, weight: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        names = [n for n, p in base.model.named_parameters() if p is weight]
        rows.setdefault(names[0] if names else "", []).append(x.shape[:-1].numel())
        return plain(x, weight, *rest)

    torch.nn.functional.linear = counted
    try:
        ranking(asked)
    finally:
        torch.nn.functional.linear = plain
    (first,), (last,) = (rows[f"model.layers.{n}.self_attn.k_proj.weight"] for n in (0, 1))
    assert last == 3 * first


def _ranked(
    base: LoadedBase, models: Sequence[Updates], asked: Sequence[EncodedRequest]
) -> list[list[RankingResponse]]:
    found = FusedRanking(base.model, base, models)(asked)
    assert found is not None
    return found


# ----------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("xnli", {}),
        ("xnli", {"shots": 2}),
        ("xcopa", {"form": "lm-eval"}),
        ("belebele", {"choices": "cloze"}),
    ],
    ids=["xnli", "examples", "xcopa", "belebele"],
)
def test_real_samples_score_as_a_forward_per_option(
    shared_data: object, shared_base: Bases, task: str, settings: dict[str, object]
) -> None:
    base = shared_base("llama", max_position_embeddings=4096)
    prompt = PromptSettings(template="plain", **settings)
    encoder = Encoder(base.tokenizer, base.family, prompt, max_length=2048)
    language = "deu_Latn" if task == "belebele" else "swh_Latn"
    wanted = TaskRequest(task=task, language=language, limit=4)
    files = Files(directory=shared_data)  # type: ignore[arg-type]
    prepared = prepare_task(wanted, files, encoder, max_tokens=8192)
    engine = Engine(base.model, base)
    for batch in prepared.batches:
        asked = [prepared.encoded[i] for i in batch]
        check_against_naive(base, asked, engine.loglikelihoods(asked))
