"""Which engine scores a study, and how it is reached."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from maple.study.spec import Count, Frozen

EngineName = Literal["reference", "openai", "vllm"]
EngineApi = Literal["tokens", "text", "chat"]


class EngineSettings(Frozen):
    """The reference engine, or an optional one that is held against it first."""

    name: EngineName = "reference"
    endpoint: str | None = Field(
        None, description="Of openai: the server's address; else OPENAI_BASE_URL."
    )
    model: str | None = Field(
        None, description="Of openai: what the server calls the model; else the base's name."
    )
    api: EngineApi = Field(
        "tokens",
        description="Of openai: /completions with token ids or with text, or /chat/completions, "
        "which only generates.",
    )
    concurrency: Count = Field(8, description="Of openai: requests under way at once.")
    requests_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Of openai: at most; None: as many as the server takes."
    )
    audit_samples: Count = Field(
        32, description="Samples per task and language that are first held against the reference."
    )

    @model_validator(mode="before")
    @classmethod
    def _named_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> EngineSettings:
        for key, field in type(self).model_fields.items():
            is_stated = getattr(self, key) != field.default
            owners = _OWNERS.get(key, ("openai", "vllm"))
            if key != "name" and is_stated and self.name not in owners:
                raise ValueError(
                    f"{key} means nothing to the engine {self.name!r}; it is a setting of "
                    f"{' and '.join(owners)}"
                )
        return self

    @property
    def identity(self) -> str | None:
        """What of it changes a number, for an evaluation's identity; None: the reference."""
        if self.name != "openai":
            return None if self.name == "reference" else self.name
        return " ".join([self.name, self.api, *([self.model] if self.model else [])])


_OWNERS = dict.fromkeys(
    ("endpoint", "model", "api", "concurrency", "requests_per_minute"), ("openai",)
)
