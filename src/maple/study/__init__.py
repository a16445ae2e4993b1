"""The question: what a study asks, as frozen and hashable values."""

from maple.study.early_look import EarlyLook
from maple.study.engines import EngineSettings
from maple.study.spec import (
    LOOP_VERSION,
    DecodingSettings,
    EvalSpec,
    MethodRef,
    Mixture,
    MixturePart,
    ModelRef,
    PromptSettings,
    RunSpec,
    TrainingSettings,
    ValidationSettings,
    canonical_json,
    content_id,
)

__all__ = [
    "LOOP_VERSION",
    "DecodingSettings",
    "EarlyLook",
    "EngineSettings",
    "EvalSpec",
    "MethodRef",
    "Mixture",
    "MixturePart",
    "ModelRef",
    "PromptSettings",
    "RunSpec",
    "TrainingSettings",
    "ValidationSettings",
    "canonical_json",
    "content_id",
]
