"""Everything a study needs, brought here: after it, ``HF_HUB_OFFLINE=1`` works end to end."""

from __future__ import annotations

from maple.catalog import load_dataset, load_task
from maple.files import Files
from maple.plan import Resolver, make_plan
from maple.run.progress import Progress
from maple.study.file import StudySpec


def fetch_study(study: StudySpec, files: Files, progress: Progress) -> None:
    """Fetches models, data sets and benchmarks, resolving every commit into the lock once.

    Nothing is done for what is read from a directory or shipped in the package.

    Raises:
        SourceError: something cannot be had; says what and what to do.
    """
    resolver = Resolver(files)
    for model in study.models:
        if resolver.model_directory(model) is None:
            path = files.hub.snapshot(model.name, model.revision)
            progress.say(f"model {model.name}: {path.name[:12]}")
    if files.directory is not None:
        return
    plan = make_plan(study, files)
    mixtures = {c.run.mixture.name: c.run.mixture for c in plan.cells if c.run.mixture}
    for mixture in mixtures.values():
        for part in mixture.parts:
            dataset = load_dataset(part.dataset, part.options)
            for language in part.languages:
                dataset.paths(files, language)
            progress.say(f"dataset {part.dataset}: {len(part.languages)} languages")
    for evaluation in plan.evaluations:
        task = load_task(evaluation.task)
        task.paths(files, evaluation.language, study.evaluate.split or task.info.split)
    for name in dict.fromkeys(e.task for e in plan.evaluations):
        count = sum(e.task == name for e in plan.evaluations)
        progress.say(f"task {name}: {count} languages")
    for moved in files.hub.drift():
        progress.say(f"note: {moved.message}")
