"""What every specification is: frozen, strict, and known by the hash of its canonical JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

Scalar = bool | int | float | str


class Frozen(BaseModel):
    """The base of every specification: immutable, strict about unknown keys, hashable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML reads yes and on as true, and Python's int() would make it 1.
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field and "bool" not in str(field.annotation):
            raise ValueError("yes, no, on, off, true and false are not a value here")
        return value

    def __hash__(self) -> int:
        return hash(canonical_json(self))


def canonical_json(value: BaseModel | Mapping[str, Any]) -> str:
    """Renders a specification as the one JSON text that its identity hashes.

    Keys are sorted, no white space, no NaN; floats that are whole numbers stay floats, so
    ``1`` and ``1.0`` differ only where the schema lets both types through.
    """
    content = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def content_id(value: BaseModel | Mapping[str, Any]) -> str:
    """Returns the first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
