"""Progress of a job's stages: a bar on a terminal, one line per stage in a pipe, records for a collector."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
"""What people read instead of a stage's key; a key that is not here is shown as it is.

The keys are stored in `runs.summary` and in log records, so they stay the same.
"""

_LABEL_WIDTH = 23


class _RateColumn(ProgressColumn):
    """Units per second, once rich knows the speed."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(format_rate(speed) if speed else "", style="progress.data.speed")


def format_rate(rate: float) -> str:
    """Return a rate as text, with two significant digits or one decimal.

    Parameters
    ----------
    rate : float
        Units per second, above 0.

    Returns
    -------
    str
        Such as "1,234.5 per second" or "0.25 per second".
    """
    return f"{rate:,.1f} per second" if rate >= 1 else f"{rate:.2g} per second"


@contextmanager
def show_stage(
    console: Console, name: str, total: int, unit: str, part: str = ""
) -> Iterator[Callable[[int], None]]:
    """Show a stage: on a terminal a bar with rate and time left, elsewhere one line when it ends.

    A stage of a single unit has no rate before it ends, so neither rate nor time left is shown.

    Parameters
    ----------
    console : Console
        The console that shows it.
    name : str
        Key of the stage, such as "reading"; `STAGE_LABELS` has the words that are shown.
    total : int
        How many units the stage has.
    unit : str
        Plural noun of what is counted, such as "files".
    part : str
        The suite or other part that the stage works on, where a stage has several.

    Yields
    ------
    callable
        Takes the number of units that are done so far.
    """
    fields: dict[str, Any] = {"stage": f"{name} {part}".rstrip(), "unit": unit, "total": total}
    label = STAGE_LABELS.get(name, name)
    detail = f"{unit}: {part}" if part else unit
    log_event("stage started", f"{label} {part} started", **fields)
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
    fields |= {"seconds": round(seconds, 3), "rate": round(rate, 3)}
    line = f"{label:<{_LABEL_WIDTH}} {total:,} {detail} in {seconds:.1f} s"
    log_event("stage ended", line, **fields)
    if not is_json_log():
        console.print(
            f"{line}, {format_rate(rate)}" if total > 1 and rate else line, highlight=False, soft_wrap=True
        )
