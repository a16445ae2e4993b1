"""Small files in the upstream layouts, small studies, and what a store holds of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from maple.store.read import open_store

INSTRUCTIONS = "instructions.jsonl"


LANGUAGES = ("sw", "tr")


def write_data(folder: Path, *, samples: int = 10) -> Path:
    """Writes ``samples`` items of each task and language, and instructions; returns the folder."""
    for language in LANGUAGES:
        _write_xnli(folder / "xnli", language, samples)
        _write_xcopa(folder / "xcopa" / "data" / language, language, samples)
        _write_xquad(folder / "xquad", language, samples)
    rows = [
        {
            "instruction": f"Taja namba {n}.",
            "output": f"Namba {n} ni {n * n}.",
            "language": language,
        }
        for n in range(24)
        for language in LANGUAGES
    ]
    write_lines(folder / INSTRUCTIONS, rows)
    return folder


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def _write_xnli(folder: Path, language: str, samples: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (f"Mtu {n} anakula chakula.\tMtu {n} ana njaa ({language}).\n" for n in range(samples))
    (folder / f"test-{language}.tsv").write_text("".join(lines), encoding="utf-8")
    words = ("entailment", "neutral", "contradiction")
    write_lines(
        folder / "gold_labels_jsonl" / "en.test.jsonl",
        [{"label": words[n % 3]} for n in range(samples)],
    )


def _write_xcopa(folder: Path, language: str, samples: int) -> None:
    rows = [
        {
            "premise": f"Kikombe {n} kilianguka.",
            "choice1": "Kilivunjika.",
            "choice2": f"Kiliruka {language}.",
            "question": ("cause", "effect")[n % 2],
            "label": n % 2,
            "idx": n,
            "changed": False,
        }
        for n in range(samples)
    ]
    write_lines(folder / f"test.{language}.jsonl", rows)


def _write_xquad(folder: Path, language: str, samples: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    questions = [
        {
            "id": f"q{n}",
            "question": f"Mji wa {n} ni upi?",
            "answers": [{"text": f"mji {n}", "answer_start": 0}],
        }
        for n in range(samples)
    ]
    paragraphs = [{"context": "mji 1 mji 2", "qas": questions}]
    content = {"data": [{"title": "t", "paragraphs": paragraphs}]}
    path = folder / f"xquad.{language}.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def study(model: Path | str, **changes: Any) -> dict[str, Any]:
    """A study of the tiny base as a mapping; ``changes`` replace its top-level keys."""
    content: dict[str, Any] = {
        "name": "tiny",
        "models": [str(model)],
        "methods": ["none", {"lora": {"rank": [2, 4], "dropout": 0.1}}],
        "quantization": ["nf4", "bf16"],
        "mixtures": {"own": {"jsonl": {"path": INSTRUCTIONS, "languages": ["sw", "tr"]}}},
        "training": {
            "learning_rate": 1e-2,
            "max_steps": 4,
            "batch_size": 4,
            "max_length": 128,
            "warmup_steps": 1,
        },
        "evaluate": {
            "tasks": ["xnli", "xcopa", "xquad"],
            "languages": ["sw", "tr"],
            "decoding": {"max_new_tokens": 8},
        },
    }
    return content | changes


def small_study(model: Path | str, **changes: Any) -> dict[str, Any]:
    """One LoRA run at fp32 on two samples: the fastest study that trains and scores."""
    content = study(model, methods=[{"lora": {"rank": 2}}], quantization=["fp32"])
    content["evaluate"] = {"tasks": ["xcopa"], "languages": ["sw"], "limit": 2}
    return content | changes


def write_study(path: Path, content: Mapping[str, Any]) -> Path:
    """Writes a study file."""
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
    return path


def stored_rows(directory: Path) -> list[dict[str, Any]]:
    """Every sample row of a store, in a fixed order."""
    rows = open_store(directory).query(
        "SELECT * FROM samples ORDER BY run_id, task, language, sample_id, eval_id"
    )
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


def stored_curves(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Loss, learning rate and gradient norm of every step, by run."""
    columns = ["step", "loss", "learning_rate", "grad_norm", "tokens", "label_tokens"]
    return {
        path.parent.name: pq.read_table(path, columns=columns).to_pylist()
        for path in sorted(directory.glob("runs/*/curve.parquet"))
    }


def stored_adapters(directory: Path) -> dict[str, bytes]:
    """Bytes of every file of every adapter, by relative path."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.glob("runs/*/adapter/**/*"))
        if path.is_file()
    }


def leftovers(directory: Path) -> list[Path]:
    """Temporary files anywhere in a store."""
    return sorted(directory.rglob(".tmp-*"))
