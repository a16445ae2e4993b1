"""The plan as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from maple.plan.plan import Plan


def plan_table(plan: Plan) -> Iterator[Table | str]:
    """Yields what ``maple plan`` prints: cells, what is scored, what is left out and why."""
    yield _cells(plan)
    yield _scored(plan)
    for title, rows in (
        ("skipped", [f"{s.cell}: {s.reason}" for s in plan.skipped]),
        ("not scored", _missing(plan)),
        ("licences", [f"{k}: {v}" for k, v in plan.licences.items()]),
        ("notes", list(plan.notes)),
    ):
        if rows:
            yield f"{title}:\n" + "\n".join(f"  {row}" for row in rows)


def _cells(plan: Plan) -> Table:
    collapsed = sum(c.stands_for for c in plan.cells) - len(plan.cells)
    title = f"{plan.study.name}: {len(plan.cells)} runs"
    title += f" ({collapsed} combinations collapse into them)" if collapsed else ""
    table = Table(title=title)
    for name in ("run", "cell", "trainable", "memory", "adapter", "stands for"):
        right = name in {"trainable", "memory", "adapter", "stands for"}
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for cell in plan.cells:
        costs = plan.estimates[cell.run.id]
        table.add_row(
            cell.run.id,
            cell.label,
            "?" if costs.trainable_parameters is None else f"{costs.trainable_parameters:,}",
            _bytes(costs.memory_bytes),
            _bytes(costs.adapter_bytes),
            str(cell.stands_for),
        )
    return table


def _scored(plan: Plan) -> str:
    lines = []
    for task in dict.fromkeys(e.task for e in plan.evaluations):
        codes = [e.language for e in plan.evaluations if e.task == task]
        lines.append(f"  {task}: {len(codes)} languages: {' '.join(codes)}")
    return "scored on:\n" + ("\n".join(lines) or "  nothing: name tasks under evaluate.tasks")


def _missing(plan: Plan) -> list[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for item in plan.missing:
        groups.setdefault((item.task, item.reason), []).append(item.language)
    return [f"{task}: {reason}: {' '.join(codes)}" for (task, reason), codes in groups.items()]


def _bytes(count: int | None) -> str:
    if count is None:
        return "?"
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
