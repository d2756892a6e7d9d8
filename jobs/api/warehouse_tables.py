"""Methods that read tables of a warehouse, such as books, trades, gaps, coverage and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from deltabook.jobs.tables.instrument_lookup import find_instrument
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.rows import InstrumentRow
from deltabook.schemas.tables import INSTRUMENTS
from deltabook.udfs.storage.locations import parse_location

from .failed_chunks import FailedChunk, select_failed, warn_of_failed
from .result import Result
from .row_selection import Selection, read_result
from .table_views import BOOKS_VIEW, GRIDS_VIEW, TRADES_VIEW, View, view_of
from .time_range import TimeLike, to_range

_LEAVE_OUT = "Pass include_failed=False to leave out the rows of failed chunks."


class WarehouseTables:
    """Reads the tables of a warehouse.

    Each call reads the table versions that the newest finished run has published. Times are in UTC: ns since
    1970, ISO 8601 text, or datetimes. A range includes `start` and excludes `end`. For books and events, a
    range applies to the column `order_time`. In the order of the feed, `order_time` is the largest exchange
    time up to the row.

    Parameters
    ----------
    path : Path or str
        Folder of the tables, or s3a://bucket/folder.

    Raises
    ------
    WarehouseError
        If the warehouse has no published tables yet.
    """

    def __init__(self, path: Path | str):
        self.path = parse_location(path).absolute()
        require_published(self.path)

    def __repr__(self) -> str:
        return f"deltabook.open({str(self.path)!r})"

    def symbols(self) -> Result:
        """Return the instruments, with exchange, symbol, feed, and scales of prices and sizes.

        Examples
        --------
        >>> open("demo/warehouse").symbols()["symbol"].to_pylist()  # doctest: +SKIP
        ['BTC-USDT', 'ETH-USDT']
        """
        return self.table("instruments")

    def tables(self) -> list[str]:
        """Return the names of the published tables. The method `table` accepts these names.

        Examples
        --------
        >>> "books" in open("demo/warehouse").tables()  # doctest: +SKIP
        True
        """
        names = (name.removesuffix("_decimal") for name in (*require_published(self.path), "runs"))
        return list(dict.fromkeys(names))

    def books(
        self,
        symbol: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        columns: Sequence[str] | None = None,
        *,
        exchange: str | None = None,
        decimals: bool = True,
        include_failed: bool = True,
    ) -> Result:
        """Return the rows of `books` of one symbol, with the time and the best prices and sizes.

        Parameters
        ----------
        symbol : str
            Symbol as in the tables, such as BTC-USDT.
        start, end : int, str, datetime or None
            Start (inclusive) and end (exclusive) of `order_time`; None: no limit.
        columns : sequence of str or None
            Names of columns, in the order of the result. None: all columns, which are those of the SQL view
            `book_all` without `spread`, `mid` and `microprice`.
        exchange : str or None
            Exchange of the symbol; required only if several exchanges list the symbol.
        decimals : bool
            True: prices and sizes are exact decimals. False: integers, at the scales that `symbols` shows.
        include_failed : bool
            Whether chunks that failed a check are included. A `FailedChunksWarning` names such chunks.

        Returns
        -------
        Result
            One row for each change of the top levels or of the status. If `reconstruct` ran with another
            `--cadence`, one row for each book update, or one for each time step.

        Raises
        ------
        SettingsError
            If a column does not exist, or a time is not valid.
        WarehouseError
            If the symbol is not in the warehouse, or if several exchanges list the symbol and `exchange` is
            None.

        Examples
        --------
        >>> books = open("demo/warehouse").books("BTC-USDT", columns=["time", "bid_price"])  # doctest: +SKIP
        >>> books.to_pandas().tail(1)  # doctest: +SKIP
        """
        rows = self._select(symbol, exchange, start, end, columns, decimals, include_failed)
        return self._read(BOOKS_VIEW, rows)

    def grids(
        self,
        symbol: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        columns: Sequence[str] | None = None,
        *,
        exchange: str | None = None,
        decimals: bool = True,
        include_failed: bool = True,
    ) -> Result:
        """Return the rows of `grids` of one symbol: the last book of each time step.

        Parameters
        ----------
        symbol : str
            Symbol as in the tables.
        start, end : int, str, datetime or None
            Start (inclusive) and end (exclusive) of `order_time`; None: no limit.
        columns : sequence of str or None
            Names of columns, as for `books`. The column `cadence` contains the length of the time step, such
            as `1s`.
        exchange : str or None
            Exchange of the symbol; required only if several exchanges list the symbol.
        decimals : bool
            True: prices and sizes are exact decimals. False: integers.
        include_failed : bool
            Whether chunks that failed a check are included. A `FailedChunksWarning` names such chunks.

        Returns
        -------
        Result
            One row for each time step; no rows if the warehouse has no grids of the symbol.

        Examples
        --------
        >>> open("books").grids("BTC-USDT", "2024-08-09").to_polars()  # doctest: +SKIP
        """
        rows = self._select(symbol, exchange, start, end, columns, decimals, include_failed)
        return self._read(GRIDS_VIEW, rows)

    def trades(
        self,
        symbol: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        columns: Sequence[str] | None = None,
        *,
        exchange: str | None = None,
        decimals: bool = True,
        include_failed: bool = True,
    ) -> Result:
        """Return the trades of one symbol.

        Parameters
        ----------
        symbol : str
            Symbol as in the tables.
        start, end : int, str, datetime or None
            Start (inclusive) and end (exclusive) of `order_time`; None: no limit.
        columns : sequence of str or None
            Names of columns; None: all columns of the SQL view `trades_all`.
        exchange : str or None
            Exchange of the symbol; required only if several exchanges list the symbol.
        decimals : bool
            True: prices and sizes are exact decimals. False: integers.
        include_failed : bool
            Whether chunks that failed a check are included. A `FailedChunksWarning` names such chunks.

        Returns
        -------
        Result
            One row for each trade. The column `side` is the side of the aggressor: `buy` or `sell`.

        Examples
        --------
        >>> trades = open("demo/warehouse").trades("BTC-USDT", "2024-08-08T23:57Z")  # doctest: +SKIP
        >>> sum(trades["size"].to_pylist())  # doctest: +SKIP
        Decimal('12.34500000')
        """
        rows = self._select(symbol, exchange, start, end, columns, decimals, include_failed)
        return self._read(TRADES_VIEW, rows)

    def table(
        self,
        name: str,
        symbol: str | None = None,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        columns: Sequence[str] | None = None,
        *,
        exchange: str | None = None,
        decimals: bool = True,
        include_failed: bool = True,
    ) -> Result:
        """Return rows of any table, with the stored columns.

        Parameters
        ----------
        name : str
            Name of the table. The result includes rows of the table `NAME_decimal`, which has the instruments
            that need DECIMAL(38,18).
        symbol : str or None
            Return only rows of this symbol; None: all symbols.
        start, end : int, str, datetime or None
            Start (inclusive) and end (exclusive) of the times; None: no limit. The range applies to the first
            of these columns that the table has: `order_time`, `timestamp`, `from_time`, `hour`, `started`.
        columns : sequence of str or None
            Names of columns; None: all.
        exchange : str or None
            Return only rows of this exchange; None: all exchanges.
        decimals : bool
            True: prices and sizes are exact decimals; a price or size that an event lacks is null. False:
            integers.
        include_failed : bool
            Whether chunks of `books`, `grids` and `events` that failed a check are included.

        Returns
        -------
        Result
            Matching rows; empty if no run has created the table yet.

        Raises
        ------
        SettingsError
            If the table or a column does not exist, or if a time is not valid.

        Examples
        --------
        >>> open("demo/warehouse").table("events", "BTC-USDT", columns=["sequence"])  # doctest: +SKIP
        """
        first, last = to_range(start, end)
        reader = self._reader()
        instruments = [
            row
            for row in cast(list[InstrumentRow], reader.rows(INSTRUMENTS))
            if symbol in (None, row["symbol"]) and exchange in (None, row["exchange"])
        ]
        selection = Selection(instruments, exchange, symbol, first, last, columns, decimals, include_failed)
        return self._read(view_of(name), selection)

    def gaps(
        self, symbol: str | None = None, start: TimeLike | None = None, end: TimeLike | None = None
    ) -> Result:
        """Return the gaps of the feeds, one row for each discontinuity.

        Parameters
        ----------
        symbol : str or None
            Return only gaps of this symbol; None: all symbols.
        start, end : int, str, datetime or None
            Start (inclusive) and end (exclusive) of `from_time`; None: no limit.

        Examples
        --------
        >>> open("books").gaps("BTC-USDT")["kind"].value_counts()  # doctest: +SKIP
        """
        return self.table("gaps", symbol, start, end)

    def coverage(
        self, symbol: str | None = None, start: TimeLike | None = None, end: TimeLike | None = None
    ) -> Result:
        """Return how long the book of each chunk had each status, in ns.

        Parameters
        ----------
        symbol : str or None
            Return only rows of this symbol; None: all symbols.
        start, end : int, str, datetime or None
            Start (inclusive) and end (exclusive) of `from_time`; None: no limit.

        Examples
        --------
        >>> open("books").coverage("BTC-USDT").to_pandas()[["hour", "verified"]]  # doctest: +SKIP
        """
        return self.table("coverage", symbol, start, end)

    def verdicts(
        self, symbol: str | None = None, start: TimeLike | None = None, end: TimeLike | None = None
    ) -> Result:
        """Return the verdict of each suite on each chunk.

        Parameters
        ----------
        symbol : str or None
            Return only verdicts on this symbol; None: all symbols.
        start, end : int, str, datetime or None
            Start (inclusive) and end (exclusive) of `hour`, the start of a chunk; None: no limit. A verdict
            on all chunks together has the `hour` -1, so a result with a `start` lacks such verdicts.

        Examples
        --------
        >>> open("books").verdicts("BTC-USDT").to_pandas()[["suite", "verdict"]]  # doctest: +SKIP
        """
        return self.table("verdicts", symbol, start, end)

    def runs(self) -> Result:
        """Return the finished runs, with command, times, published table versions, and a summary as JSON.

        Examples
        --------
        >>> open("books").runs()["command"].to_pylist()  # doctest: +SKIP
        ['ingest', 'reconstruct', 'validate']
        """
        return self.table("runs")

    def failed_chunks(self, symbol: str | None = None, exchange: str | None = None) -> list[FailedChunk]:
        """Return the chunks that failed a check, with the reasons.

        Parameters
        ----------
        symbol, exchange : str or None
            Return only chunks of this symbol or exchange; None: all.

        Examples
        --------
        >>> open("books").failed_chunks("BTC-USDT")  # doctest: +SKIP
        []
        """
        failed = self._reader().failed_chunks()
        chunks = [key for key in failed if symbol in (None, key[1]) and exchange in (None, key[0])]
        return list(select_failed(failed, chunks))

    def _reader(self) -> TableReader:
        """Return a reader of the table versions that are published now."""
        return TableReader(self.path, require_published(self.path))

    def _instrument(self, symbol: str, exchange: str | None) -> InstrumentRow:
        """Return a symbol's row of `instruments`; raise an error if several exchanges list the symbol."""
        return find_instrument(self.path, symbol, exchange, "exchange={!r}")

    def _select(
        self,
        symbol: str,
        exchange: str | None,
        start: TimeLike | None,
        end: TimeLike | None,
        columns: Sequence[str] | None,
        decimals: bool,
        include_failed: bool,
    ) -> Selection:
        """Return a selection of rows of one instrument."""
        instrument = self._instrument(symbol, exchange)
        names = instrument["exchange"], instrument["symbol"]
        return Selection([instrument], *names, *to_range(start, end), columns, decimals, include_failed)

    def _read(self, view: View, selection: Selection) -> Result:
        """Return the selected rows of a view; warn if the result contains rows of failed chunks."""
        result = read_result(self._reader(), view, selection)
        if selection.include_failed:
            warn_of_failed(result.failed_chunks, 3, _LEAVE_OUT)
        return result
