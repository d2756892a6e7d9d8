"""Show the stages of a job: a progress bar on a terminal, one line per finished stage, and log records."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from deltabook.jobs.console.logging import is_json_log, log_event

STAGE_LABELS = {
    "surveying": "scanning ids and times",
    "ordering": "sorting",
    "keeping": "writing reference rows",
    "judging": "checking",
    "chaining": "linking chunks",
    "logs": "comparing table logs",
    "counting": "counting rows",
    "runs": "checking runs",
    "raw files": "checking raw files",
}
"""Maps the key of a stage to the text to show. For a key that is not listed, the key itself is shown.

Keys are stored in the table `runs` (column `summary`) and in logs, so a key must never change.
"""

_LABEL_WIDTH = 23


class _RateColumn(ProgressColumn):
    """Progress column with the units per second; empty while the speed is unknown."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(format_rate(speed) if speed else "", style="progress.data.speed")


def format_rate(rate: float) -> str:
    """Return a rate as text: one decimal digit if the rate is at least 1, else two significant digits.

    Parameters
    ----------
    rate : float
        Units per second; greater than 0.

    Returns
    -------
    str
        Text such as "1,234.5 per second" or "0.25 per second".
    """
    return f"{rate:,.1f} per second" if rate >= 1 else f"{rate:.2g} per second"


@contextmanager
def show_stage(
    console: Console, name: str, total: int, unit: str, part: str = ""
) -> Iterator[Callable[[int], None]]:
    """Show a stage while the block runs, and print one line when the stage ends.

    While the stage runs, a terminal shows a progress bar, and, if there is more than one unit, the rate and
    the time left.

    Parameters
    ----------
    console : Console
        The console that shows the stage.
    name : str
        Key of the stage, such as "reading". `STAGE_LABELS` has the text that people see.
    total : int
        Number of units that the stage has.
    unit : str
        Plural noun of the units, such as "files".
    part : str
        The part on which the stage works, such as a suite; empty if the stage has no parts.

    Yields
    ------
    callable
        Function that takes the number of finished units, and shows this number.
    """
    key = f"{name} {part}".rstrip()
    label = STAGE_LABELS.get(name, name)
    detail = f"{unit}: {part}" if part else unit
    log_event("stage started", f"{label} {part} started", stage=key, unit=unit, total=total)
    started = time.monotonic()
    speed_columns = (_RateColumn(), TimeRemainingColumn(), TextColumn("left")) if total > 1 else ()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(detail),
        TimeElapsedColumn(),
        *speed_columns,
    )
    is_hidden = is_json_log() or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as bars:
        bar = bars.add_task(f"{label:<{_LABEL_WIDTH}}", total=total)
        yield lambda done: bars.update(bar, completed=done)
    seconds = time.monotonic() - started
    rate = total / seconds if seconds else 0.0
    line = f"{label:<{_LABEL_WIDTH}} {total:,} {detail} in {seconds:.1f} s"
    measured = {"seconds": round(seconds, 3), "rate": round(rate, 3)}
    log_event("stage ended", line, logging.INFO, stage=key, unit=unit, total=total, **measured)
    if not is_json_log():
        console.print(
            f"{line}, {format_rate(rate)}" if total > 1 and rate else line, highlight=False, soft_wrap=True
        )
