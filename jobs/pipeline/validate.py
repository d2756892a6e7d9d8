"""The job `validate`: was all read, is it unbroken, are the books possible, and equal to golden samples?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from deltabook.expectations.suites import ERRORED, FAILED, SUITES, WORST_FIRST
from deltabook.jobs.console.progress import Progress
from deltabook.jobs.pipeline.verdicts import judge_hours, named
from deltabook.jobs.warehouse.warehouse import Run, Warehouse
from deltabook.schemas.names import ALL_HOURS

_MOST_TOLD = 20


def validate(
    warehouse: Warehouse, run: Run, progress: Progress, names: Sequence[str] = SUITES
) -> dict[str, Any]:
    """Judge what has changed since it was judged.

    Parameters
    ----------
    warehouse : Warehouse
        Is being written by `run`.
    run : Run
        The run this belongs to.
    progress : Progress
        Where to show what is done.
    names : sequence of str
        The suites: those whose stage is done.

    Returns
    -------
    dict
        Of all symbol-hours: the verdict of each suite, the golden rows compared and matched by kind, and the
        symbol-hours that failed.
    """
    started = time.monotonic()
    rows = [row for row in judge_hours(warehouse, run, names, progress) if row["suite"] in names]
    verdicts = {suite: worst(row["verdict"] for row in rows if row["suite"] == suite) for suite in names}
    failed = [row for row in rows if row["verdict"] in (FAILED, ERRORED)]
    failures = [" ".join((row["suite"] + ":", *_who(row))) + f": {row['reasons']}" for row in failed]
    more = len(failures) - _MOST_TOLD
    counts: Counter[str] = sum((Counter(row["counts"]) for row in rows), Counter())
    kinds = sorted(name.split()[0] for name in counts if name.endswith(" compared"))
    return {
        "verdicts": verdicts,
        "failures": failures[:_MOST_TOLD] + ([f"and {more} more: ask verdicts"] if more > 0 else []),
        "symbol_hours_failed": len(
            {(row["exchange"], row["symbol"], row["hour"]) for row in failed if row["hour"] != ALL_HOURS}
        ),
        "golden_matches": {
            kind: {name: counts[f"{kind} {name}"] for name in ("compared", "matched")}
            for kind in kinds
            if counts[f"{kind} compared"]
        },
        "distribution_tests": {"tested": counts["tests"], "passed": counts["tests passed"]},
        "unverifiable_rows": counts["unverifiable"],
        "crossed": counts["crossed"],
        "validate_seconds": round(time.monotonic() - started, 2),
    }


def worst(verdicts: Iterable[str]) -> str:
    """Return the worst of verdicts; of none at all, errored: a suite that saw nothing has proven nothing.

    Parameters
    ----------
    verdicts : iterable of str
        Of symbol-hours.
    """
    return min(verdicts, key=WORST_FIRST.index, default=ERRORED)


def _who(row: dict[str, Any]) -> list[str]:
    told = named((row["exchange"], row["symbol"], row["hour"]))
    return [told["exchange"], told["symbol"], told["time"]]
