"""The report shows the certificates that lie beside the store, and says what a red one holds."""

from __future__ import annotations

import json
from pathlib import Path

from maple.certify import certify_study
from maple.files import Files
from maple.report.certificates import certificate_section


def release(root: Path, *, labels: str) -> Files:
    (root / "xnli").mkdir(parents=True)
    rows = [f"Premise {n}.\tHypothesis {n}.\t{label}\n" for n, label in enumerate(labels)]
    (root / "xnli" / "test-en.tsv").write_text("".join(rows), encoding="utf-8")
    return Files(directory=root)


def test_a_file_that_is_not_whole_is_named_with_its_figure(tmp_path: Path) -> None:
    files = release(tmp_path / "data", labels="0120")
    certify_study([("xnli", "eng_Latn")], files, tmp_path / "certificates")
    section = certificate_section(tmp_path / "certificates")
    (task,) = section["tasks"]
    assert (task["task"], task["items"], task["counts"]) == ("xnli", "4", ["1 not whole"])
    ((names, message),) = task["findings"]
    assert names == "English"
    assert "5,010" in message
    assert any("lm-eval" in deviation for deviation in task["deviations"])


def test_no_certificates_is_no_section(tmp_path: Path) -> None:
    assert certificate_section(tmp_path / "none") == {"tasks": [], "problem": ""}


def test_a_certificate_of_another_format_does_not_stop_the_report(tmp_path: Path) -> None:
    (tmp_path / "xnli.json").write_text(json.dumps({"format": 99}), encoding="utf-8")
    section = certificate_section(tmp_path)
    assert not section["tasks"]
    assert "format 99" in section["problem"]
