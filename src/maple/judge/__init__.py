"""Open-ended answers, judged: AlpacaEval's files, verdicts and win rates.

outputs.json + reference.json --pair--> protocol's messages --client--> verdicts.jsonl
                                                                             |
win_rate.json <--win_rate, length_controlled-- annotations.json <------------+
"""

from maple.judge.annotations import Annotation, annotate, read_annotations, write_annotations
from maple.judge.asking import Estimate, ask_all, estimate
from maple.judge.client import Endpoint, EndpointSettings
from maple.judge.length import GamedBaselines, LengthControlled, length_controlled, read_gamed
from maple.judge.outputs import Output, Pair, pair_outputs, read_outputs, write_outputs
from maple.judge.protocols import PROTOCOLS, Protocol, annotator_name, load_protocol
from maple.judge.results import summarise, worded
from maple.judge.verdicts import Verdict, VerdictCache
from maple.judge.winrate import WinRate, win_rate

__all__ = [
    "PROTOCOLS",
    "Annotation",
    "Endpoint",
    "EndpointSettings",
    "Estimate",
    "GamedBaselines",
    "LengthControlled",
    "Output",
    "Pair",
    "Protocol",
    "Verdict",
    "VerdictCache",
    "WinRate",
    "annotate",
    "annotator_name",
    "ask_all",
    "estimate",
    "length_controlled",
    "load_protocol",
    "pair_outputs",
    "read_annotations",
    "read_gamed",
    "read_outputs",
    "summarise",
    "win_rate",
    "worded",
    "write_annotations",
    "write_outputs",
]
