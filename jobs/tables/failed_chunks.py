"""Chunks that failed validation, from the rows of the table `verdicts`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from deltabook.expectations.suites import ERRORED, FAILED
from deltabook.schemas.names import ALL_HOURS

ChunkName = tuple[str, str, int]
"""Exchange, symbol and hour (start of the chunk, ns since 1970 UTC)."""
VERDICT_COLUMNS = ("exchange", "symbol", "hour", "suite", "verdict", "reasons")
"""Columns of `verdicts` that `group_failed_chunks` needs."""


def group_failed_chunks(verdicts: Iterable[dict[str, Any]]) -> dict[ChunkName, list[str]]:
    """Return the chunks that failed a suite, with the reasons.

    Parameters
    ----------
    verdicts : iterable of dict
        Rows of `verdicts`.

    Returns
    -------
    dict of (str, str, int) to list of str
        Reasons by chunk, in the order of chunks.
    """
    failed: dict[ChunkName, list[str]] = defaultdict(list)
    for row in verdicts:
        if row["verdict"] in (FAILED, ERRORED) and row["hour"] != ALL_HOURS:
            key = row["exchange"], row["symbol"], row["hour"]
            failed[key].append(f"{row['suite']}: {row['reasons'] or row['verdict']}")
    return dict(sorted(failed.items()))
