"""Chunks that failed a check, and the warning that a result contains such chunks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from deltabook.jobs.console.formats import format_chunk
from deltabook.schemas.errors import FailedChunksWarning

_MOST_NAMED = 5


class FailedChunk(NamedTuple):
    """One chunk of one instrument that failed a check.

    Attributes
    ----------
    exchange, symbol : str
        Instrument, as in the tables.
    hour : int
        Start of the chunk, ns since 1970 UTC. This is the value of the column `hour`.
    reasons : tuple of str
        One text for each suite that the chunk failed: the name of the suite, a colon, and the reason.

    Examples
    --------
    >>> str(FailedChunk("BINANCE", "BTC-USDT", 1723161600 * 10**9, ("events: no gaps: 2",)))
    'BINANCE BTC-USDT 2024-08-09T00:00:00Z (events)'
    """

    exchange: str
    symbol: str
    hour: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.exchange} {self.symbol} {format_chunk(self.hour)} ({', '.join(self.suites)})"

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites that the chunk failed."""
        return tuple(reason.split(":")[0] for reason in self.reasons)


def select_failed(
    failed: Mapping[tuple[str, str, int], Sequence[str]], chunks: Iterable[tuple[str, str, int]]
) -> tuple[FailedChunk, ...]:
    """Return the chunks of a result that failed a check.

    Parameters
    ----------
    failed : mapping
        Maps (exchange, symbol, hour) of every failed chunk of the warehouse to the reasons.
    chunks : iterable of (str, str, int)
        Exchange, symbol and hour of each chunk in the result.

    Returns
    -------
    tuple of FailedChunk
        Sorted by exchange, symbol and hour.

    Examples
    --------
    >>> select_failed({("A", "B", 0): ["events: gaps"]}, [("A", "B", 0), ("A", "B", 1)])[0].hour
    0
    """
    return tuple(FailedChunk(*chunk, tuple(failed[chunk])) for chunk in sorted({*chunks}) if chunk in failed)


def warn_of_failed(failed: Sequence[FailedChunk], stacklevel: int, hint: str = "") -> None:
    """Warn that a result contains chunks that failed a check; do nothing if `failed` is empty.

    Parameters
    ----------
    failed : sequence of FailedChunk
        Failed chunks in the result.
    stacklevel : int
        The warning shows the line of this caller: 1 is the caller of this function, 2 is the caller of 1.
    hint : str
        Sentence that tells the user what to do; may be empty.

    Examples
    --------
    >>> warn_of_failed([], 1)
    """
    if not failed:
        return
    named = "; ".join(map(str, failed[:_MOST_NAMED]))
    more = f"; and {len(failed) - _MOST_NAMED:,} more" if len(failed) > _MOST_NAMED else ""
    count = "a chunk" if len(failed) == 1 else f"{len(failed):,} chunks"
    warnings.warn(
        f"the result contains {count} that failed a check: {named}{more}. {hint}".rstrip(),
        FailedChunksWarning,
        stacklevel=stacklevel + 1,
    )
