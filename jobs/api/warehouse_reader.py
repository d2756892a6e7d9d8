"""`open` and `WarehouseReader`: read tables, single books, replays, figures and status without Spark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltabook.schemas.tables import COVERAGE

from .failed_chunks import FailedChunk, select_failed, warn_of_failed
from .time_range import TimeLike, to_nanoseconds, to_range
from .warehouse_tables import WarehouseTables

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from deltabook.jobs.lookup.book import BookAtTime
    from deltabook.jobs.replay.replayer import Replayer


def open(path: Path | str) -> WarehouseReader:
    """Open a warehouse for reading.

    Parameters
    ----------
    path : Path or str
        Folder of the tables, or s3a://bucket/folder.

    Returns
    -------
    WarehouseReader
        Reader of the table versions that the newest finished run has published.

    Raises
    ------
    WarehouseError
        If the warehouse has no published tables yet, or the tables' Delta logs are damaged.

    Examples
    --------
    >>> warehouse = open("demo/warehouse")  # doctest: +SKIP
    >>> warehouse.books("BTC-USDT", "2024-08-08T23:57Z", "2024-08-08T23:58Z")  # doctest: +SKIP
    """
    return WarehouseReader(path)


class WarehouseReader(WarehouseTables):
    """Reads a warehouse. `open` returns a reader.

    Each call reads the table versions that the newest finished run has published. Times are in UTC: ns since
    1970, ISO 8601 text, or datetimes. A range includes `start` and excludes `end`.

    Examples
    --------
    >>> warehouse = open("demo/warehouse")  # doctest: +SKIP
    >>> warehouse.symbols().to_pandas()  # doctest: +SKIP
    """

    def book_at(
        self, symbol: str, time: TimeLike | None = None, *, exchange: str | None = None
    ) -> BookAtTime:
        """Return the order book of a symbol at a time.

        Parameters
        ----------
        symbol : str
            Symbol as in the tables.
        time : int, str, datetime or None
            Exchange time; None: the last book of the recording.
        exchange : str or None
            Exchange of the symbol; required only if several exchanges list the symbol.

        Returns
        -------
        BookAtTime
            The last row of `books` whose `order_time` is not after `time`. The attributes `bids` and `asks`
            of the book are lists of (price, size) as exact decimals, best level first.

        Raises
        ------
        WarehouseError
            If the symbol is not in the warehouse, or the symbol's first book is later than `time`.

        Examples
        --------
        >>> book = open("demo/warehouse").book_at("BTC-USDT", "2024-08-08T23:57Z")  # doctest: +SKIP
        >>> book.bids[0], book.asks[0]  # doctest: +SKIP
        """
        from deltabook.jobs.lookup.book import read_book

        instrument = self._instrument(symbol, exchange)
        venue, symbol = instrument["exchange"], instrument["symbol"]
        book = read_book(self.path, symbol, None if time is None else to_nanoseconds(time), venue)
        chunk = venue, symbol, book.row["hour"]
        warn_of_failed(select_failed(self._reader().failed_chunks(), [chunk]), 2)
        return book

    def replay(
        self,
        symbol: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        depth: int = 20,
        exchange: str | None = None,
        clock: str = "received",
        suspect: str = "mark",
        known_only: bool = False,
    ) -> Replayer:
        """Return a replayer that steps through the books and trades of one symbol.

        Parameters
        ----------
        symbol : str
            Symbol as in the tables.
        start, end : int, str, datetime or None
            Start (inclusive) and end (exclusive) of the replay, as times of `clock`; None: no limit.
        depth : int
            Number of levels per side in an observation.
        exchange : str or None
            Exchange of the symbol; required only if several exchanges list the symbol.
        clock : str
            `received` orders messages by their arrival at the recorder, `exchange` by the exchange's time.
        suspect : str
            What to do with steps in which the book is unsound: `mark`, `skip` or `raise`.
        known_only : bool
            Whether books are cut to their known levels.

        Returns
        -------
        Replayer
            Replayer at the start. Iterate over the replayer to get every step, or call its methods `seek`,
            `step` and `replay_batches`.

        Raises
        ------
        WarehouseError
            If the symbol's books are not in the warehouse.

        Examples
        --------
        >>> for seen in open("demo/warehouse").replay("BTC-USDT", "2024-08-08T23:59Z"):  # doctest: +SKIP
        ...     print(seen.time, seen.bid_prices[:1], seen.ask_prices[:1])
        """
        from deltabook.jobs.replay.replayer import Replayer

        first, last = to_range(start, end)
        replayer = Replayer(self.path, symbol, first, last, depth, exchange, clock, suspect, known_only)
        warn_of_failed(self._failed_between(str(replayer.exchange), symbol, first, last), 2)
        return replayer

    def status(self) -> Mapping[str, Any]:
        """Return a summary of the warehouse: instruments, chunks, coverage, gaps, verdicts, sizes, last runs.

        Returns
        -------
        mapping
            Keys and values as `deltabook status --json` prints them.

        Examples
        --------
        >>> open("demo/warehouse").status()["verdict"]  # doctest: +SKIP
        'passed'
        """
        from deltabook.jobs.lookup.status import read_status

        return read_status(self.path)

    def plot(
        self,
        symbol: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        exchange: str | None = None,
    ) -> Figure:
        """Return a figure of the resting size at each price and time, with trades and suspect periods.

        Parameters
        ----------
        symbol : str
            Symbol as in the tables.
        start, end : int, str, datetime or None
            Start (inclusive) and end (exclusive) of the figure; None: no limit.
        exchange : str or None
            Exchange of the symbol; required only if several exchanges list the symbol.

        Returns
        -------
        plotly.graph_objects.Figure
            Interactive figure. Show it with `.show()`, or write it with `.write_html(path)`.

        Raises
        ------
        WarehouseError
            If the symbol is not in the warehouse, or has no book in the range.

        Examples
        --------
        >>> open("demo/warehouse").plot("BTC-USDT", "2024-08-08T23:57Z").show()  # doctest: +SKIP
        """
        from deltabook.jobs.report.plot import depth_figure

        instrument = self._instrument(symbol, exchange)
        venue, symbol = instrument["exchange"], instrument["symbol"]
        first, last = to_range(start, end)
        figure = depth_figure(self.path, symbol, first, last, venue)
        warn_of_failed(self._failed_between(venue, symbol, first, last), 2)
        return figure

    def _failed_between(
        self, exchange: str, symbol: str, start: int | None, end: int | None
    ) -> tuple[FailedChunk, ...]:
        """Return the failed chunks of an instrument that overlap a range of times, ns since 1970 UTC."""
        reader = self._reader()
        failed = reader.failed_chunks()
        outside = {
            (row["exchange"], row["symbol"], row["hour"])
            for row in reader.rows(COVERAGE)
            if (start is not None and row["to_time"] < start) or (end is not None and row["from_time"] >= end)
        }
        own = (key for key in failed if key[:2] == (exchange, symbol) and key not in outside)
        return select_failed(failed, own)
