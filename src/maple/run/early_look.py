"""Which evaluations are looked at early, what each is compared with, and who is scored first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from maple.catalog import load_task
from maple.plan import Cohort, Plan
from maple.plan.early_look import compared_runs, count_comparisons, statement
from maple.store.write import StoreWriter, sha256_of_directory
from maple.study import EvalSpec, RunSpec
from maple.study.early_look import BASE, EarlyLook


@dataclass(frozen=True, kw_only=True)
class EarlyLooks:
    """The early look of a whole study: every comparison, and the share of the error it gets."""

    settings: EarlyLook
    comparisons: int
    """Runs compared x task-languages that have a score."""
    against: Mapping[str, RunSpec]
    """Run id -> the run that it is compared with."""
    adapters: dict[str, str] = field(default_factory=dict)
    """Run id -> hash of its adapter: given, or kept once the run is done."""

    def ruled(self, plain: EvalSpec, limit: int | None, store: StoreWriter) -> EvalSpec | None:
        """An evaluation's specification with the rule it may be stopped by.

        Args:
            plain: the specification of the whole.
            limit: samples asked for.
            store: where the other run's adapter is.

        Returns:
            None where nothing is looked at: a run that others are compared with, a judged task.
        """
        other = self.against.get(plain.run_id)
        if other is None or load_task(plain.task).info.is_judged:
            return None
        compared = {"run_id": other.id, "adapter": self._adapter(other, store)}
        against = plain.model_copy(update=compared).id
        rule = self.settings.rule(comparisons=self.comparisons, against=against, limit=limit)
        return plain.model_copy(update={"early_look": rule})

    @property
    def statement(self) -> str:
        """Which error is spent on how many comparisons, in words."""
        return statement(self.settings, self.comparisons)

    @property
    def compared_with(self) -> frozenset[str]:
        """Ids of the runs that are scored first, and whole."""
        return frozenset(run.id for run in self.against.values())

    def _adapter(self, run: RunSpec, store: StoreWriter) -> str:
        if run.id in self.adapters:
            return self.adapters[run.id]
        if not run.is_trained:
            return "none"
        found = sha256_of_directory(store.layout.adapter(run.id))
        if store.is_run_done(run.id):
            self.adapters[run.id] = found
        return found


def looks_of_plan(plan: Plan) -> EarlyLooks | None:
    """The early look that a study asks for; None where it asks for none.

    Raises:
        StudyError: a rule that the study cannot have.
    """
    settings = plan.study.evaluate.early_look
    if settings is None:
        return None
    against = compared_runs(settings, [cell.run for cell in plan.cells])
    return early_looks(settings, against, [e.task for e in plan.evaluations])


def early_looks(
    settings: EarlyLook,
    against: Mapping[str, RunSpec],
    tasks: Iterable[str],
    *,
    adapters: Mapping[str, str] | None = None,
) -> EarlyLooks:
    """Counts the comparisons that share the error.

    Args:
        settings: the rule that was asked for.
        against: run id -> the run it is compared with.
        tasks: the task of each task-language.
        adapters: hashes of adapters that are not in the store.

    Raises:
        StudyError: more comparisons than the error is shared among.
    """
    comparisons = count_comparisons(len(against), tasks)
    settings.alpha_of_each(comparisons)  # refuses before anything is loaded
    return EarlyLooks(
        settings=settings,
        comparisons=comparisons,
        against=dict(against),
        adapters=dict(adapters or {}),
    )


def in_phases(cohorts: Sequence[Cohort], looks: EarlyLooks | None) -> list[list[Cohort]]:
    """The cohorts cut in two: runs that others are compared with, then the others."""
    if looks is None:
        return [list(cohorts)]
    first = looks.compared_with
    phases = []
    for is_first in (True, False):
        cut = [
            replace(c, cells=tuple(x for x in c.cells if (x.run.id in first) == is_first))
            for c in cohorts
        ]
        phases.append([cohort for cohort in cut if cohort.cells])
    return [phase for phase in phases if phase]


def in_one_process(phases: Sequence[Sequence[Cohort]], looks: EarlyLooks | None) -> list[Cohort]:
    """The cohorts of all phases in an order that loads each base once, where there is one."""
    cohorts = [cohort for phase in phases for cohort in phase]
    if looks is None or looks.settings.against != BASE:
        return cohorts
    places = list(dict.fromkeys(_place(cohort) for cohort in cohorts))
    return sorted(cohorts, key=lambda cohort: places.index(_place(cohort)))


def _place(cohort: Cohort) -> tuple[object, str]:
    return cohort.cells[0].run.model, cohort.quantization
