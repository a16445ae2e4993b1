"""Data sets read from small files in their upstream layouts, local and on a Hub on loopback."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.files.hub_server import HubServer, hub_environment

from maple.catalog.contracts import Dataset
from maple.catalog.datasets.alpaca import Alpaca
from maple.catalog.datasets.atlas_generated import AtlasGenerated
from maple.catalog.datasets.bactrian_x import BactrianX
from maple.catalog.datasets.jsonl import Jsonl
from maple.catalog.datasets.multialpaca import MultiAlpaca
from maple.errors import CatalogError, DataError, SourceError
from maple.files import Files
from maple.languages import find

Rows = list[dict[str, Any]]
HUB_DATASETS = [MultiAlpaca(), BactrianX(), Alpaca()]


def _alpaca_row(number: int) -> dict[str, Any]:
    return {"instruction": f"do {number}", "input": None, "output": f"done {number}"}


def _lines(rows: Rows) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()


def _array(rows: Rows) -> bytes:
    return json.dumps(rows).encode()


def _put(directory: Path, name: str, content: bytes) -> Files:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Files(directory=directory)


@pytest.mark.parametrize("dataset", HUB_DATASETS)
def test_declared_languages_are_canonical(dataset: Dataset) -> None:
    assert {find(code).code for code in dataset.info.languages} == set(dataset.info.languages)
    assert {find(name).code for name in dataset.info.languages.values()} == set(
        dataset.info.languages
    )


def test_declared_languages_are_as_many_as_upstreams() -> None:
    assert [len(d.info.languages) for d in HUB_DATASETS] == [11, 52, 2]
    assert "eng_Latn" not in MultiAlpaca.info.languages


@pytest.mark.parametrize("dataset", HUB_DATASETS)
def test_a_language_upstream_lacks_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no language of"):
        list(dataset.conversations(Files(directory=tmp_path), "yor_Latn"))


def test_multialpaca_is_a_file_a_language(tmp_path: Path) -> None:
    files = _put(tmp_path, "multialpaca/th.jsonl", _lines([_alpaca_row(1), _alpaca_row(2)]))
    [first, second] = MultiAlpaca().conversations(files, "tha_Thai")
    assert (first.id, first.language, first.instruction) == ("1", "tha_Thai", "do 1")
    assert (first.input, second.id, second.response) == ("", "2", "done 2")


@pytest.mark.parametrize("written", [_lines, _array])
@pytest.mark.parametrize(
    ("name", "compress"),
    [("bactrian-x/sw.json.gz", gzip.compress), ("data/sw.json.gz", gzip.compress),
     ("bactrian-x/data/sw.json", bytes), ("bactrian-x/sw.json", bytes)],
)  # fmt: skip
def test_bactrian_x_is_an_array_or_lines_and_keeps_upstreams_ids(
    tmp_path: Path,
    name: str,
    compress: Callable[[bytes], bytes],
    written: Callable[[Rows], bytes],
) -> None:
    ids = ["alpaca-1", "dolly-2", "alpaca-1", None]
    rows = [{**_alpaca_row(i), "id": id} for i, id in enumerate(ids)]
    files = _put(tmp_path, name, compress(written(rows)))
    got = list(BactrianX().conversations(files, "swh_Latn"))
    assert [c.id for c in got] == ["alpaca-1", "dolly-2", "alpaca-1#3", "4"]
    assert got[1].response == "done 1"


def test_alpaca_chunks_are_read_in_row_order_with_alpacas_row_numbers(tmp_path: Path) -> None:
    folder = "alpaca_en_zh/history/原始英文数据"
    for name in ("alpaca_data-12-13-英文.json", "alpaca_data-3-12-英文.json"):
        first = int(name.split("-")[1])
        _put(tmp_path, f"{folder}/{name}", _array([_alpaca_row(first + 1)]))
    files = _put(tmp_path, f"{folder}/alpaca_data-0-3-英文.json", _array([_alpaca_row(1)]))
    got = list(Alpaca().conversations(files, "eng_Latn"))
    assert [c.id for c in got] == ["1", "4", "13"]
    assert [c.instruction for c in got] == ["do 1", "do 4", "do 13"]


def test_an_alpaca_chunk_longer_than_its_name_is_refused(tmp_path: Path) -> None:
    name = "alpaca_en_zh/history/翻译后的中文数据/alpaca_data-0-1-中文.json"
    files = _put(tmp_path, name, _array([_alpaca_row(1), _alpaca_row(2)]))
    with pytest.raises(DataError, match="row 2: the name promises 1 rows"):
        list(Alpaca().conversations(files, "zho_Hans"))


def test_alpacas_release_file_comes_first_and_has_no_chinese(tmp_path: Path) -> None:
    files = _put(tmp_path, "alpaca_data.json", _array([_alpaca_row(1)]))
    assert [c.id for c in Alpaca().conversations(files, "eng_Latn")] == ["1"]
    with pytest.raises(SourceError, match="翻译后的中文数据"):
        list(Alpaca().conversations(files, "zho_Hans"))
    with pytest.raises(SourceError, match="not on the Hub"):
        list(Alpaca().conversations(Files(), "zho_Hans"))


def test_hub_layouts_are_found(tmp_path: Path) -> None:
    table = tmp_path / "alpaca.parquet"
    pq.write_table(pa.Table.from_pylist([{**_alpaca_row(1), "text": "…"}]), table)
    with HubServer() as server, hub_environment(server.endpoint, tmp_path / "hf"):
        server.commit("datasets", "DAMO-NLP-MT/multialpaca", {"ja.jsonl": _lines([_alpaca_row(1)])})
        server.commit(
            "datasets",
            "MBZUAI/Bactrian-X",
            {"Bactrian-X.py": b"", "data/ja.json.gz": gzip.compress(_array([_alpaca_row(1)]))},
        )
        name = "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"
        server.commit("datasets", "tatsu-lab/alpaca", {name: table.read_bytes()})
        files = Files()
        for dataset, code in zip(HUB_DATASETS, ("jpn_Jpan", "jpn_Jpan", "eng_Latn"), strict=True):
            [got] = dataset.conversations(files, code)
            assert (got.instruction, got.input, got.response) == ("do 1", "", "done 1")
            assert files.fingerprint(dataset.paths(files, code)).startswith(
                f"hub:{dataset.info.hub}@"
            )


@pytest.mark.parametrize("name", ["sw", "swh_Latn"])
def test_atlas_rows_are_named_by_tag_or_code(tmp_path: Path, name: str) -> None:
    files = _put(tmp_path, f"atlas-generated/{name}.jsonl", _lines([_alpaca_row(1)]))
    [got] = AtlasGenerated().conversations(files, "swh_Latn")
    assert (got.id, got.response) == ("1", "done 1")


MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "jambo"},
    {"role": "assistant", "content": "jambo sana"},
    {"role": "user", "content": "habari?"},
    {"role": "assistant", "content": "nzuri"},
]
SHARED = [
    {"from": {"user": "human", "assistant": "gpt"}.get(m["role"], m["role"]), "value": m["content"]}
    for m in MESSAGES
]


def _jsonl(directory: Path, rows: Rows, language: str = "swh_Latn") -> list[Any]:
    files = _put(directory, "mine.jsonl", _lines(rows))
    return list(Jsonl(path="mine.jsonl").conversations(files, language))


@pytest.mark.parametrize("row", [{"messages": MESSAGES}, {"conversations": SHARED}])
def test_the_last_answer_of_a_chat_is_learnt_and_earlier_turns_are_kept(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    [got] = _jsonl(tmp_path, [row])
    assert (got.instruction, got.input, got.response) == ("habari?", "", "nzuri")
    assert got.turns == (("system", "be brief"), ("user", "jambo"), ("assistant", "jambo sana"))


def test_instruction_rows_have_no_earlier_turns(tmp_path: Path) -> None:
    [got] = _jsonl(tmp_path, [{"instruction": "a", "input": "b", "output": "c"}])
    assert (got.instruction, got.input, got.response, got.turns) == ("a", "b", "c", ())


def test_a_row_belongs_to_its_own_language_else_to_the_stated_one(tmp_path: Path) -> None:
    rows = [
        {**_alpaca_row(1), "language": "sw"},
        {**_alpaca_row(2), "lang": "Yoruba"},
        _alpaca_row(3),
    ]
    assert [c.instruction for c in _jsonl(tmp_path, rows, "swh_Latn")] == ["do 1", "do 3"]
    assert [c.instruction for c in _jsonl(tmp_path, rows, "yor_Latn")] == ["do 2", "do 3"]


def test_own_ids_are_kept_and_stay_unique(tmp_path: Path) -> None:
    ids: list[object] = ["a", 7, "a", None, True]
    rows = [{**_alpaca_row(i), "id": id} for i, id in enumerate(ids)]
    assert [c.id for c in _jsonl(tmp_path, rows)] == ["a", "7", "line 3", "line 4", "line 5"]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "a", "output": " "},
        {"instruction": "", "output": "b"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]},
    ],
)
def test_rows_without_question_or_answer_are_passed_over(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    assert [c.id for c in _jsonl(tmp_path, [row, _alpaca_row(1)])] == ["line 2"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, "line 1: neither 'instruction', 'messages' nor 'conversations'"),
        ({"instruction": "a"}, "field 'output' is missing"),
        ({"messages": MESSAGES[:-1]}, "last two turns must be the user's and the assistant's"),
        ({"messages": MESSAGES[-1:]}, "the roles are: assistant"),
        ({"messages": []}, "the roles are: none"),
        ({"messages": "hi"}, "field 'messages' must be a list"),
        ({"messages": ["hi"]}, "must be a list of objects"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "field 'role' is 'tool'"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "field 'content' must be text"),
        ({"conversations": [{"from": "human"}]}, "field 'value' is missing"),
        ({**_alpaca_row(1), "language": "klingon"}, "'language': no language 'klingon'"),
        ({**_alpaca_row(1), "lang": 3}, "field 'lang' must be text"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _jsonl(tmp_path, [row])
    assert "mine.jsonl, line 1" in str(caught.value)


def test_a_path_is_looked_for_in_the_data_directory_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    _put(here, "mine.json", _array([_alpaca_row(1)]))
    files = _put(tmp_path / "data", "other.json", _array([_alpaca_row(2)]))
    monkeypatch.chdir(here)
    assert [c.instruction for c in Jsonl(path="mine.json").conversations(files, "swh_Latn")] == [
        "do 1"
    ]
    [path] = Jsonl(path="other.json").paths(files, "swh_Latn")
    assert path == tmp_path / "data" / "other.json"
    with pytest.raises(SourceError, match=r"no file 'gone\.json' in .*data or .*here"):
        Jsonl(path="gone.json").paths(files, "swh_Latn")
