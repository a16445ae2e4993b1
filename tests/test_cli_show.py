"""`maple show prompt` and the matrix of `maple list languages --tasks`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from maple.catalog import entry_names, load_task
from maple.cli import app
from maple.cli.show import _with_edges
from maple.errors import CatalogError, UsageError

ROWS = [
    ("Rafiki yangu alipoteza ufunguo.", "Alirudi nyumbani.", "Alikunywa maji.", "effect", 0),
    ("Mvua ilinyesha.", "Mto ulijaa.", "Jua liliwaka.", "effect", 0),
    ("Mtoto alilia.", "Alianguka.", "Alilala.", "cause", 0),
    ("Taa ilizimika.", "Umeme ulikatika.", "Nilisoma kitabu.", "cause", 0),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """XCOPA's release files in Swahili: four items a split."""
    folder = tmp_path / "xcopa" / "data" / "sw"
    folder.mkdir(parents=True)
    for split in ("test", "val"):
        rows = [
            {"premise": f"{p}", "choice1": a, "choice2": b, "question": q, "label": label,
             "idx": 10 + i, "changed": False}
            for i, (p, a, b, q, label) in enumerate(ROWS)
        ]  # fmt: skip
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.sw.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def maple(*arguments: object) -> str:
    """What a command prints; its errors are raised."""
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def shown(*arguments: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(maple("show", "prompt", *arguments, "--json"))
    return found


def test_the_prompt_is_that_of_an_evaluation_with_its_hash(data: Path) -> None:
    from maple.catalog import load_family
    from maple.evaluate.encode import Encoder
    from maple.evaluate.prepare import prompt_records, word_requests
    from maple.files import Files
    from maple.study import PromptSettings

    found = shown("xcopa", "--language", "sw", "--data-dir", data, "--sample", "12")
    files, task = Files(directory=data), load_task("xcopa")
    samples = list(task.samples(files, "swh_Latn", "test"))
    requests = word_requests(task, samples, files, "swh_Latn", "test", PromptSettings())
    encoder = Encoder(None, load_family("generic"), PromptSettings(), max_length=1)  # type: ignore[arg-type]
    record = list(prompt_records(samples, requests, encoder))[2]
    assert found["prompt_hash"] == record.prompt_hash
    assert found["context"] == record.context
    assert found["continuations"] == list(record.continuations)
    assert found["gold"] == ["0"]
    assert (found["sample_id"], found["place"], found["n_samples"]) == ("12", 3, 4)
    assert found["files"] == [str(data / "xcopa" / "data" / "sw" / "test.sw.jsonl")]
    assert "Mtoto alilia" in record.context


def test_the_text_shows_the_edges_the_gold_and_the_file(data: Path) -> None:
    text = maple("show", "prompt", "xcopa", "--language", "sw", "--data-dir", data)
    assert "task      xcopa, version" in text
    assert "language  swh_Latn, Swahili" in text
    assert "sample    10, 1 of 4 of test" in text
    assert "test.sw.jsonl" in text
    context, first, second = text.split("──── co")[1:]
    assert "Rafiki yangu alipoteza ufunguo" in context
    assert first.startswith("ntinuation 0, gold ────\n⏎Alirudi nyumbani.")
    assert second.startswith("ntinuation 1 ────\n⏎Alikunywa maji.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [(" a b\n", "␣a b⏎"), ("a", "a"), ("", ""), ("\n\nA", "⏎\n⏎A"), (" \n", "␣⏎")],
)
def test_white_space_at_the_edges_is_seen_and_inside_is_as_it_stands(
    text: str, expected: str
) -> None:
    assert _with_edges(text) == expected


def test_a_sample_is_named_by_its_id_or_else_by_its_place(data: Path) -> None:
    arguments = ("xcopa", "--language", "sw", "--data-dir", data, "--sample")
    assert shown(*arguments, 11)["place"] == 2
    assert shown(*arguments, 1)["sample_id"] == "10"
    with pytest.raises(UsageError, match=r"no sample '5'.*10, 11, 12.*from 1 to 4"):
        shown(*arguments, 5)


def test_generation_shows_where_it_stops_and_the_choices(data: Path) -> None:
    arguments = ("xcopa", "--language", "sw", "--data-dir", data, "--scoring", "generation")
    found = shown(*arguments)
    assert found["continuations"] == []
    assert isinstance(found["max_new_tokens"], int)
    assert [c["text"] for c in found["choices"]] == list(ROWS[0][1:3])  # type: ignore[attr-defined]
    text = maple("show", "prompt", *arguments)
    assert "──── answer ────\nwritten up to the end token" in text
    assert "Alirudi nyumbani. (gold)" in text


def test_examples_stand_before_the_question(data: Path) -> None:
    plain = shown("xcopa", "--language", "sw", "--data-dir", data)
    found = shown("xcopa", "--language", "sw", "--data-dir", data, "--shots", 2)
    assert str(found["context"]).endswith(str(plain["context"]))
    assert len(str(found["context"])) > 2 * len(str(plain["context"]))
    assert found["prompt_hash"] != plain["prompt_hash"]


def test_a_template_is_wrapped_around_and_chat_wants_a_tokenizer(data: Path) -> None:
    arguments = ("xcopa", "--language", "sw", "--data-dir", data, "--template")
    assert "### Output:" in str(shown(*arguments, "bactrian-x")["context"])
    with pytest.raises(UsageError, match="name one with --model"):
        shown(*arguments, "chat")


def test_without_a_language_the_tasks_languages_are_named(data: Path) -> None:
    with pytest.raises(UsageError, match=r"--language. It has 12: en, et, .*, zh"):
        maple("show", "prompt", "xcopa")
    with pytest.raises(UsageError, match=r"no language of xcopa 'deu_Latn'"):
        maple("show", "prompt", "xcopa", "--language", "de", "--data-dir", data)
    with pytest.raises(CatalogError, match="Did you mean 'xcopa'"):
        maple("show", "prompt", "xcopia", "--language", "sw")


def test_showing_and_listing_never_import_torch(data: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from maple.cli import app\n"
        f"for line in ('show prompt xcopa --language sw --data-dir {data}', "
        "'list languages --tasks all', 'list tasks'):\n"
        "    done = CliRunner().invoke(app, line.split()); assert done.exit_code == 0, done\n"
        "found = {'torch', 'transformers', 'py3langid'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_matrix_has_every_language_of_the_tasks_once_by_class() -> None:
    matrix = json.loads(maple("list", "languages", "--tasks", "xcopa, xquad", "--json"))
    xcopa, xquad = (load_task(name).info for name in ("xcopa", "xquad"))
    codes = [row["code"] for row in matrix["languages"]]
    assert sorted(codes) == sorted({*xcopa.languages, *xquad.languages})
    assert matrix["n_languages"] == len(codes)
    classes = [row["resource_class"] for row in matrix["languages"]]
    known = [c for c in classes if c is not None]
    assert known == sorted(known)
    assert classes[: len(known)] == known
    rows = {row["code"]: row["tasks"] for row in matrix["languages"]}
    assert rows["est_Latn"] == {"xcopa": 500}
    assert rows["ell_Grek"] == {"xquad": 1190}
    assert set(rows["tha_Thai"]) == {"xcopa", "xquad"}
    assert matrix["tasks"]["xcopa"] == {"split": "test", "n_languages": len(xcopa.languages)}


def test_the_papers_six_tasks_have_more_than_forty_languages() -> None:
    tasks = "xnli,xcopa,belebele,mlqa,xquad,xlsum"
    text = maple("list", "languages", "--tasks", tasks)
    n = json.loads(maple("list", "languages", "--tasks", tasks, "--json"))["n_languages"]
    assert n >= 40
    assert f"the paper's six tasks: {n} languages" in text
    (swahili,) = (line for line in text.splitlines() if "swh_Latn" in line)
    assert "● 900" in swahili
    assert "…" not in text
    everything = json.loads(maple("list", "languages", "--tasks", "all", "--json"))
    assert list(everything["tasks"]) == entry_names("tasks")


def test_a_matrix_of_no_task_is_refused() -> None:
    with pytest.raises(CatalogError, match="Did you mean 'xnli'"):
        maple("list", "languages", "--tasks", "xnly")
    with pytest.raises(UsageError, match="goes with `maple list languages`"):
        maple("list", "tasks", "--tasks", "xnli")
    with pytest.raises(UsageError, match="names no task"):
        maple("list", "languages", "--tasks", ",")


def test_the_table_of_tasks_cuts_long_lists_of_languages_and_json_does_not() -> None:
    (belebele,) = (
        r for r in json.loads(maple("list", "tasks", "--json")) if r["name"] == "belebele"
    )
    assert len(belebele["languages"]) == 122
    text = maple("list", "tasks")
    assert "122:" in text
    assert "zul_Latn" not in text
