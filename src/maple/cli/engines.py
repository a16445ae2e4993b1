"""Options that choose what scores: the reference engine, or one that is audited against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from maple.study import EngineSettings

Engine = Annotated[
    Literal["reference", "openai", "vllm"],
    typer.Option(help="What scores; openai: an endpoint that speaks OpenAI's API."),
]
Url = Annotated[
    str | None, typer.Option("--endpoint", help="Its address; default: OPENAI_BASE_URL.")
]
EngineModel = Annotated[
    str | None, typer.Option(help="What the endpoint calls the model; default: MODEL.")
]
EngineApi = Annotated[
    Literal["tokens", "text", "chat"],
    typer.Option(help="Send token ids, text, or chat messages (generation only)."),
]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests to the endpoint at once.")]
Pace = Annotated[float | None, typer.Option(min=0.001, help="At most, to the endpoint.")]
AuditSamples = Annotated[
    int, typer.Option(min=1, help="Per task and language, first held against the reference.")
]
Reference = Annotated[
    bool,
    typer.Option(
        "--reference/--no-reference",
        help="--no-reference: MODEL is only behind the endpoint; the record says so.",
    ),
]
Tokenizer = Annotated[
    str | None, typer.Option(help="Of a MODEL without reference: directory or Hub repository.")
]


def engine_settings(given: dict[str, Any]) -> EngineSettings:
    """The settings that a command's options state.

    Raises:
        UsageError: an option that the chosen engine knows nothing of.
    """
    from pydantic import ValidationError

    from maple.errors import UsageError
    from maple.study import EngineSettings

    try:
        return EngineSettings(
            name=given["engine"],
            endpoint=given["endpoint"],
            model=given["engine_model"],
            api=given["engine_api"],
            concurrency=given["concurrency"],
            requests_per_minute=given["requests_per_minute"],
            audit_samples=given["audit_samples"],
        )
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"{said}. See `maple eval --help`.") from None
