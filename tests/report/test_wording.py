import base64
import gzip
import json
import math
import re

import pytest

from maple.report import wording
from maple.report.embed import cut, cut_middle, packed_json


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0694, "+6.9"), (-0.02, "−2.0"), (-0.0001, "0.0"), (0.0, "0.0"), (None, "–")],
)
def test_signed_points(value: float | None, text: str) -> None:
    assert wording.signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.24, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (None, "–")],
)
def test_durations(value: float | None, text: str) -> None:
    assert wording.duration(value) == text


def test_sizes_and_parameters() -> None:
    assert wording.size(1536) == "1.5 KiB"
    assert wording.size(12) == "12 B"
    assert wording.parameters(8_388_608) == "8.39 M"
    assert wording.parameters(7) == "7"


def test_lists_read_as_a_sentence() -> None:
    assert wording.listed([]) == ""
    assert wording.listed(["a"]) == "a"
    assert wording.listed(["a", "b", "c"]) == "a, b and c"


def test_text_is_cut_with_the_length_of_the_whole() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcdef", 3) == "abc … [cut: 6 characters in all]"
    assert cut("abc", 3, length=1000) == "abc … [cut: 1,000 characters in all]"
    assert cut_middle("abcdefgh", 2, 3) == "ab … [3 cut] … fgh"
    assert cut_middle("abcde", 2, 3) == "abcde"


def test_packed_json_holds_no_markup_and_reads_back() -> None:
    value = {"</script>": ["<!--", "&amp;", "a\u2028b\u2029c", math.nan, (1, 2)], "x": math.inf}
    text = packed_json(value)
    assert re.fullmatch("[A-Za-z0-9+/]+=*", text)
    expected = {"</script>": ["<!--", "&amp;", "a\u2028b\u2029c", None, [1, 2]], "x": None}
    assert json.loads(gzip.decompress(base64.b64decode(text))) == expected
