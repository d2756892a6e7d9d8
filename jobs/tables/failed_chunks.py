"""Find the chunks that failed validation in the rows of the table `verdicts`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypedDict

from deltabook.schemas.names import ALL_HOURS

ChunkName = tuple[str, str, int]
"""Exchange, symbol and start of a chunk (column `hour`, ns since 1970 UTC)."""
VERDICT_COLUMNS = ("exchange", "symbol", "hour", "suite", "verdict", "reasons", "hides")
"""Columns of `verdicts` that `group_failed_chunks` needs."""


class VerdictReasons(TypedDict):
    """The columns `VERDICT_COLUMNS` of a row of `verdicts`."""

    exchange: str
    symbol: str
    hour: int
    suite: str
    verdict: str
    reasons: str
    hides: bool


def group_failed_chunks(verdicts: Iterable[VerdictReasons]) -> dict[ChunkName, list[str]]:
    """Return the chunks whose books may be wrong although no status marks them, each with the reasons.

    A chunk with gaps is not such a chunk, because the status of its books shows where they are suspect.

    Parameters
    ----------
    verdicts : iterable of VerdictReasons
        Rows of `verdicts`, with at least `VERDICT_COLUMNS`. Rows about a whole instrument are ignored.

    Returns
    -------
    dict of (str, str, int) to list of str
        List of reasons by chunk, one for each suite. The chunks are sorted by exchange, symbol and start.
    """
    failed: dict[ChunkName, list[str]] = defaultdict(list)
    for row in verdicts:
        if row["hides"] and row["hour"] != ALL_HOURS:
            key = row["exchange"], row["symbol"], row["hour"]
            failed[key].append(f"{row['suite']}: {row['reasons'] or row['verdict']}")
    return dict(sorted(failed.items()))
