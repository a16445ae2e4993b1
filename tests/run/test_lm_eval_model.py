"""``lm_eval --model maple`` against the harness's own ``--model hf`` on the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_models import TEXTS

from maple.errors import DeadAdapterError, MismatchError, UsageError
from maple.run.lm_eval_arguments import greedy_settings
from maple.run.lm_eval_model import MapleLM

SOURCE = Path(__file__).parents[2] / "src"
TOLERANCE = 1e-3
"""Nats, float32: two padded batches of different shapes."""
PAIRS = [
    *((question, " " + answer) for question, answer, _ in TEXTS.values()),
    *((question + " ", answer) for question, answer, _ in TEXTS.values()),
    ("", TEXTS["swh_Latn"][1]),
    ("", "内罗毕"),
    ("<s>Jina?\n", "Nairobi"),
    ("neno " * 700, " mwisho"),
]
"""Contexts with and without a space at their end, empty, with a BOS of their own, too long."""


@pytest.fixture(scope="module")
def directory(model_directory: Callable[..., Path]) -> Path:
    return model_directory("llama")


@pytest.fixture(scope="module")
def ours(directory: Path) -> MapleLM:
    return MapleLM(str(directory), dtype="float32", batch_size="auto", device="cuda:0")


@pytest.fixture(scope="module")
def theirs(directory: Path) -> Any:
    return their_model(directory)


def their_model(directory: Path, **options: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(directory), dtype="float32", device="cpu", batch_size=3, **options)


def requests(kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, a, n, ("t", n, 1)) for n, a in enumerate(arguments)]


def assert_close(ours: Sequence[tuple[float, bool]], theirs: Sequence[tuple[float, bool]]) -> None:
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [v for v, _ in ours] == pytest.approx([v for v, _ in theirs], abs=TOLERANCE)


# ---------------------------------------------------------------------------------- three calls


def test_likelihoods_equal_the_hf_model_s(ours: MapleLM, theirs: Any) -> None:
    asked = requests("loglikelihood", PAIRS)
    found = ours.loglikelihood(asked, disable_tqdm=True)
    assert_close(found, theirs.loglikelihood(asked, disable_tqdm=True))
    assert len({round(value, 3) for value, _ in found}) > len(PAIRS) // 2


@pytest.mark.parametrize("length", [None, 24])
def test_rolling_likelihoods_equal_the_hf_model_s(directory: Path, length: int | None) -> None:
    texts = [(" ".join(parts),) for parts in TEXTS.values()] + [("",), ("neno " * 60,)]
    asked = requests("loglikelihood_rolling", texts)
    found = MapleLM(str(directory), dtype="float32", max_length=length).loglikelihood_rolling(
        asked, disable_tqdm=True
    )
    wanted = their_model(directory, max_length=length).loglikelihood_rolling(
        asked, disable_tqdm=True
    )
    assert found == pytest.approx(wanted, abs=TOLERANCE * 10)
    assert found[0] < -10


def test_generated_texts_equal_the_hf_model_s(ours: MapleLM, theirs: Any) -> None:
    settings: list[dict[str, Any]] = [
        {"until": ["\n"], "max_gen_toks": 12, "do_sample": False},
        {"until": "e", "max_new_tokens": 16, "temperature": 0.0},
        {"until": [], "max_gen_toks": 5},
    ]
    contexts = [question for question, _, _ in TEXTS.values()]
    asked = requests("generate_until", [(c, dict(s)) for s in settings for c in contexts])
    found = ours.generate_until(asked, disable_tqdm=True)
    assert found == theirs.generate_until(asked, disable_tqdm=True)
    assert len(set(found)) > len(contexts)


def test_a_batch_size_changes_no_answer(directory: Path, ours: MapleLM) -> None:
    one = MapleLM(str(directory), dtype="float32", batch_size="1")
    asked = requests("loglikelihood", PAIRS[:6])
    found = one.loglikelihood(asked, disable_tqdm=True)
    assert_close(found, ours.loglikelihood(asked, disable_tqdm=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_sample": True, "temperature": 0.7}, "drawn at random.*do_sample=False"),
        ({"temperature": 0.7}, "drawn at random"),
        ({"until": ["\n"], "num_beams": 4}, "num_beams=4"),
        ({"until": ["\n"], "repetition_penalty": 1.2}, "repetition_penalty=1.2.*--model hf"),
    ],
)
def test_what_is_not_greedy_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        greedy_settings(settings)


def test_greedy_settings_are_the_harness_s() -> None:
    from lm_eval.models.utils import normalize_gen_kwargs

    for settings in (
        {"until": "\n"},
        {"until": ["a", "b"], "max_new_tokens": 7, "num_beams": 1},
        {"max_gen_toks": 3, "max_tokens": 9, "do_sample": False, "temperature": 1.0},
    ):
        wanted = normalize_gen_kwargs(dict(settings))
        stop, limit = greedy_settings(settings)
        assert (list(stop), limit) == (wanted["until"], wanted["max_gen_toks"])


# ---------------------------------------------------------------------------------- whole tasks


def test_a_task_is_run_by_name(directory: Path, theirs: Any, tmp_path: Path) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    import maple_lm_eval

    maple_lm_eval.register()
    (tmp_path / "test.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for texts in TEXTS.values() for text in texts)
    )
    data = json.dumps({"data_files": {"test": str(tmp_path / "test.jsonl")}})
    (tmp_path / "pages.yaml").write_text(
        f"task: pages\ndataset_path: json\ndataset_kwargs: {data}\ntest_split: test\n"
        'output_type: loglikelihood_rolling\ndoc_to_text: ""\ndoc_to_target: "{{text}}"\n'
    )
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    asked: dict[str, Any] = {"tasks": ["pages"], "task_manager": manager, "bootstrap_iters": 0}
    arguments = f"pretrained={directory},quantization=fp32"
    found = lm_eval.simple_evaluate(model="maple", model_args=arguments, batch_size="auto", **asked)
    wanted = lm_eval.simple_evaluate(model=theirs, **asked)
    metrics = ("word_perplexity,none", "byte_perplexity,none", "bits_per_byte,none")
    for metric in metrics:
        value = wanted["results"]["pages"][metric]
        assert found["results"]["pages"][metric] == pytest.approx(value, rel=1e-4)
    assert found["config"]["model"] == "maple"
    assert found["config"]["quantization"] == "fp32"


# ------------------------------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def adapter(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT directory with weights that move the logits."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    path = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(directory), config)
    model.save_pretrained(str(path))
    return path


def test_an_adapter_scores_as_under_the_hf_model(
    directory: Path, adapter: Path, ours: MapleLM
) -> None:
    from lm_eval.models.huggingface import HFLM
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    asked = requests("loglikelihood", PAIRS[:8])
    found = MapleLM(str(directory), peft=str(adapter), dtype="float32").loglikelihood(
        asked, disable_tqdm=True
    )
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(directory, dtype="float32"), str(adapter)
    )
    theirs = HFLM(pretrained=adapted.eval(), tokenizer=ours.tokenizer, batch_size=3)
    assert_close(found, theirs.loglikelihood(asked, disable_tqdm=True))
    # Named, the harness first cuts off the rows of the vocabulary that its tokenizer has no token
    # for, so that every probability is a little higher than the model's own.
    assert len(ours.tokenizer) < ours.base.model.config.vocab_size
    named = their_model(directory, peft=str(adapter)).loglikelihood(asked, disable_tqdm=True)
    assert all(a < b for (a, _), (b, _) in zip(found, named, strict=True))
    without = ours.loglikelihood(asked, disable_tqdm=True)
    assert abs(found[0][0] - without[0][0]) > 10 * TOLERANCE


def test_an_adapter_that_does_nothing_is_refused(directory: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=2, target_modules=["q_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(directory), config)
    model.save_pretrained(str(tmp_path))
    with pytest.raises(DeadAdapterError, match="does not change the base"):
        MapleLM(str(directory), peft=str(tmp_path))


def test_bits_other_than_the_adapter_s_are_refused(
    directory: Path, adapter: Path, tmp_path: Path
) -> None:
    for path in adapter.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    card = {"base": str(directory), "quantization": "nf4", "method": {"name": "lora"}}
    (tmp_path / "maple.json").write_text(json.dumps(card))
    with pytest.raises(MismatchError, match="trained on nf4, not on fp32"):
        MapleLM(str(directory), peft=str(tmp_path), quantization="fp32")
    allowed = MapleLM(str(directory), peft=str(tmp_path), quantization="fp32", allow_mismatch=True)
    assert allowed.get_model_info()["mismatch"] == "trained on nf4, not on fp32"
    # Unsaid, the bits are those it was trained on.
    assert MapleLM(str(directory), peft=str(tmp_path)).get_model_info()["quantization"] == "nf4"


# --------------------------------------------------------------------------------------- chats


def test_a_chat_template_is_worded_as_by_the_hf_model(ours: MapleLM, theirs: Any) -> None:
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system') }}{% endif %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "Jina?"}]
    prefixed = [*turns, {"role": "assistant", "content": "Jina langu"}]
    for model in (ours, theirs):
        model.tokenizer.chat_template = template
    try:
        assert ours.chat_template(True) == template
        for history, asks in ((turns, True), (prefixed, False)):
            worded = ours.apply_chat_template(history, add_generation_prompt=asks)
            assert worded == theirs.apply_chat_template(history, add_generation_prompt=asks)
        worded = ours.apply_chat_template(turns)
        assert worded == "<s>[user] Jina?\n[assistant] "
        # The template's BOS and the tokenizer's are one.
        assert ours.tok_encode(worded) == theirs.tok_encode(worded)
        assert ours.tok_encode(worded)[:2].count(ours.prefix_token_id) == 1
        asked = requests("loglikelihood", [(worded, "Nairobi")])
        assert_close(ours.loglikelihood(asked, True), theirs.loglikelihood(asked, True))
    finally:
        for model in (ours, theirs):
            model.tokenizer.chat_template = None


def test_without_a_template_the_family_words_the_chat(ours: MapleLM) -> None:
    turns = [{"role": "user", "content": "Jina?"}]
    worded = ours.apply_chat_template(turns)
    assert worded == ours.base.family.chat([("user", "Jina?")])
    answer = [*turns, {"role": "assistant", "content": "Jina"}]
    assert ours.apply_chat_template(answer, add_generation_prompt=False) == worded + "Jina"


# ------------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantisation": "nf4"}, "no argument 'quantisation'. Did you mean 'quantization'"),
        ({"batch_size": "many"}, "batch_size=many"),
        ({"dtype": "float16"}, "dtype = 'float16'"),
        ({"dtype": "float32", "quantization": "nf4"}, "two precisions"),
        ({"quantization": "nf5"}, "nf5.*nf4"),
    ],
)
def test_a_wrong_argument_says_what_is_wrong(
    directory: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        MapleLM(str(directory), **arguments)


def test_several_processes_are_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="in one process"):
        MapleLM(str(directory))


def test_a_cache_of_answers_belongs_to_one_model(
    directory: Path, adapter: Path, tmp_path: Path
) -> None:
    from lm_eval.api.model import CachingLM

    file = str(tmp_path / "answers.db")
    asked = requests("loglikelihood", PAIRS[:2])
    base = MapleLM(str(directory), dtype="float32")
    first = CachingLM(base, file)
    found = first.loglikelihood(asked)
    first.dbdict.close()
    again = CachingLM(base, file)
    assert again.loglikelihood(asked) == found
    again.dbdict.close()
    adapted = MapleLM(str(directory), dtype="float32", peft=str(adapter))
    with pytest.raises(UsageError, match=r"answers\.db: the file holds the answers of another"):
        CachingLM(adapted, file)


# ---------------------------------------------------------------------------------- registration


def run_python(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_the_name_is_known_once_the_harness_loads_its_models() -> None:
    assert (SOURCE / "maple_lm_eval.pth").read_text() == "import maple_lm_eval\n"
    found = run_python(
        f"import site, sys; site.addsitedir({str(SOURCE)!r})\n"
        "assert not {'maple', 'lm_eval', 'torch'} & set(sys.modules)\n"
        "import lm_eval.models\n"
        "from lm_eval.api.registry import model_registry\n"
        "assert 'maple' in model_registry and 'hf' in model_registry\n"
        "assert not {'maple', 'torch'} & set(sys.modules)\n"
        "print(dict(model_registry.items())['maple'])\n"
    )
    module, _, name = found.strip().partition(":")
    assert (module, name) == (MapleLM.__module__, MapleLM.__name__)


def test_the_hook_does_nothing_where_the_harness_is_absent() -> None:
    found = run_python(
        f"import sys; sys.path.append({str(SOURCE)!r}); import maple_lm_eval\n"
        "try:\n    import lm_eval.models\nexcept ModuleNotFoundError as error:\n"
        "    print(error.name, sorted(m for m in sys.modules if m.startswith('maple')))\n",
        "-I",
        "-S",
    )
    assert found.strip() == "lm_eval ['maple_lm_eval']"


def test_the_package_installs_the_hook() -> None:
    from importlib.metadata import files

    names = {path.name for path in files("maple-peft") or ()}
    assert {"maple_lm_eval.pth", "maple_lm_eval.py"} <= names
