"""Why there is no recommendation before anything is compared, and what to run then.

    no answers, or too few -> nothing whole, nothing that fits -> English lost or not known

Each rule leaves its verdict on every candidate it rules out; where none is left it refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from maple.analysis.groups import ENGLISH, facts
from maple.analysis.recommend_case import Case, finish
from maple.analysis.recommend_gates import check_english, informative_languages, is_above_chance
from maple.analysis.recommend_next import (
    english_cell,
    missing_cell,
    near_languages,
    scarce_cell,
    unfinished_cells,
)
from maple.analysis.recommend_result import NextCell, Recommendation

MANY = 12
"""Languages named in a sentence; more are counted."""


def refuse(
    case: Case, reasons: Sequence[str], next_cells: Sequence[NextCell] = ()
) -> Recommendation:
    """Returns a refusal with all that is known of the case."""
    return finish(case, None, reasons=tuple(reasons), next_cells=tuple(next_cells))


def without_answers(case: Case) -> Recommendation | None:
    """Refuses where a language asked for has no, or too few, answers to compare by."""
    found, request = case.found, case.request
    have = {code for _, codes in found.cells for code in codes}
    missing = [code for code in request.languages if code not in have]
    if not case.order:
        return refuse(case, ["the store has no trained configuration: there is none to choose"])
    if missing:
        reasons = [_unevaluated(case, code) for code in missing]
        if have:
            reasons.append(f"for {named(sorted(have))} there are data: ask for these alone")
        cell = missing_cell(case.evidence, missing, _trained(case), tasks=request.tasks)
        return refuse(case, reasons, [cell])
    n, n_open = len(found.candidates), len(found.partial) + len(found.unscored)
    if n < n_open:
        reason = (
            f"only {n} of {n + n_open} configurations have answers in all of these tasks and "
            "languages: the best may be one of the others. Finish them (maple run)"
        )
        return refuse(case, [reason], unfinished_cells(found))
    few = {code: n for code, n in found.samples().items() if n < request.min_samples}
    if few:
        worded = ", ".join(f"{n} in {named([code])}" for code, n in few.items())
        reason = f"too few shared samples: {worded}; at least {request.min_samples} are needed"
        return refuse(case, [reason], [scarce_cell(found, tuple(few), request.min_samples)])
    return None


def _trained(case: Case) -> dict[str, list[str]]:
    """Label -> run ids of every trained configuration."""
    return {
        case.found.labels[name]: [run.run_id for run in case.evidence.groups[name]]
        for name in case.order
    }


def _unevaluated(case: Case, code: str) -> str:
    evaluated, asked = case.evidence.evaluated, case.request.tasks
    tasks = [task for task in evaluated.get(code, ()) if not asked or task in asked]
    if asked and not tasks:
        others = ", ".join(evaluated.get(code, ())) or "nothing"
        return f"{named([code])} is not evaluated by {', '.join(asked)}; by others: {others}"
    if tasks:
        return f"{named([code])} has scores of too few configurations ({', '.join(tasks)})"
    near = near_languages(code, sorted(evaluated))
    hint = f"the nearest with data: {named(near)}" if near else "no near language has data"
    return f"{named([code])} is not evaluated; {hint}; the study has {named(sorted(evaluated))}"


def named(codes: Sequence[str]) -> str:
    """Returns languages with their codes, the first of many."""
    text = ", ".join(f"{facts(code).name} ({code})" for code in codes[:MANY])
    more = f" and {len(codes) - MANY} more" if len(codes) > MANY else ""
    return (text or "none") + more


def over_memory(case: Case) -> Recommendation | None:
    """Rules out what does not fit the memory; refuses where nothing does."""
    limit, at = case.request.memory_bytes, case.request.memory_at
    if limit is None:
        return None
    compared = case.eligible
    for name in compared:
        size = case.sizes[name]
        if size.memory_bytes is None:
            case.verdicts[name] = ("memory not known", f"at {at} neither measured nor planned")
        elif size.memory_bytes > limit:
            case.verdicts[name] = ("over memory", "")
    if case.eligible:
        return None
    needed = [n for name in compared if (n := case.sizes[name].memory_bytes)]
    least = (
        f"the smallest, {case.found.labels[compared[0]]}, needs {_gib(min(needed))}"
        if needed
        else "of none is the memory known"
    )
    reason = (
        f"nothing compared here fits {_gib(limit)} at {at}; {least}. Allow more, or run fewer "
        "bits, shorter examples or a smaller base"
    )
    return refuse(case, [reason])


def _gib(n: int) -> str:
    return f"{n / 2**30:.3g} GiB"


def loses_english(case: Case) -> Recommendation | None:
    """Rules out what loses more English than allowed, or may and cannot be checked."""
    allowed = case.request.keep_english
    case.english_check = check_english(case.evidence, case.request, case.eligible)
    if allowed is None:
        return None
    compared = case.eligible
    for name in compared:
        english = case.english.get(name)
        if english is None:
            reason = "no English answers beside its untouched base's"
            case.verdicts[name] = ("English not known", reason)
        elif english.status == "out":
            how = "" if english.change.high < -allowed / 100 else ", by the estimate alone"
            case.verdicts[name] = ("loses English", f"more than {allowed:g} points{how}")
    if case.eligible:
        return None
    lost = [name for name in compared if name in case.english]
    if not lost:
        reason = (
            f"whether more than {allowed:g} points of English are lost is not known: no "
            "configuration that fits has English answers beside its untouched base's. Score "
            "English, or ask without --keep-english"
        )
        return refuse(case, [reason], [missing_cell(case.evidence, [ENGLISH], _trained(case))])
    nearest = max(lost, key=lambda name: case.english[name].change.value)
    change = case.english[nearest].change
    reason = (
        f"every configuration that fits loses more than {allowed:g} points in English by its "
        f"estimate; the least, {case.found.labels[nearest]}, loses {-100 * change.value:.1f}"
    )
    is_open = change.high >= -allowed / 100
    cells = [english_cell(case.english_check, nearest, allowed / 100)] if is_open else []
    return refuse(case, [reason], cells)


def at_chance(case: Case) -> Recommendation | None:
    """Refuses where nothing is told from guessing; notes the languages in which nothing is."""
    found, request = case.found, case.request
    above, silent = informative_languages(found, request)
    if above and is_above_chance(found, request):
        if silent:
            case.notes.append(
                f"in {named(silent)} nothing is told from guessing: the recommendation rests on "
                "the other languages"
            )
        return None
    reason = (
        "nothing is told from guessing in the languages asked for, tuned or not: run easier tasks "
        "or a stronger base"
    )
    return refuse(case, [reason])
