"""What the runs of an Atlas store lost: bits per character, and skills in pre-training's words.

`python scripts/atlas_forgetting.py STORE [LANGUAGES]` probes the untouched bases and every adapter
of a store on text and questions of the kinds that the base was trained on, in the languages named
(en,es,ru,bg,sw,pcm by default), and prints a line of JSON a run and a table at the end.
"""

import json
import sys
from pathlib import Path
from typing import Any

from maple.atlas.probes import Prober, bits_per_character, probe
from maple.base import load_base
from maple.catalog import load_method
from maple.languages import find
from maple.plan import Resolver
from maple.store.read import StoredRun, open_store
from maple.study import ModelRef

SAMPLES = 60
CHARACTERS = 6_000
DEFAULT = "en,es,ru,bg,sw,pcm"

Row = dict[str, dict[str, float]]


def main() -> None:
    """Reads the arguments, probes every run, and prints."""
    directory = Path(sys.argv[1])
    codes = [find(name).code for name in (sys.argv[2:] or [DEFAULT])[0].split(",")]
    store = open_store(directory)
    table = {}
    for run in store.runs():
        if run.status != "done":
            continue
        table[run.cell.label] = _probe(run, store.layout.adapter(run.run_id), codes)
        print(json.dumps({run.cell.label: table[run.cell.label]}), flush=True)
    for label, row in table.items():
        print(f"{label:55}", " ".join(f"{row[code]['bits']:.3f}" for code in codes))


def _probe(run: StoredRun, adapter: Path, codes: list[str]) -> Row:
    base = load_base(
        str(_directory(run.cell.model)), quantization=run.cell.quantization, device="cpu"
    )
    model: Any = base.model
    if not run.cell.is_base:
        model = load_method(run.cell.method, run.cell.parameters).load(base.model, adapter)
    prober = Prober(model.eval(), base.tokenizer)
    bits = bits_per_character(prober, codes, CHARACTERS)
    skills = probe(prober, SAMPLES, codes)
    return {code: {"bits": round(bits[code], 4), **skills[code]} for code in codes}


def _directory(name: str) -> Path:
    from maple.files import Files, Hub, Lock

    path = Resolver(Files(hub=Hub(Lock(Path("maple.lock"))))).model_directory(ModelRef(name=name))
    if path is None:
        raise SystemExit(f"{name} is not a model on this machine")
    return path


if __name__ == "__main__":
    main()
