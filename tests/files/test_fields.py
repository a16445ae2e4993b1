"""Fields of a row: types checked, place and field named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maple.errors import DataError
from maple.files.fields import filled_field, int_field, list_field, text_field

PATH = Path("x.jsonl")


def test_text_is_returned_as_it_stands() -> None:
    assert text_field({"a": " x "}, "a", PATH, 1) == " x "


@pytest.mark.parametrize("row", [{}, {"a": None}])
def test_an_optional_text_may_be_missing_or_null(row: dict[str, Any]) -> None:
    assert text_field(row, "a", PATH, 1, optional=True) == ""
    with pytest.raises(DataError, match=r"x\.jsonl, line 1: field 'a'"):
        text_field(row, "a", PATH, 1)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(DataError, match="half of a surrogate pair at character 2"):
        text_field({"a": "ab\ud83d"}, "a", PATH, 7)


@pytest.mark.parametrize(("value", "number"), [(3, 3), ("3", 3), (" 2 ", 2)])
def test_whole_numbers_may_be_written_as_text(value: object, number: int) -> None:
    assert int_field({"a": value}, "a", PATH, 1, among=(1, 2, 3)) == number


@pytest.mark.parametrize("value", [True, 1.0, "x", None, [1]])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="must be a whole number"):
        int_field({"a": value}, "a", PATH, 1)


def test_a_number_out_of_range_is_refused_with_the_range() -> None:
    with pytest.raises(DataError, match="'label' is 3; it must be one of 0, 1, 2"):
        int_field({"label": 3}, "label", PATH, 1, among=range(3))


def test_lists_are_checked() -> None:
    assert list_field({"a": [1]}, "a", PATH, 1) == [1]
    with pytest.raises(DataError, match="must be a list, it is 'x'"):
        list_field({"a": "x"}, "a", PATH, 1)


def test_a_field_to_be_filled_may_not_be_white_space() -> None:
    assert filled_field({"a": " x "}, "a", PATH, 1) == " x "
    with pytest.raises(DataError, match="field 'a' is empty"):
        filled_field({"a": " \n"}, "a", PATH, 1)


def test_a_missing_field_says_what_the_row_has() -> None:
    with pytest.raises(DataError, match="'premise' is missing; the row has a, b"):
        text_field({"a": 1, "b": 2}, "premise", PATH, 4)


def test_formats_without_lines_count_rows() -> None:
    with pytest.raises(DataError, match=r"a\.parquet, row 4"):
        text_field({}, "a", Path("a.parquet"), 4)
