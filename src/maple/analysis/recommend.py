"""Which configuration to take for some languages: the smallest that cannot be told from the best.

    answers -> candidates that answered the same cells -> those that fit the memory and keep English
            -> is anything above chance? above its base? -> who cannot be told from the best
            -> the smallest of these -> what larger ones gain and cost, how sure, what to run next

Where one of these questions has no answer there is no recommendation, and the refusal says what to
run. ``docs/recommend.md`` states every rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from maple.analysis.groups import ENGLISH
from maple.analysis.intervals import Interval, student_p
from maple.analysis.recommend_case import Case, finish, open_case
from maple.analysis.recommend_evidence import Evidence, load_evidence
from maple.analysis.recommend_gates import base_names, configured_means, gains_over_base
from maple.analysis.recommend_joint import against_best, simultaneous
from maple.analysis.recommend_languages import by_language, rests_on
from maple.analysis.recommend_next import (
    WORTH,
    base_cell,
    deciding_cell,
    english_cell,
    unfinished_cells,
)
from maple.analysis.recommend_refusals import (
    at_chance,
    loses_english,
    over_memory,
    refuse,
    without_answers,
)
from maple.analysis.recommend_request import Request
from maple.analysis.recommend_result import NextCell, Recommendation, Step
from maple.store.read import Store

N_STEPS = 3
"""Next sizes up that are shown."""


def recommend(source: Store | Evidence, request: Request) -> Recommendation:
    """Returns the smallest configuration that cannot be told from the best one, or a refusal.

    Args:
        source: a store, or answers that were loaded or made elsewhere.
        request: languages, memory, and what English may lose.

    Raises:
        StoreError: a file of the store cannot be read or is not as documented.
    """
    evidence = source
    if isinstance(evidence, Store):
        wanted = (*request.languages, ENGLISH)
        evidence = load_evidence(evidence, wanted, request.tasks)
    case = open_case(evidence, request)
    refusal = without_answers(case) or over_memory(case) or loses_english(case) or at_chance(case)
    if refusal:
        return refusal
    _measure(case)
    return _choose(case)


# -------------------------------------------------------------------------------- the choice


def _measure(case: Case) -> None:
    """Adds the means, the gains over bases and the comparison with the best."""
    request, found = case.request, case.found
    case.bases = base_names(found)
    case.configured = configured_means(found, request)
    case.gains = gains_over_base(case.configured, case.bases, case.eligible, request.confidence)
    limit = request.memory_bytes
    bases = [
        name
        for name in found.bases
        if limit is None or (case.sizes[name].memory_bytes or 0) <= limit
    ]
    case.against = against_best(case.measured.subset([*case.eligible, *bases]), request.confidence)


def _choose(case: Case) -> Recommendation:
    eligible = case.eligible
    tied = [name for name in eligible if case.against[name].is_tied]
    above = [name for name in tied if case.gains.is_above(name) is not False]
    for name in eligible:
        if name not in tied:
            case.verdicts[name] = ("below the best", "")
        elif name not in above:
            case.verdicts[name] = ("tied, not above its base", "")
    if not above:
        return refuse(case, *_nothing_above(case, eligible, tied))
    chosen = _smallest_near(case, above)
    case.verdicts |= {name: ("tied, larger", "") for name in above if name not in case.verdicts}
    case.verdicts[chosen] = ("recommended", "")
    steps, cells = _steps(case, chosen, eligible)
    case.notes += rests_on(case, chosen)
    return finish(
        case,
        chosen,
        steps=steps,
        next_cells=(*_unknowns(case, chosen), *cells),
        by_language=by_language(case, chosen),
    )


def _unknowns(case: Case, chosen: str) -> list[NextCell]:
    """What is not known of others, of the gain over the base, and of English."""
    cells = unfinished_cells(case.found)
    if case.gains.is_above(chosen) is None:
        cells.append(base_cell(case.found))
    check, allowed = case.english_check, case.request.keep_english
    english = case.english.get(chosen)
    if check and english and allowed is not None and english.status == "cannot tell":
        cells.append(english_cell(check, chosen, allowed / 100))
    return cells


def _smallest_near(case: Case, above: Sequence[str]) -> str:
    """The smallest that nothing speaks against by itself; failing that, the smallest.

    With few data a poor configuration is not told from the best one, and to take it for as good
    would be the data's weakness, not its strength. To pass over a good one costs size alone, so
    what speaks against one is not adjusted for how many there are.
    """
    reasons = {name: _against(case, name) for name in above}
    near = [name for name in above if reasons[name] is None]
    if not near:
        case.notes.append(
            "the data are too few to say how far it is behind the best: that may be more than it "
            "gains over its base"
        )
        return above[0]
    for name in above[: above.index(near[0])]:
        case.verdicts[name] = ("tied, not near enough", reasons[name] or "")
    return near[0]


def _against(case: Case, name: str) -> str | None:
    """What speaks against a tied configuration by itself; None where nothing does."""
    values = dict(zip(case.measured.names, case.measured.values, strict=True))
    best = max(case.against, key=lambda n: values[n])
    if values[best] - values[name] >= WORTH:
        means = case.measured.as_scored()
        lead, covariance, df = means.contrast(means.difference(name, [best]))
        p = student_p(float(lead[0]), float(covariance[0, 0]), float(df[0]))
        if p < 1 - case.request.confidence:
            told = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
            return f"below the highest estimate in a comparison of the two alone ({told})"
    gain, most = case.gains.of(name), case.against[name].behind_at_most
    if gain is not None and most >= gain[0].value:
        gained, behind = 100 * gain[0].value, 100 * most
        return f"it may be {behind:.1f} points behind the best, and gains {gained:.1f}"
    return None


def _nothing_above(
    case: Case, eligible: Sequence[str], tied: Sequence[str]
) -> tuple[list[str], list[NextCell]]:
    """Why there is none above its base, and what would show one if there is."""
    values = dict(zip(case.measured.names, case.measured.values, strict=True))
    best = max(eligible, key=lambda n: values[n])
    highest = f"the highest estimate, {case.found.labels[best]}, is"
    if not tied:
        above = case.found.labels[max(case.against.keys() - {*eligible}, key=lambda n: values[n])]
        reason = f"an untouched base is told to be above every configuration that fits ({above})"
        return [f"{reason}: {highest} {100 * case.against[best].behind:.1f} points behind"], []
    reasons = ["no configuration is told to be above its untouched base in these languages"]
    if gain := case.gains.of(best):
        low, high = 100 * gain[0].low, 100 * gain[0].high
        reasons[0] += f": {highest} {100 * gain[0].value:+.1f} points [{low:+.1f}, {high:+.1f}]"
    if case.measured.seeds.df == 0:
        reasons.append(
            "every configuration has one seed, so a spread between seeds of "
            f"{100 * case.request.seed_deviation:g} points is taken"
        )
    if best not in case.bases or case.gains.family is None:
        return reasons, []
    pair = (case.bases[best], best)
    why = "would tell the highest estimate from its base"
    critical = case.gains.family.two_sided
    return reasons, [deciding_cell(case.found, case.measured, pair, critical, why=why)]


def _steps(
    case: Case, chosen: str, eligible: Sequence[str]
) -> tuple[tuple[Step, ...], tuple[NextCell, ...]]:
    """The next sizes up, and what would decide between them and the chosen one."""
    values = dict(zip(case.measured.names, case.measured.values, strict=True))
    best = max(eligible, key=lambda n: values[n])
    larger = list(eligible[eligible.index(chosen) + 1 :])
    names = larger[:N_STEPS] + ([best] if best in larger[N_STEPS:] else [])
    if not names:
        return (), ()
    # Over all that were compared with the best: who is tied is then not told apart here either.
    others = [name for name in case.against if name != chosen]
    among = case.measured.subset([chosen, *others])
    family = simultaneous(among, among.difference(chosen, others), case.request.confidence)
    steps, cells = [], []
    for name in names:
        i = others.index(name)
        gain = Interval(float(family.estimates[i]), float(family.low[i]), float(family.high[i]))
        steps.append(_step(case, chosen, name, gain, is_best=name == best))
        if name == best and gain.value > 0 and not gain.excludes_zero:
            why = "would tell whether the highest estimate is worth its size"
            pair = (chosen, name)
            cells.append(deciding_cell(case.found, case.measured, pair, family.two_sided, why=why))
    return tuple(steps), tuple(cells)


def _step(case: Case, chosen: str, name: str, gain: Interval, *, is_best: bool) -> Step:
    small, large = case.sizes[chosen], case.sizes[name]

    def more(key: str) -> float | None:
        a, b = getattr(small, key), getattr(large, key)
        return None if a is None or b is None else b - a

    return Step(
        label=case.found.labels[name],
        run_ids=tuple(run.run_id for run in case.found.members[name]),
        gain=gain,
        is_told_apart=gain.excludes_zero,
        memory_bytes=_whole(more("memory_bytes")),
        train_seconds=more("train_seconds"),
        adapter_bytes=_whole(more("adapter_bytes")),
        trainable_parameters=_whole(more("trainable_parameters")),
        is_best=is_best,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
