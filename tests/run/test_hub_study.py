"""A whole study from the Hub's layout: fetched, locked, then run with the Hub switched off."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.files.hub_server import HubServer

STUDY = """\
name: from-the-hub
models: [maple-tests/tiny]
methods: [none, {lora: {rank: 2, targets: attention, dropout: 0.1}}]
quantization: [fp32]
mixtures:
  generated: {multialpaca: {weight: 1.0, languages: [es]}}
  translated: {bactrian-x: {weight: 1.0, languages: [sw]}}
training: {max_steps: 2, batch_size: 2, max_length: 64, warmup_steps: 0, learning_rate: 0.01}
evaluate:
  tasks: [xnli, xcopa, xquad]
  languages: [sw, th]
  decoding: {max_new_tokens: 4}
"""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def publish(server: HubServer, model: Path) -> None:
    rows = [{"instruction": f"Di {n}.", "input": None, "output": f"Digo {n}."} for n in range(6)]
    lines = "".join(json.dumps(r) + "\n" for r in rows).encode()
    bactrian = [{**r, "input": "", "id": f"alpaca-{n}"} for n, r in enumerate(rows)]
    server.commit("models", "maple-tests/tiny", {p.name: p.read_bytes() for p in model.iterdir()})
    server.commit("datasets", "DAMO-NLP-MT/multialpaca", {"es.jsonl": lines})
    server.commit(
        "datasets",
        "MBZUAI/Bactrian-X",
        {"data/sw.json": json.dumps(bactrian).encode(), "Bactrian-X.py": b"raise SystemExit"},
    )
    nli = [{"premise": f"P {n}.", "hypothesis": f"H {n}.", "label": n % 3} for n in range(6)]
    copa = [
        {"premise": f"P {n}.", "choice1": "A.", "choice2": "B.", "question": "cause",
         "label": n % 2, "idx": n, "changed": False}
        for n in range(4)
    ]  # fmt: skip
    squad = [
        {"id": f"q{n}", "context": f"Nambari {n} ni hii.", "question": "Ngapi?",
         "answers": {"text": [str(n)], "answer_start": [8]}}
        for n in range(3)
    ]  # fmt: skip
    for task, repo, configs, content in (
        ("test", "facebook/xnli", ("sw", "th"), nli),
        ("test", "cambridgeltl/xcopa", ("sw", "th"), copa),
        ("validation", "google/xquad", ("xquad.th",), squad),
    ):
        name = "{config}/{split}-00000-of-00001.parquet"
        files = {name.format(config=c, split=task): parquet(content) for c in configs}
        server.commit("datasets", repo, files)


@pytest.fixture
def maple(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*arguments: str, endpoint: str, offline: bool) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
            "HF_HOME": str(tmp_path / "hf"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_OFFLINE": str(int(offline)),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(
            [sys.executable, "-m", "maple", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200,
        )  # fmt: skip

    return call


def test_a_study_is_fetched_once_locked_and_runs_offline(
    tmp_path: Path,
    maple: Callable[..., subprocess.CompletedProcess[str]],
    model_directory: Callable[..., Path],
) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    with HubServer() as server:
        publish(server, model_directory("llama"))
        fetched = maple("fetch", "study.yaml", endpoint=server.endpoint, offline=False)
        assert fetched.returncode == 0, fetched.stderr
        assert not any(path.endswith(".py") for _, path in server.requests)
        endpoint = server.endpoint
    lock = json.loads((tmp_path / "maple.lock").read_text(encoding="utf-8"))
    assert set(lock["models"]) == {"maple-tests/tiny"}
    assert {"DAMO-NLP-MT/multialpaca", "MBZUAI/Bactrian-X", "facebook/xnli"} <= set(
        lock["datasets"]
    )

    done = maple("run", "study.yaml", "--out", "out", endpoint=endpoint, offline=True)
    assert done.returncode == 0, done.stdout + done.stderr
    specs = [json.loads(p.read_text()) for p in (tmp_path / "out").glob("runs/*/spec.json")]
    assert len(specs) == 3
    assert {s["model"]["revision"] for s in specs} == {lock["models"]["maple-tests/tiny"]}
    evaluations = [json.loads(p.read_text()) for p in (tmp_path / "out").glob("evals/*/spec.json")]
    assert {e["data"] for e in evaluations if e["task"] == "xnli"} == {
        f"hub:facebook/xnli@{lock['datasets']['facebook/xnli']}"
    }
    assert {(e["task"], e["language"]) for e in evaluations} == {
        ("xnli", "swh_Latn"), ("xnli", "tha_Thai"), ("xcopa", "swh_Latn"),
        ("xcopa", "tha_Thai"), ("xquad", "tha_Thai"),
    }  # fmt: skip
    adapter = next((tmp_path / "out").glob("runs/*/adapter/adapter_config.json"))
    assert json.loads(adapter.read_text())["base_model_name_or_path"] == "maple-tests/tiny"
