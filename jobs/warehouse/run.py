"""A run: one command that writes to a warehouse and publishes its tables at the end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from deltabook.schemas.names import NANOSECONDS_PER_SECOND


@dataclass
class Run:
    """A run in progress.

    Attributes
    ----------
    run_id : str
        Id of the run, as `make_run_id` returns it.
    command : str
        Value for the column `command` of `runs`, such as `ingest`.
    started : int
        Start of the run, ns since 1970 UTC.
    summary : dict
        Named values for the column `summary` of `runs`, such as counts, rates and verdicts. The command that
        makes the run fills this dict. All values must be JSON values.
    always_records : bool
        Whether to record the files of the run in `written` even if only `runs` and `written` have new files.
    stage_seconds : dict
        Maps the name of each finished stage to its duration in seconds.
    """

    run_id: str
    command: str
    started: int
    summary: dict[str, object] = field(default_factory=dict)
    always_records: bool = False
    stage_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure how long the block runs, and store the duration in `stage_seconds`.

        Use this for stages without Spark jobs.

        Parameters
        ----------
        name : str
            Name of the stage, as it appears in `runs.summary`.
        """
        started = time.monotonic()
        yield
        self.stage_seconds[name] = round(time.monotonic() - started, 3)


def make_run_id(started: int) -> str:
    """Return a new run id: the start of the run to the second, and eight random hex digits.

    Parameters
    ----------
    started : int
        Start of the run, ns since 1970 UTC.
    """
    stamp = datetime.fromtimestamp(started // NANOSECONDS_PER_SECOND, UTC).strftime("%Y%m%dT%H%M%S")
    return f"{stamp}-{secrets.token_hex(4)}"
