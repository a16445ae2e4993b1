"""Which language a file is in, told by a small identifier from pieces of its text.

The identifier is py3langid's (Lui and Baldwin 2012, "langid.py", ACL), for 97 languages.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from maple.certify.certificate import Check
from maple.certify.reading import Reading, share, shown
from maple.languages import Language

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_PIECES = 24
_CHARACTERS = 400
"""Length of a piece: on that much text the identifier seldom errs."""
_FEWEST_CHARACTERS = 200

# Standards or neighbours that it takes for one another; no fault of a file.
_CONFUSED = (
    {"id", "ms", "jv"},
    {"bs", "hr", "sr"},
    {"nb", "no", "nn", "da"},
    {"zu", "xh"},
    {"ht", "fr"},
    {"gl", "pt"},
)


def language_check(reading: Reading) -> Check:
    """Compares what the identifier takes the text for with what the file is named."""
    wanted = identifier_name(reading.language)
    if wanted is None:
        message = "The identifier does not know this language."
        return Check(name="language", status="grey", figure="unknown", message=message)
    pieces = _pieces(reading)
    if not pieces:
        message = "There is too little text to tell its language."
        return Check(name="language", status="grey", figure="-", message=message)
    found = Counter(str(_identifier().classify(piece)[0]) for piece in pieces)
    accepted = {wanted}.union(*(names for names in _CONFUSED if wanted in names))
    right = sum(found[name] for name in accepted)
    listed = ", ".join(f"{name} {count}" for name, count in found.most_common(3))
    is_right = 2 * right >= len(pieces)
    return Check(
        name="language",
        status="green" if is_right else "yellow",
        figure=share(right, len(pieces)),
        message=f"{right} of {len(pieces)} pieces of the text are taken for "
        f"{reading.language.name}{'.' if is_right else f', most for {listed}.'}",
        examples=() if is_right else (f"{listed}: {shown(pieces[0])}",),
    )


def identifier_name(language: Language) -> str | None:
    """What the identifier calls a language; None where it does not know it."""
    name, _, script = language.tag.partition("-")
    # A tag names its script where that is not the language's usual one.
    is_usual = not script or language.script in ("Hans", "Hant")
    return name if is_usual and name in _known() else None


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    # One of our own: the package's can be narrowed to a few languages by whoever shares it.
    return LanguageIdentifier.from_model_file(MODEL_FILE)


@cache
def _known() -> frozenset[str]:
    return frozenset(map(str, _identifier().labels))


def _pieces(reading: Reading) -> list[str]:
    """Pieces of about equal length, from items evenly spread over the split."""
    step = max(1, len(reading.samples) // (8 * _PIECES))
    pieces, piece = [], ""
    seen = set()
    for sample in reading.samples[::step]:
        for text in reading.texts(sample):
            if text in seen:
                continue
            seen.add(text)
            piece = f"{piece} {text[:_CHARACTERS]}"
            if len(piece) >= _CHARACTERS:
                pieces.append(piece)
                piece = ""
    if not pieces and len(piece) >= _FEWEST_CHARACTERS:
        pieces = [piece]
    spread = max(1, len(pieces) // _PIECES)
    return pieces[::spread][:_PIECES]
