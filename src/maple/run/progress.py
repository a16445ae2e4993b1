"""Live progress with rate and time left: a rich display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

LINE_SECONDS = 10.0
"""Plain output says something at most this often within a step."""


class Progress:
    """Counts one long step at a time; a context manager around the whole run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._rich = _display(console) if console.is_terminal else None
        self._bar: TaskID | None = None
        self._step = ("", 0, "")
        self._done = self._first = 0
        self._began = self._said = 0.0

    def __enter__(self) -> Progress:
        if self._rich:
            self._rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._rich:
            self._rich.stop()

    def say(self, text: str) -> None:
        """Prints one line above whatever is in progress."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, name: str, total: int, unit: str, *, done: int = 0) -> None:
        """Starts a step of ``total`` units, ``done`` of which are there already.

        Without a unit no rate is shown.
        """
        self._step = (name, total, unit)
        self._done = done
        self._began = self._said = time.monotonic()
        self._first = done
        if self._rich:
            if self._bar is not None:
                self._rich.remove_task(self._bar)
            self._bar = self._rich.add_task(name, total=total, completed=done, rate="")

    def advance(self, count: int, note: str = "") -> None:
        """Counts finished units and shows rate and time left."""
        self._done += count
        if self._rich and self._bar is not None:
            self._rich.update(self._bar, completed=self._done, rate=self._shown_rate(note))
        elif time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            self.say(f"  {self._step[0]}: {self.state(note)}")

    def state(self, note: str = "") -> str:
        """How far the step is, how fast, and how long it will still take."""
        _, total, unit = self._step
        rate = self._rate()
        left = f"{_duration((total - self._done) / rate)} left" if rate > 0 else ""
        counted = f"{self._done}/{total} {unit}".rstrip()
        return ", ".join(part for part in (counted, self._shown_rate(note), left) if part)

    def end(self, note: str = "", *, quiet: bool = False) -> float:
        """Ends the step, if one was begun; returns its seconds.

        Args:
            note: what came of it.
            quiet: whether to say nothing: the step is nobody's result.
        """
        name, _, unit = self._step
        if not name:
            return 0.0  # resumed with nothing left to do
        seconds = time.monotonic() - self._began
        self._step = ("", 0, "")
        if self._rich and self._bar is not None:
            self._rich.remove_task(self._bar)
            self._bar = None
        if quiet:
            return seconds
        counted = f"{self._done - self._first} {unit}".rstrip()
        self.say(f"  {name}: {counted} in {seconds:.1f} s{' · ' if note else ''}{note}")
        return seconds

    def _shown_rate(self, note: str) -> str:
        unit = self._step[2]
        return f"{self._rate():,.1f} {unit}/s {note}".rstrip() if unit else note

    def _rate(self) -> float:
        return (self._done - self._first) / max(1e-9, time.monotonic() - self._began)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def _display(console: Console) -> RichProgress:
    return RichProgress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
