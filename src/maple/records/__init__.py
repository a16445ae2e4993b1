"""The answers: frozen rows that a run leaves behind, and their Parquet schemas."""

from maple.records.rows import (
    CURVE_SCHEMA,
    PROMPT_SCHEMA,
    SAMPLE_SCHEMA,
    CurveRow,
    PromptRecord,
    SampleRecord,
    TrainRecord,
)

__all__ = [
    "CURVE_SCHEMA",
    "PROMPT_SCHEMA",
    "SAMPLE_SCHEMA",
    "CurveRow",
    "PromptRecord",
    "SampleRecord",
    "TrainRecord",
]
