"""A task's requests in columns: token ids in one array, texts in compressed blocks.

    sample 0, options    the prompt they share | tail a | tail b      pieces of ``tokens``
    sample 1, to write   the prompt                                  one piece

Objects are made when they are asked for and are nobody's afterwards, so that what a process holds
does not grow with the number of tasks and languages.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa

from maple.catalog.contracts import Choice, GenerationRequest, RankingRequest, Request, Sample
from maple.evaluate.branches import common_start
from maple.evaluate.encode import EncodedOption, EncodedRequest
from maple.evaluate.planned_file import Arrays
from maple.records import PromptRecord
from maple.study import content_id

T = TypeVar("T")

_BLOCK_BYTES = 1 << 16
"""Texts that are compressed as one; what it costs to read one of them."""
_OPEN_BLOCKS = 4
_INT32 = (
    "tokens", "starts", "alone_of", "alone_tokens", "alone_starts",
    "stops", "limits", "cut",
)  # fmt: skip


class Lazy(Sequence[T], Generic[T]):
    """A sequence whose items are made when they are asked for; a slice of it is a tuple."""

    def __init__(self, length: int, make: Callable[[int], T]) -> None:
        self._length = length
        self._make = make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(self._make(i) for i in range(*index.indices(self._length)))
        # range: negative places count from the end, and one outside raises IndexError.
        return self._make(range(self._length)[index])

    def __iter__(self) -> Iterator[T]:
        return map(self._make, range(self._length))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != self._length:
            return False
        return all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Texts:
    """What is read of a sample to score it, and what its model was shown."""

    sample: Sample
    request: Request
    prompt: PromptRecord


class RequestTable:
    """The requests of one task in one language, by the place of their sample."""

    def __init__(
        self, meta: Mapping[str, Any], arrays: Arrays, texts: Sequence[Texts] | None = None
    ) -> None:
        """Reads columns that ``TableWriter`` made.

        Args:
            meta: ``samples``, ``prompts`` (their id), ``generates`` and ``stops``.
            arrays: the columns, in memory or mapped from a file.
            texts: the texts themselves, of a task whose own types no file can hold.
        """
        self.meta = dict(meta)
        self.arrays = arrays
        self._texts = texts
        self._block = lru_cache(_OPEN_BLOCKS)(self._read_block)

    def __len__(self) -> int:
        return int(self.meta["samples"])

    @property
    def can_be_kept(self) -> bool:
        """Whether a file would give back all of it."""
        return self._texts is None

    def sample(self, index: int) -> Sample:
        """The sample at a place."""
        if self._texts is not None:
            return self._texts[index].sample
        return _sample(self._line("asked", index)[0])

    def request(self, index: int) -> Request:
        """Its worded request."""
        if self._texts is not None:
            return self._texts[index].request
        return _request(self._line("asked", index)[1])

    def prompt(self, index: int) -> PromptRecord:
        """What its model is shown."""
        if self._texts is not None:
            return self._texts[index].prompt
        return _prompt(self._line("shown", index))

    def gives(self, index: int, texts: Texts) -> bool:
        """Whether what was put in at a place comes out again: a task's own types may not."""
        sample, request = self._line("asked", index)
        return (
            type(texts.request) in (RankingRequest, GenerationRequest)
            and _sample(sample) == texts.sample
            and _request(request) == texts.request
            and self.prompt(index) == texts.prompt
        )

    @cached_property
    def batches(self) -> tuple[tuple[int, ...], ...]:
        """Places of the samples of each forward pass."""
        places, ends = self.arrays["batches"].tolist(), self.arrays["batch_ends"].tolist()
        return tuple(tuple(places[a:b]) for a, b in pairwise([0, *ends]))

    @cached_property
    def sample_ids(self) -> tuple[str, ...]:
        """The samples' names, without the samples."""
        return tuple(json.loads(pa.decompress(*self._whole("names"), codec="zstd").to_pybytes()))

    def prompt_hash(self, index: int) -> str:
        """The hash that names what the model is shown for a sample."""
        return self.arrays["hashes"][16 * index : 16 * index + 16].tobytes().decode()

    def encoded(self, index: int) -> EncodedRequest:
        """Its request as an engine takes it."""
        columns = self.arrays
        first, last = (int(n) for n in columns["requests"][index : index + 2])
        shared, *tails = self._pieces(first, last)
        if not tails:
            return EncodedRequest(
                prompt=tuple(shared),
                stop=tuple(self.meta["stops"][int(columns["stops"][index])]),
                max_new_tokens=int(columns["limits"][index]),
                was_truncated=bool(columns["cut"][index]),
            )
        # A request has a piece more than options: their places are ``index + 1`` pieces behind.
        own = slice(first - index, last - index - 1)
        starts, alone = columns["starts"][own].tolist(), columns["alone_of"][own].tolist()
        return EncodedRequest(
            options=tuple(
                EncodedOption((*shared, *tail), start)
                for tail, start in zip(tails, starts, strict=True)
            ),
            unconditional=tuple(self.option_alone(n) for n in alone if n >= 0),
            was_truncated=bool(columns["cut"][index]),
        )

    def option_alone(self, number: int) -> EncodedOption:
        """One of the options that are asked for with nothing before them."""
        ids = self._piece("alone_pieces", "alone_tokens", number)
        return EncodedOption(tuple(ids), int(self.arrays["alone_starts"][number]))

    @property
    def n_alone(self) -> int:
        """How many different options are asked for with nothing before them."""
        return len(self.arrays["alone_starts"])

    def _pieces(self, first: int, last: int) -> list[list[int]]:
        bounds = self.arrays["pieces"][first : last + 1]
        ids: list[int] = self.arrays["tokens"][bounds[0] : bounds[-1]].tolist()
        return [ids[a:b] for a, b in pairwise((bounds - bounds[0]).tolist())]

    def _piece(self, offsets: str, tokens: str, number: int) -> list[int]:
        begin, end = self.arrays[offsets][number : number + 2]
        ids: list[int] = self.arrays[tokens][begin:end].tolist()
        return ids

    def _line(self, kind: str, index: int) -> Any:
        firsts = self.arrays[f"{kind}_first"]
        number = int(np.searchsorted(firsts, index, side="right")) - 1
        return json.loads(self._block(kind, number)[index - int(firsts[number])])

    def _read_block(self, kind: str, number: int) -> list[bytes]:
        begin, end = self.arrays[f"{kind}_places"][number : number + 2]
        packed = self.arrays[f"{kind}_texts"][begin:end]
        size = int(self.arrays[f"{kind}_sizes"][number])
        return bytes(pa.decompress(pa.py_buffer(packed), size, codec="zstd")).split(b"\n")

    def _whole(self, name: str) -> tuple[pa.Buffer, int]:
        return pa.py_buffer(self.arrays[name]), int(self.meta[f"{name}_bytes"])


@dataclass
class TableWriter:
    """Takes encoded requests as they come and makes a ``RequestTable`` of them."""

    _columns: dict[str, array[int]] = field(
        default_factory=lambda: {
            **{name: array("i") for name in _INT32},
            **{name: array("q", [0]) for name in ("pieces", "alone_pieces", "requests")},
        }
    )
    _stops: dict[tuple[str, ...], int] = field(default_factory=dict)
    _alone: dict[EncodedOption, int] = field(default_factory=dict)

    def add(self, encoded: EncodedRequest) -> None:
        """Appends one request."""
        columns = self._columns
        options = [option.ids for option in encoded.options]
        shared = common_start(options) if options else len(encoded.prompt)
        self._append("tokens", "pieces", options[0][:shared] if options else encoded.prompt)
        for option in encoded.options:
            self._append("tokens", "pieces", option.ids[shared:])
            columns["starts"].append(option.start)
        alone = [self._number(option) for option in encoded.unconditional]
        columns["alone_of"].extend(alone or [-1] * len(options))
        columns["requests"].append(len(columns["pieces"]) - 1)
        columns["stops"].append(self._stops.setdefault(encoded.stop, len(self._stops)))
        columns["limits"].append(encoded.max_new_tokens)
        columns["cut"].append(encoded.was_truncated)

    def finish(self, texts: Sequence[Texts], batches: Sequence[Sequence[int]]) -> RequestTable:
        """The table of all that was added.

        Args:
            texts: in the same order.
            batches: places of the samples of each forward pass.
        """
        arrays: dict[str, np.ndarray[Any, Any]] = {
            name: np.frombuffer(values, dtype=np.int32 if values.typecode == "i" else np.int64)
            if values
            else np.zeros(0, np.int32)
            for name, values in self._columns.items()
        }
        hashes = [t.prompt.prompt_hash for t in texts]
        names = _dumped([t.sample.id for t in texts])
        arrays["names"] = _compressed(names)
        arrays["batches"] = np.array([i for batch in batches for i in batch], dtype=np.int32)
        arrays["batch_ends"] = np.cumsum([len(batch) for batch in batches], dtype=np.int32)
        arrays["hashes"] = np.frombuffer("".join(hashes).encode(), dtype=np.uint8)
        meta = {
            "samples": len(texts),
            "prompts": content_id({"prompts": hashes}),
            # One piece alone: a prompt to continue.
            "generates": bool(arrays["requests"][1] == 1),
            "stops": [list(stop) for stop in self._stops],
            "names_bytes": len(names),
        }
        try:
            arrays |= _text_arrays("asked", map(_asked_line, texts))
            arrays |= _text_arrays("shown", (_dumped(asdict(t.prompt)) for t in texts))
        except (TypeError, ValueError):  # a task's own types in a sample's fields
            return RequestTable(meta, arrays, texts)
        table = RequestTable(meta, arrays)
        is_whole = all(table.gives(index, each) for index, each in enumerate(texts))
        return table if is_whole else RequestTable(meta, arrays, texts)

    def _append(self, tokens: str, pieces: str, ids: Sequence[int]) -> None:
        self._columns[tokens].extend(ids)
        self._columns[pieces].append(len(self._columns[tokens]))

    def _number(self, option: EncodedOption) -> int:
        if option not in self._alone:
            self._alone[option] = len(self._alone)
            self._append("alone_tokens", "alone_pieces", option.ids)
            self._columns["alone_starts"].append(option.start)
        return self._alone[option]


def _text_arrays(kind: str, lines: Iterable[bytes]) -> dict[str, np.ndarray[Any, Any]]:
    packed, sizes, first, places = [], [], [], [0]
    for number, block in _text_blocks(lines):
        packed.append(_compressed(block))
        first.append(number)
        sizes.append(len(block))
        places.append(places[-1] + len(packed[-1]))
    return {
        f"{kind}_texts": np.concatenate(packed) if packed else np.zeros(0, np.uint8),
        f"{kind}_sizes": np.array(sizes, dtype=np.int64),
        f"{kind}_first": np.array(first, dtype=np.int64),
        f"{kind}_places": np.array(places, dtype=np.int64),
    }


def _text_blocks(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The first line's number and the lines of each block."""
    held: list[bytes] = []
    number = size = 0
    for line in lines:
        if held and size + len(line) > _BLOCK_BYTES:
            yield number, b"\n".join(held)
            number, held, size = number + len(held), [], 0
        held.append(line)
        size += len(line)
    if held:
        yield number, b"\n".join(held)


def _compressed(raw: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(pa.compress(raw, codec="zstd", asbytes=True), dtype=np.uint8)


def _dumped(content: Any) -> bytes:
    # A lone surrogate of a release file must come back as it was.
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _asked_line(texts: Texts) -> bytes:
    sample, request = texts.sample, texts.request
    kind = "options" if isinstance(request, RankingRequest) else "text"
    asked = [sample.id, dict(sample.fields), sample.gold]
    return _dumped([asked, [kind, asdict(request)]])


def _sample(content: list[Any]) -> Sample:
    name, fields, gold = content
    return Sample(id=name, fields=fields, gold=tuple(gold))


def _request(content: list[Any]) -> Request:
    kind, values = content
    if kind == "options":
        return RankingRequest(**values | {"continuations": tuple(values["continuations"])})
    values["stop"], values["answers"] = tuple(values["stop"]), tuple(values["answers"])
    values["choices"] = tuple(
        Choice(mark=choice["mark"], texts=tuple(choice["texts"])) for choice in values["choices"]
    )
    return GenerationRequest(**values)


def _prompt(values: dict[str, Any]) -> PromptRecord:
    for name in ("continuations", "gold", "stop"):
        if values[name] is not None:
            values[name] = tuple(values[name])
    return PromptRecord(**values)
