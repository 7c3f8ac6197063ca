"""Progress that a person can read: a live bar on a terminal, now and then a line in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

LOG_SECONDS = 15.0
"""Time between two lines where there is no terminal."""

console = Console(highlight=False, soft_wrap=True)
"""Lines are not broken, so that paths in them stay whole."""

UNFOLDED = 1000
"""Columns of a file or a pipe, which rich would take to have 80."""


def print_table(table: Table) -> None:
    """A table as wide as the terminal; in a file or a pipe nothing is folded or cut."""
    wide = Console(file=console.file, width=UNFOLDED, quiet=console.quiet)
    (console if console.is_terminal else wide).print(table)


class Meter:
    """Counts up to ``total`` and shows where it stands."""

    def __init__(self, title: str, total: int, done: int, bar: Progress | None) -> None:
        self._title, self._total, self._done, self._bar = title, total, done, bar
        self._began, self._at_start, self._logged = time.monotonic(), done, 0.0
        self._task = bar.add_task(title, total=total, completed=done, note="") if bar else None

    def advance(self, count: int, note: str) -> None:
        """``count`` more are done; ``note`` says how it goes."""
        self._done += count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=count, note=note)
            return
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS or self._done >= self._total:
            self._logged = now
            pace = (now - self._began) / max(self._done - self._at_start, 1)
            left = pace * (self._total - self._done)
            console.print(f"{self._title} {self._done}/{self._total} · {note} · {clock(left)} left")


@contextmanager
def meter(title: str, total: int, done: int = 0) -> Iterator[Meter]:
    """A meter for the length of a ``with`` block."""
    if not console.is_terminal:
        yield Meter(title, total, done, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as bar:
        yield Meter(title, total, done, bar)


def clock(seconds: float) -> str:
    """Seconds as ``m:ss``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
