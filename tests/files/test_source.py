"""Files: a directory instead of the Hub, and the identity of what was read."""

from __future__ import annotations

from pathlib import Path

import pytest

from maple.errors import SourceError
from maple.files import Files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "xnli").mkdir()
    for name in ("test-sw.tsv", "test-b.tsv", "test-a.tsv"):
        (tmp_path / "xnli" / name).write_text(name)
    return tmp_path


def test_the_first_pattern_that_matches_wins_sorted(directory: Path) -> None:
    found = Files(directory=directory).find(local=["none/*", "xnli/test-?.tsv", "xnli/*"])
    assert [p.name for p in found] == ["test-a.tsv", "test-b.tsv"]


def test_a_directory_is_read_instead_of_the_hub(directory: Path) -> None:
    with pytest.raises(SourceError, match="leave out --data-dir to read from the Hub"):
        Files(directory=directory).find(local=["none"], repo="org/data", patterns=["*"])


def test_what_was_looked_for_and_what_is_near_are_named(directory: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no xnli/x or y/z\. xnli/ holds: test-a\.tsv, "):
        Files(directory=directory).find(local=["xnli/x", "y/z"])
    with pytest.raises(SourceError, match=r"It holds: xnli/\."):
        Files(directory=directory).find(local=["xquad/x"])


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"does not exist\. Check --data-dir"):
        Files(directory=tmp_path / "gone")


def test_what_is_not_on_the_hub_asks_for_a_directory() -> None:
    with pytest.raises(SourceError, match=r"a/b is not on the Hub.*--data-dir"):
        Files().find(local=["a/b"])


def test_has_looks_in_the_directory_alone(directory: Path) -> None:
    files = Files(directory=directory)
    assert files.has(["none", "xnli/*"])
    assert not files.has(["none"])
    assert not files.has(["xnli"]), "a folder is not a file"
    assert Files().has(["anything"])
    assert (files.label, Files().label) == ("directory", "hub")


def test_a_fingerprint_follows_names_and_contents_not_the_place(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = Files(directory=directory)
    paths = files.find(local=["xnli/*"])
    before = files.fingerprint(paths)
    assert before == files.fingerprint(paths[::-1])
    copy = tmp_path_factory.mktemp("copy")
    (copy / "xnli").mkdir()
    for path in paths:
        (copy / "xnli" / path.name).write_bytes(path.read_bytes())
    moved = Files(directory=copy)
    assert moved.fingerprint(moved.find(local=["xnli/*"])) == before
    (directory / "xnli" / "test-a.tsv").write_text("changed")
    assert files.fingerprint(paths) != before
    assert files.fingerprint(paths[1:]) != files.fingerprint(paths[:-1])


def test_a_fingerprint_of_a_file_elsewhere_bears_its_bare_name(
    directory: Path, tmp_path: Path
) -> None:
    path = directory / "xnli" / "test-a.tsv"
    (tmp_path / "b").mkdir()
    twin = tmp_path / "b" / "test-a.tsv"
    twin.write_bytes(path.read_bytes())
    assert Files().fingerprint([path]) == Files().fingerprint([twin])
    assert Files().fingerprint([path]).startswith("sha256:")


def test_a_fingerprint_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        Files().fingerprint([tmp_path / "gone"])
