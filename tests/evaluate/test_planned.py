"""Requests kept on this machine: the same as made anew, shared, checked, bounded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from maple.catalog import load_family, load_task
from maple.catalog.contracts import GenerationRequest, RankingRequest
from maple.data.tokenize import split_tokens
from maple.errors import DataError
from maple.evaluate import PreparedTask, prepare_task
from maple.evaluate.batches import ranking_batches, token_budget_batches
from maple.evaluate.encode import EncodedOption, EncodedRequest, Encoder
from maple.evaluate.planned_file import BrokenFileError, map_file
from maple.evaluate.planned_store import RequestStore, _code
from maple.evaluate.prepare import TaskRequest, describe_task, prompt_records, word_requests
from maple.evaluate.texts import Text, tokenize_texts
from maple.files import Files
from maple.study import DecodingSettings, PromptSettings

SWAHILI = TaskRequest(task="xnli", language="swh_Latn")


@pytest.fixture(scope="module")
def tokenizer(model_directory: Callable[..., Path]) -> Any:
    return AutoTokenizer.from_pretrained(model_directory("llama"))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    folder = tmp_path / "release" / "xnli"
    folder.mkdir(parents=True)
    rows = [
        f"Mtu {n} alikwenda.\tMtu {n} alikuwa huko{' ' * (n % 3)}.\t{n % 3}\n" for n in range(9)
    ]
    for part in ("test", "dev"):
        (folder / f"{part}-sw.tsv").write_text("".join(rows), encoding="utf-8")
    return Files(directory=tmp_path / "release")


@pytest.fixture
def store(tmp_path: Path) -> RequestStore:
    return RequestStore(tmp_path / "requests")


@pytest.fixture(autouse=True)
def sources_at_rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Maple's files may be edited while its tests run; then nothing would be kept."""
    monkeypatch.setattr("maple.evaluate.planned_store._LOADED", time.time() + 1e6)
    _code.cache_clear()
    yield
    _code.cache_clear()


class Counting(Encoder):
    """Counts the requests that are encoded."""

    n_encoded = 0

    def encode(self, requests: Any, max_new_tokens: int | None = None) -> list[EncodedRequest]:
        self.n_encoded += len(requests)
        return super().encode(requests, max_new_tokens)


def encoder(tokenizer: Any, max_length: int = 512, **prompt: Any) -> Counting:
    wording = PromptSettings(**({"form": "lm-eval"} | prompt))
    return Counting(tokenizer, load_family("llama"), wording, max_length=max_length)


def everything(prepared: PreparedTask) -> dict[str, Any]:
    return {
        "samples": tuple(prepared.samples),
        "ids": prepared.sample_ids,
        "requests": tuple(prepared.requests),
        "prompts": tuple(prepared.prompts),
        "hashes": tuple(map(prepared.prompt_hash, range(len(prepared.samples)))),
        "encoded": tuple(prepared.encoded),
        "batches": prepared.batches,
        "alone": prepared.alone,
        "id": prepared.prompts_id,
        "generates": prepared.generates,
    }


# ------------------------------------------------------------------------ the same as made anew


def one_by_one(request: Any, by: Encoder, limit: int | None) -> EncodedRequest:
    """What a request is encoded as, by the definition: each text alone, each option whole."""
    context, continuations = by.texts(request)
    prefix, longest = by.tokenizer.bos_token_id, by.max_length
    if isinstance(request, GenerationRequest):
        new = min(limit or request.max_new_tokens, longest - 1)
        ids = list(by.tokenizer(context)["input_ids"])
        cut = len(ids) > longest - new
        return EncodedRequest(
            prompt=tuple(ids[-(longest - new) :]),
            stop=request.stop,
            max_new_tokens=new,
            was_truncated=cut,
        )

    def option(context: str, text: str) -> tuple[EncodedOption, bool]:
        head = context.rstrip(None if by.prompt.template == "plain" else " ")
        tail = context[len(head) :] + text
        ids, start = split_tokens(head, tail, by.tokenizer)
        if not head:
            own = list(by.tokenizer(tail, add_special_tokens=False)["input_ids"])
            ids, start = own if own[:1] == [prefix] else [prefix, *own], 1
        excess = max(0, len(ids) - longest - 1)
        return EncodedOption(tuple(ids[excess:]), max(1, max(start, 1) - excess)), excess > 0

    whole = [option(context, text) for text in continuations]
    return EncodedRequest(
        options=tuple(o for o, _ in whole),
        unconditional=tuple(option("", text)[0] for text in continuations) if context else (),
        was_truncated=any(cut for _, cut in whole),
    )


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("xnli", "swh_Latn", {"form": "lm-eval"}),
    ("xnli", "tha_Thai", {"form": "mega", "template": "bactrian-x", "max_length": 60}),
    ("xnli", "zho_Hans", {"form": "mega", "scoring": "generation"}),
    ("xnli", "hin_Deva", {"form": "completion"}),
    ("xcopa", "zho_Hans", {"form": "mega"}),
    ("belebele", "deu_Latn", {"form": "mega", "shots": 4}),
    ("belebele", "eng_Latn", {"form": "mega", "choices": "cloze", "template": "chat"}),
    ("xquad", "arb_Arab", {"form": "mega", "shots": 4, "max_length": 200}),
    ("xquad", "hin_Deva", {"form": "lm-eval"}),
    ("mlqa", "arb_Arab", {"form": "mega"}),
]


@pytest.mark.parametrize(("task", "language", "settings"), CASES)
def test_what_is_kept_is_what_the_definition_says(
    shared_data: Path,
    tokenizer: Any,
    store: RequestStore,
    task: str,
    language: str,
    settings: dict[str, Any],
) -> None:
    files, by = Files(directory=shared_data), encoder(tokenizer, **settings)
    # Of MLQA the release files hold the validation split alone.
    split = "validation" if task == "mlqa" else load_task(task).info.split
    decoding = DecodingSettings(max_new_tokens=9)
    wanted = TaskRequest(task=task, language=language, split=split, limit=6, decoding=decoding)
    prepare_task(wanted, files, by, max_tokens=900, store=store)
    again = RequestStore(store.folder)
    later = encoder(tokenizer, **settings)
    kept = prepare_task(wanted, files, later, max_tokens=900, store=again)

    entry = load_task(task)
    samples = list(entry.samples(files, language, split))[:6]
    requests = word_requests(entry, samples, files, language, split, kept.prompt)
    encoded = [one_by_one(request, by, 9) for request in requests]
    assert later.n_encoded == 0
    assert kept.samples == samples
    assert kept.requests == requests
    assert kept.prompts == list(prompt_records(samples, requests, by))
    assert kept.encoded == encoded
    assert kept.generates == (not encoded[0].options)
    if kept.generates:
        batches = token_budget_batches([e.width for e in encoded], [1] * 6, max_tokens=900)
    else:
        batches = ranking_batches(encoded, max_tokens=900)
    assert kept.batches == tuple(map(tuple, batches))
    alone = dict.fromkeys(option for e in encoded for option in e.unconditional)
    assert {option for batch in kept.alone for option in batch} == set(alone)
    assert sum(map(len, kept.alone)) == len(alone)
    assert {type(r) for r in kept.requests} <= {RankingRequest, GenerationRequest}


TEXTS = [
    Text("Mji mkuu wa", " Kenya"),
    Text("东京是日本的", "首都。"),
    Text("ประเทศไทย", "อยู่ที่ไหน"),
    Text("मेरा ", "नाम", special=True),
    Text("a", "\u0301bc"),
    Text("👩\u200d", "👩\u200d👧 x"),
    Text("", "alone", special=False),
    Text("no tail"),
    Text("", ""),
    Text("x \ud800"[:2], " "),
]


def test_texts_in_one_call_are_the_texts_in_many(tokenizer: Any) -> None:
    found = tokenize_texts(TEXTS * 2, tokenizer)
    for text, (ids, start) in zip(TEXTS * 2, found, strict=True):
        assert (list(ids), start) == split_tokens(
            text.head, text.tail, tokenizer, special=text.special
        )


# -------------------------------------------------------------------------------- shared and lazy


def test_a_later_call_encodes_nothing(tokenizer: Any, files: Files, store: RequestStore) -> None:
    plain = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300)
    first, second = encoder(tokenizer), encoder(tokenizer)
    made = prepare_task(SWAHILI, files, first, max_tokens=300, store=store)
    kept = prepare_task(SWAHILI, files, second, max_tokens=300, store=RequestStore(store.folder))
    assert (first.n_encoded, second.n_encoded) == (9, 0)
    assert everything(plain) == everything(made) == everything(kept)
    assert [p.suffix for p in store.folder.iterdir()] == [".requests"]


def test_columns_are_pages_of_the_file(tokenizer: Any, files: Files, store: RequestStore) -> None:
    prepared = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300, store=store)
    tokens = prepared.plan.table().arrays["tokens"]
    assert not tokens.flags.owndata
    assert not tokens.flags.writeable
    assert str(next(store.folder.glob("*.requests"))) in Path("/proc/self/maps").read_text()


def test_a_table_that_is_not_scored_is_let_go(
    tokenizer: Any, files: Files, store: RequestStore
) -> None:
    limits = [replace(SWAHILI, limit=n) for n in range(1, 6)]
    tasks = [
        prepare_task(w, files, encoder(tokenizer), max_tokens=300, store=store) for w in limits
    ]
    assert store._open == {}  # what is made already is asked of nobody
    for prepared in tasks:
        assert len(prepared.encoded[0].options) == 3
    assert len(store._open) == 2
    assert all(task.plan._held is None for task in tasks)


def test_without_a_store_all_is_held(tokenizer: Any, files: Files) -> None:
    prepared = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300)
    before = everything(prepared)
    next(files.directory.rglob("test-sw.tsv")).unlink()  # type: ignore[union-attr]
    assert everything(prepared) == before


def test_a_drawn_answer_carries_its_own_randomness(
    tokenizer: Any, files: Files, store: RequestStore
) -> None:
    drawn = DecodingSettings(temperature=0.5, seed=3)
    by = encoder(tokenizer, form="mega", scoring="generation")
    greedy = prepare_task(SWAHILI, files, by, max_tokens=300, store=store)
    random = prepare_task(replace(SWAHILI, decoding=drawn), files, by, max_tokens=300, store=store)
    assert by.n_encoded == 9  # the prompts are the same
    assert [e.sampling for e in random.encoded] == [drawn] * 9
    assert len({e.draw_key for e in random.encoded}) == 9
    bare = [replace(e, sampling=None, draw_key="") for e in random.encoded]
    assert greedy.encoded == bare


def test_places_are_as_of_any_sequence(tokenizer: Any, files: Files, store: RequestStore) -> None:
    samples = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300, store=store).samples
    assert samples[-1] == samples[8]
    assert samples[2:4] == (samples[2], samples[3])
    assert samples != samples[:8]
    with pytest.raises(IndexError):
        samples[9]


# ------------------------------------------------------------------------------- what names it


def key_of(wanted: TaskRequest, files: Files, by: Encoder, store: RequestStore) -> str:
    plan = describe_task(wanted, files, by, max_tokens=300, store=store).plan
    assert plan._kept is not None
    return plan._kept[1]


def test_whatever_changes_the_requests_changes_their_name(
    tokenizer: Any, files: Files, store: RequestStore, model_directory: Callable[..., Path]
) -> None:
    def name(wanted: TaskRequest = SWAHILI, by: Encoder | None = None) -> str:
        return key_of(wanted, files, by or encoder(tokenizer), store)

    names = [name()]
    assert name() == names[0]
    names += [name(by=encoder(tokenizer, 511)), name(by=encoder(tokenizer, shots=1))]
    names += [name(by=encoder(tokenizer, template="chat"))]
    names += [name(replace(SWAHILI, limit=3))]
    names += [name(replace(SWAHILI, decoding=DecodingSettings(max_new_tokens=5)))]
    other = AutoTokenizer.from_pretrained(model_directory("llama"))
    assert name(by=encoder(other)) == names[0]
    other("a b", truncation=True, max_length=3, padding="max_length")
    assert name(by=encoder(other)) == names[0]
    other.add_tokens(["Mtu"])
    names.append(name(by=encoder(other)))
    path = next(files.directory.rglob("test-sw.tsv"))  # type: ignore[union-attr]
    path.write_text(path.read_text().replace("huko", "hapa"))
    names.append(name())
    assert len(set(names)) == len(names) == 8


def test_another_wording_of_an_entry_of_ones_own_is_another_name(
    tokenizer: Any, files: Files, store: RequestStore, tmp_path: Path, monkeypatch: Any
) -> None:
    from maple.evaluate.planned_store import _own_source

    path = tmp_path / "mine.py"
    names = set()
    for text in ("class Mine: a = 1", "class Mine: a = 2"):
        path.write_text(text)
        space: dict[str, Any] = {"__name__": "mine"}
        exec(compile(text, str(path), "exec"), space)
        monkeypatch.setattr("inspect.getfile", lambda _: str(path))
        names.add(_own_source(space["Mine"]))
    assert len(names) == 2


def test_sources_edited_since_they_were_read_name_nothing(
    tokenizer: Any, files: Files, store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maple.evaluate.planned_store._LOADED", 0.0)
    prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300, store=store)
    assert not store.folder.exists()


# ------------------------------------------------------------------------- broken, gone, claimed


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def turned(place: int) -> Callable[[bytes], bytes]:
    def turn(content: bytes) -> bytes:
        at = place % len(content)
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return turn


HARM = {
    "cut": cut,
    "mark": turned(3),
    "header": turned(60),
    "header text": turned(300),
    "body": turned(-70),
    "empty": lambda _: b"",
    "longer": lambda content: content + b"x",
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_a_broken_file_is_made_again(
    tokenizer: Any, files: Files, store: RequestStore, harm: Callable[[bytes], bytes]
) -> None:
    whole = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300, store=store)
    expected = everything(whole)
    path = next(store.folder.glob("*.requests"))
    before = path.read_bytes()
    path.write_bytes(harm(before))
    by = encoder(tokenizer)
    again = prepare_task(SWAHILI, files, by, max_tokens=300, store=RequestStore(store.folder))
    assert everything(again) == expected
    assert by.n_encoded == 9
    assert path.read_bytes() == before


def test_every_byte_of_the_columns_is_checked(
    tokenizer: Any, files: Files, store: RequestStore
) -> None:
    prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300, store=store)
    path = next(store.folder.glob("*.requests"))
    header, arrays = map_file(path, check=True)
    first = {name: header.begin + at for name, (_, count, at) in header.arrays.items() if count}
    assert set(first) > {"tokens", "starts", "asked_texts", "shown_texts"}
    del arrays
    content = path.read_bytes()
    for at in first.values():
        path.write_bytes(turned(at)(content))
        with pytest.raises(BrokenFileError):
            map_file(path, check=True)


def test_a_file_that_goes_away_meanwhile_is_made_again(
    tokenizer: Any, files: Files, store: RequestStore
) -> None:
    by = encoder(tokenizer)
    prepared = prepare_task(SWAHILI, files, by, max_tokens=300, store=store)
    next(store.folder.glob("*.requests")).unlink()
    plain = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300)
    assert everything(prepared) == everything(plain)
    assert by.n_encoded == 18


def test_data_that_changed_meanwhile_is_refused(
    tokenizer: Any, files: Files, store: RequestStore
) -> None:
    prepared = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300, store=store)
    next(store.folder.glob("*.requests")).unlink()
    path = next(files.directory.rglob("test-sw.tsv"))  # type: ignore[union-attr]
    path.write_text(path.read_text().replace("huko", "hapa"))
    with pytest.raises(DataError, match="changed meanwhile"):
        prepared.encoded[0]


def test_two_workers_divide_what_is_to_be_made(
    tokenizer: Any, files: Files, store: RequestStore
) -> None:
    other = RequestStore(store.folder)
    mine, its = encoder(tokenizer), encoder(tokenizer)
    key = key_of(SWAHILI, files, mine, store)
    theirs = describe_task(SWAHILI, files, its, max_tokens=300, store=other)
    with store.claim(key, wait=False) as is_ours:
        assert is_ours
        assert not theirs.plan.ready(wait=False)
    prepare_task(SWAHILI, files, mine, max_tokens=300, store=store)
    assert theirs.plan.ready(wait=True)
    assert (mine.n_encoded, its.n_encoded) == (9, 0)


def test_a_folder_that_cannot_be_made_is_no_harm(
    tokenizer: Any, files: Files, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    broken = RequestStore(tmp_path / "file" / "requests")
    prepared = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300, store=broken)
    plain = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300)
    assert everything(prepared) == everything(plain)


def test_a_sample_that_no_file_can_hold_is_held(
    tokenizer: Any, files: Files, store: RequestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = type(load_task("xnli"))
    read = entry.samples

    def with_a_number(self: Any, *place: Any) -> Iterator[Any]:
        for sample in read(self, *place):
            yield replace(sample, fields={**sample.fields, "pair": ("a", "b")})

    monkeypatch.setattr(entry, "samples", with_a_number)
    prepared = prepare_task(SWAHILI, files, encoder(tokenizer), max_tokens=300, store=store)
    assert prepared.samples[0].fields["pair"] == ("a", "b")
    assert list(store.folder.glob("*.requests")) == []


# ---------------------------------------------------------------------------------------- bounds


def test_what_was_used_longest_ago_goes_first(
    tokenizer: Any, files: Files, store: RequestStore
) -> None:
    tasks = [replace(SWAHILI, limit=n) for n in (1, 2, 3)]
    keys = [key_of(w, files, encoder(tokenizer), store) for w in tasks]
    for n, wanted in enumerate(tasks):
        prepare_task(wanted, files, encoder(tokenizer), max_tokens=300, store=store)
        os.utime(store._path(keys[n]), (n, n))
    leftover = store.folder / ".tmp-1-x.requests"
    leftover.write_bytes(b"x")
    os.utime(leftover, (1, 1))
    assert store.meta(keys[0]) is not None  # used just now
    sizes = [store._path(key).stat().st_size for key in keys]
    store.tidy(sizes[0] + sizes[2])
    left = {path.name for path in store.folder.iterdir()}
    assert left == {store._path(keys[0]).name, store._path(keys[2]).name}
