"""Words every item in every prompt form, and checks what the words became."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping

from maple.catalog.contracts import GenerationRequest, Request, Sample, TaskInfo
from maple.certify.certificate import PromptForm, Status
from maple.certify.reading import EXAMPLES, Reading, Worded
from maple.errors import MapleError, UsageError
from maple.study import PromptSettings

_FORMS: Mapping[str, PromptSettings] = {
    "mega, English": PromptSettings(form="mega"),
    "mega, native": PromptSettings(form="mega", instruction_language="native"),
    "lm-eval": PromptSettings(form="lm-eval"),
    "completion": PromptSettings(form="completion"),
}
_MORE: Mapping[str, tuple[str, PromptSettings]] = {
    "mega, cloze": ("choices", PromptSettings(form="mega", choices="cloze")),
    "mega, generated": ("scoring", PromptSettings(form="mega", scoring="generation")),
}
"""Forms of tasks that heed a setting, by that setting's name."""
_PLACEHOLDER = re.compile(r"\{[A-Za-z_0-9]*\}")
_EXAMPLE_CHARACTERS = 1_500


def forms_of(info: TaskInfo) -> dict[str, PromptSettings]:
    """The prompt forms of a task by name, the default one first."""
    more = {name: s for name, (setting, s) in _MORE.items() if setting in info.settings}
    return {**_FORMS, **more}


def word_all(reading: Reading) -> Iterator[PromptForm]:
    """Words the items in each form; forms that word all of them are kept in ``reading.worded``."""
    for name, settings in forms_of(reading.task.info).items():
        yield _word(reading, name, settings)


def prompt_text(request: Request, continuation: str | None = None) -> str:
    """What a model is shown without a template: the context, and one continuation of it."""
    if isinstance(request, GenerationRequest):
        return f"{request.context}{request.delimiter}"
    chosen = max(request.continuations, key=len) if continuation is None else continuation
    return f"{request.context}{request.delimiter}{chosen}"


def _word(reading: Reading, name: str, settings: PromptSettings) -> PromptForm:
    requests = []
    for sample in reading.samples:
        try:
            requests.append(reading.task.request(sample, reading.language.code, settings))
        except UsageError as error:
            return _without(name, _first_sentence(error), "grey", len(requests))
        except (MapleError, LookupError, TypeError, ValueError) as error:
            message = f"item {sample.id} cannot be worded: {type(error).__name__}: {error}."
            return _without(name, message, "red", len(requests))
    reading.worded[name] = Worded(settings, requests)
    return _checked(reading, name, requests)


def _without(name: str, message: str, status: Status, rendered: int) -> PromptForm:
    return PromptForm(name=name, status=status, rendered=rendered, digest="", message=message)


def _first_sentence(error: Exception) -> str:
    return str(error).split(". ")[0].rstrip(".") + "."


def _checked(reading: Reading, name: str, requests: list[Request]) -> PromptForm:
    digest = hashlib.sha256()
    faults: dict[str, list[str]] = {}
    for sample, request in zip(reading.samples, requests, strict=True):
        text = "\0".join((sample.id, *_parts(request)))
        digest.update(text.encode("utf-8", "surrogatepass"))
        for fault in _faults(sample, request):
            faults.setdefault(fault, []).append(sample.id)
    if name == "lm-eval":
        # Parity: where the harness puts two spaces, so does this form.
        faults.pop(_SPACES, None)
    told = [
        f"Items that {fault}: {len(ids):,} ({', '.join(ids[:EXAMPLES])})"
        for fault, ids in faults.items()
    ]
    status: Status = "red" if _BRACES in faults else "yellow" if faults else "green"
    first = requests[0]
    return PromptForm(
        name=name,
        status=status,
        rendered=len(requests),
        digest=digest.hexdigest()[:16],
        message=f"{'. '.join(told)}." if told else f"All {len(requests):,} items are worded.",
        example=_cut(f"{first.context}{first.delimiter}"),
        options=()
        if isinstance(first, GenerationRequest)
        else tuple(_cut(option) for option in first.continuations),
    )


_BRACES = "keep a placeholder in braces"
_SPACES = "get two spaces where they have one"
_FORM = "leave normal form C in the wording"
_EMPTY = "have an empty option"


def _faults(sample: Sample, request: Request) -> Iterator[str]:
    text = prompt_text(request)
    own = sample.fields.values()
    if "{" in text and any(
        not any(found in field for field in own) for found in _PLACEHOLDER.findall(text)
    ):
        yield _BRACES
    # Outer white space of an item is told by a check of its own.
    if "  " in text and not any("  " in field or field != field.strip() for field in own):
        yield _SPACES
    if not unicodedata.is_normalized("NFC", text) and all(
        unicodedata.is_normalized("NFC", field) for field in own
    ):
        yield _FORM
    if not isinstance(request, GenerationRequest) and not all(map(str.strip, _options(request))):
        yield _EMPTY


def _options(request: Request) -> tuple[str, ...]:
    return () if isinstance(request, GenerationRequest) else request.continuations


def _parts(request: Request) -> tuple[str, ...]:
    return request.context, request.delimiter, *_options(request)


def _cut(text: str) -> str:
    """A text without its middle where it is long: a prompt's question stands at its end."""
    half = _EXAMPLE_CHARACTERS // 2
    if len(text) <= _EXAMPLE_CHARACTERS:
        return text
    return f"{text[:half]} […{len(text) - 2 * half:,} characters…] {text[-half:]}"
