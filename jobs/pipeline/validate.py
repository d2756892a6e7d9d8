"""The job `validate`: run suites, which are sets of checks, on the events and books of each chunk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from deltabook.expectations.suites import ERRORED, FAILED, SUITES, WORST_FIRST
from deltabook.jobs.console.progress import Progress
from deltabook.jobs.pipeline.suite_runs import get_key_columns
from deltabook.jobs.pipeline.summary import JobSummary
from deltabook.jobs.pipeline.verdicts import judge_chunks
from deltabook.jobs.warehouse.run import Run
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.names import ALL_HOURS, SKIPPED
from deltabook.schemas.rows import VerdictRow

_MOST_FAILURES_SHOWN = 20


def validate(warehouse: Warehouse, run: Run, progress: Progress, names: Sequence[str] = SUITES) -> JobSummary:
    """Run suites on the chunks whose inputs have changed, and return a summary of the verdicts on all chunks.

    A verdict is the result of one suite for one chunk: passed, failed, errored or none.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse that `run` writes.
    run : Run
        The run that this job belongs to.
    progress : Progress
        The display that shows how many chunks are done.
    names : sequence of str
        Names of the suites to run. The tables that these suites read must be up to date.

    Returns
    -------
    JobSummary
        Worst verdict of each suite; failures as text; number of failed chunks (`symbol_hours_failed`) and of
        chunks that views leave out (`symbol_hours_left_out`); golden rows compared and matched by kind;
        counts of distribution tests, of unverifiable and of crossed rows; the duration in seconds.
    """
    started = time.monotonic()
    rows = [row for row in judge_chunks(warehouse, run, names, progress) if row["suite"] in names]
    verdicts = {
        suite: find_worst_verdict(row["verdict"] for row in rows if row["suite"] == suite) for suite in names
    }
    failed = [row for row in rows if row["verdict"] in (FAILED, ERRORED)]
    failures = [_describe_failure(row) for row in failed]
    more = len(failures) - _MOST_FAILURES_SHOWN
    counts: Counter[str] = sum((Counter(row["counts"]) for row in rows), Counter())
    kinds = sorted(name.split()[0] for name in counts if name.endswith(" compared"))
    return {
        "verdicts": verdicts,
        "failures": failures[:_MOST_FAILURES_SHOWN]
        + ([f"and {more} more: query the table verdicts"] if more > 0 else []),
        "symbol_hours_failed": len(
            {(row["exchange"], row["symbol"], row["hour"]) for row in failed if row["hour"] != ALL_HOURS}
        ),
        "symbol_hours_left_out": len(
            {(row["exchange"], row["symbol"], row["hour"]) for row in rows if row["hides"]}
        ),
        "golden_matches": {
            kind: {
                "compared": counts[f"{kind} compared"],
                "matched": counts[f"{kind} matched"],
                "left_out": {
                    reason: counts[f"{kind} {reason}"] for reason in SKIPPED if counts[f"{kind} {reason}"]
                },
            }
            for kind in kinds
            if counts[f"{kind} compared"]
        },
        "distribution_tests": {"tested": counts["tests"], "passed": counts["tests passed"]},
        "unverifiable_rows": counts["unverifiable"],
        "crossed": counts["crossed"],
        "validate_seconds": round(time.monotonic() - started, 2),
    }


def find_worst_verdict(verdicts: Iterable[str]) -> str:
    """Return the worst of several verdicts.

    Without any verdict, the result is `errored`, because nothing was checked.

    Parameters
    ----------
    verdicts : iterable of str
        Verdicts of one suite, one for each chunk.

    Returns
    -------
    str
        errored, failed, passed or none.
    """
    return min(verdicts, key=WORST_FIRST.index, default=ERRORED)


def _describe_failure(row: VerdictRow) -> str:
    """Return one line with the suite, the failed chunk and the reasons of a verdict."""
    columns = get_key_columns((row["exchange"], row["symbol"], row["hour"]))
    return f"{row['suite']}: {row['exchange']} {row['symbol']} {columns['time']}: {row['reasons']}"
