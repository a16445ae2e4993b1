"""Options that say whether a task is left off once its comparison is decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from maple.study import EarlyLook

Asked = Annotated[
    bool,
    typer.Option(
        "--early-look",
        help="Leave a task off once an adapter's difference to the base is decided; scored parts "
        "are flagged and never averaged.",
    ),
]
Alpha = Annotated[float, typer.Option(help="Two-sided error that early looks spend.")]
Divide = Annotated[
    str,
    typer.Option(
        help="grid: that error is of all comparisons of this call together; a number: of so many, "
        "in all calls; none: of each."
    ),
]
Futility = Annotated[
    float | None,
    typer.Option(help="Stop too once the difference cannot be more than so many points."),
]
Against = Annotated[str, typer.Option(help="base, or one of the --adapter directories.")]


def early_look_settings(given: dict[str, Any]) -> EarlyLook | None:
    """The settings that a command's options state; None without ``--early-look``.

    Raises:
        UsageError: an error rate or a number of points that is none; an option without effect.
    """
    from pydantic import ValidationError

    from maple.errors import UsageError
    from maple.study import EarlyLook

    stated = {
        "alpha": given["early_look_alpha"],
        "divide": given["early_look_divide"],
        "futility_points": given["early_look_futility"],
        "against": given["early_look_against"],
    }
    try:
        settings = EarlyLook(**stated)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"early look, {first['loc'][0]}: {first['msg']}. See `maple eval --help`."
        ) from None
    if given["early_looks"]:
        return settings
    if settings != EarlyLook():
        raise UsageError("the --early-look-... options mean nothing without --early-look: add it.")
    return None
