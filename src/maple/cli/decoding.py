"""Options that say how generated text is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from maple.study import DecodingSettings

MaxNewTokens = Annotated[
    int | None, typer.Option(min=1, help="Of an answer at most; default: each task's own.")
]
Temperature = Annotated[
    float, typer.Option(min=0, help="0: the most likely token; above, tokens are drawn.")
]
TopP = Annotated[
    float, typer.Option(help="Draw from the fewest tokens that hold this share of probability.")
]
TopK = Annotated[int | None, typer.Option(min=1, help="Draw from so many most likely tokens.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the draws; each sample has its own.")]


def decoding_settings(given: dict[str, Any]) -> DecodingSettings:
    """The settings that a command's options state.

    Raises:
        UsageError: an option without effect, or a share that is none.
    """
    from pydantic import ValidationError

    from maple.errors import UsageError
    from maple.study import DecodingSettings

    keys = ("max_new_tokens", "temperature", "top_p", "top_k", "seed")
    try:
        return DecodingSettings(**{key: given[key] for key in keys})
    except ValidationError as error:
        first = error.errors()[0]
        named = f"{first['loc'][0]}: " if first["loc"] else ""
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{named}{said}. See `maple eval --help`.") from None
