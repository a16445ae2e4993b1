"""A method, a quantizer, a data set, a task, a model family: one file each, and nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset
import pytest
from rich.console import Console

from maple.catalog import (
    entry_names,
    family_for,
    load_method,
    load_quantizer,
    load_task,
)
from maple.errors import CatalogError, StudyError
from maple.files import Files
from maple.plan import make_plan
from maple.run import Progress, run_study
from maple.study.file import load_study

FILES = {
    "methods/toy_scales.py": '''
        """toy-scales: a trained factor for each of a layer's outputs (IA3)."""

        from typing import Annotated

        from pydantic import Field

        from maple.catalog.contracts import Method


        class ToyScales(Method):
            """Factors on keys and values."""

            scaled: Annotated[int, Field(gt=0, le=2)] = 2

            def trainable_parameters(self, shape, family):
                widths = family.linear_shapes(shape)
                return shape.layers * sum(widths[name][1] for name in self.names())

            def names(self):
                return ["k_proj", "v_proj"][: self.scaled]

            def attach(self, model, context):
                from peft import IA3Config, get_peft_model

                config = IA3Config(
                    target_modules=self.names(), feedforward_modules=[], task_type="CAUSAL_LM"
                )
                return get_peft_model(model, config)
    ''',
    "quantization/toy_steps.py": '''
        """toy-steps: float32 weights rounded to steps of 1/64."""

        from maple.catalog.contracts import Quantizer


        class ToySteps(Quantizer):
            """Sixty-four steps to one."""

            bits = 32
            compute_dtype = "float32"

            def load_kwargs(self, compute_dtype):
                return {"dtype": compute_dtype}

            def prepare(self, model):
                for parameter in model.parameters():
                    parameter.data = (parameter.data * 64).round() / 64
                return model
    ''',
    "datasets/toy_sums.py": '''
        """toy-sums: sums, in any language's digits."""

        from maple.catalog.contracts import Conversation, Dataset, DatasetInfo


        class ToySums(Dataset):
            """Sums up to a number."""

            up_to: int = 6
            info = DatasetInfo(licence="none", source="made up", languages={"swh_Latn": "sw"})

            def paths(self, files, language):
                return files.find(local=["toy/sums.txt"])

            def conversations(self, files, language):
                for n in range(self.up_to):
                    yield Conversation(
                        id=str(n), language=language, instruction=f"{n} + 1?", response=str(n + 1)
                    )
    ''',
    "tasks/toy_larger.py": '''
        """toy-larger: which of two numbers is larger."""

        from maple.catalog.contracts import RankingRequest, Sample, Task, TaskInfo
        from maple.catalog.tasks import ranking_score


        class ToyLarger(Task):
            """Two numbers, two options."""

            info = TaskInfo(
                version=1,
                licence="none",
                citation="made up",
                chance_level=0.5,
                languages={"swh_Latn": "sw"},
                headline="accuracy",
                split="test",
                samples={"test": 5},
            )

            def paths(self, files, language, split):
                return files.find(local=["toy/sums.txt"])

            def samples(self, files, language, split):
                for n in range(5):
                    yield Sample(id=str(n), fields={"n": str(n)}, gold=("1",))

            def request(self, sample, language, prompt):
                n = sample.fields["n"]
                return RankingRequest(
                    context=f"{n} au {n}1?", continuations=(n, f"{n}1"), delimiter=" "
                )

            def score(self, sample, request, response):
                return ranking_score(sample, request, response)
    ''',
    "models/toy_family.py": '''
        """toy-family: an architecture that nobody has built."""

        from maple.catalog.contracts import ModelFamily


        class ToyFamily(ModelFamily):
            """Speaks in brackets."""

            model_types = ("toyformer",)

            def chat(self, turns):
                return "".join(f"[{text}]" for _, text in turns)
    ''',
}

STUDY = """
name: toys
models: ["{model}"]
methods: [none, {{toy-scales: {{scaled: [2]}}}}]
quantization: [toy-steps]
mixtures: {{sums: {{toy-sums: {{weight: 1.0, up_to: 4}}}}}}
training: {{learning_rate: 0.1, max_steps: 2, batch_size: 4, warmup_steps: 0, max_length: 64}}
evaluate: {{tasks: [toy-larger], languages: all}}
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own entries, made known by MAPLE_CATALOG."""
    folder = tmp_path / "catalog"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    monkeypatch.setenv("MAPLE_CATALOG", str(folder))
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "sums.txt").write_text("here\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("file", FILES)
def test_an_entry_is_known_by_its_file_name(toys: Path, file: str) -> None:
    kind, _, stem = file.removesuffix(".py").partition("/")
    assert stem.replace("_", "-") in entry_names(kind)


def test_without_the_folder_the_entries_are_not_there() -> None:
    names = [name for kind in ("methods", "tasks", "datasets", "quantization", "models")
             for name in entry_names(kind)]  # fmt: skip
    assert not [name for name in names if name.startswith("toy")]


def test_a_study_of_toys_is_planned_run_and_scored(
    toys: Path, model_directory: Callable[..., Path]
) -> None:
    path = toys / "study.yaml"
    path.write_text(STUDY.format(model=model_directory()), encoding="utf-8")
    study, files = load_study(path), Files(directory=toys / "data")
    plan = make_plan(study, files)
    assert [c.run.method.name for c in plan.cells] == ["none", "toy-scales"]
    assert [e.task for e in plan.evaluations] == ["toy-larger"]
    assert plan.estimates[plan.cells[1].run.id].trainable_parameters == 2 * 64
    outcome = run_study(study, files, toys / "out", progress=Progress(Console()))
    assert outcome.failures == ()
    assert outcome.n_done == 2
    folders = list((toys / "out" / "evals").iterdir())
    parts = [part for folder in folders for part in folder.glob("*.parquet")]
    assert len(folders) == 2
    assert pyarrow.dataset.dataset(parts).count_rows() == 2 * 5


def test_a_model_type_of_ones_own_is_recognised(toys: Path) -> None:
    assert family_for(model_type="toyformer").chat([("user", "Hi")]) == "[Hi]"


def test_hyper_parameters_of_ones_own_method_are_checked(toys: Path) -> None:
    with pytest.raises(StudyError, match=r"toy-scales: scaled = 0"):
        load_method("toy-scales", {"scaled": 0})
    with pytest.raises(StudyError, match=r"no parameter 'scale'.*Did you mean 'scaled'"):
        load_method("toy-scales", {"scale": 1})


def test_a_broken_file_of_ones_own_is_named(toys: Path) -> None:
    (toys / "catalog" / "tasks" / "toy_broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(CatalogError, match=r"toy_broken\.py cannot be imported.*nothing_of_that"):
        load_task("toy-broken")
    # Mended, it loads in the same process.
    mended = (toys / "catalog" / "tasks" / "toy_larger.py").read_text(encoding="utf-8")
    (toys / "catalog" / "tasks" / "toy_broken.py").write_text(mended, encoding="utf-8")
    assert load_task("toy-broken").info.version == 1


def test_a_file_that_defines_no_entry_is_named(toys: Path) -> None:
    (toys / "catalog" / "quantization" / "toy_empty.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"toy_empty\.py must define exactly one Quantizer"):
        load_quantizer("toy-empty")
