"""Reading the tables of a warehouse: books, trades, gaps, coverage, verdicts and all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deltabook.jobs.tables.instrument_lookup import find_instruments
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import INSTRUMENTS
from deltabook.udfs.storage.locations import parse_location

from .failed_chunks import FailedChunk, select_failed, warn_of_failed
from .result import Result
from .row_selection import Selection, read_result
from .table_views import BOOKS_VIEW, GRIDS_VIEW, TRADES_VIEW, View, view_of
from .time_range import TimeLike, to_range

_LEAVE_OUT = "Pass include_failed=False to leave their rows out."


class WarehouseTables:
    """Reads the tables of a warehouse, as the newest finished run has published them at each call.

    Ranges of times are in UTC: `start` is inside, `end` is not. Both are ns since 1970, ISO 8601 text or
    datetimes. Books and events are selected by `order_time`, their time in the order of the feed.

    Parameters
    ----------
    path : Path or str
        Folder of the tables, or s3a://bucket/folder.

    Raises
    ------
    WarehouseError
        If nothing was published there yet.
    """

    def __init__(self, path: Path | str):
        self.path = parse_location(path).absolute()
        require_published(self.path)

    def __repr__(self) -> str:
        return f"deltabook.open({str(self.path)!r})"

    def symbols(self) -> Result:
        """Return the instruments: exchange, symbol, feed, scales of prices and sizes.

        Examples
        --------
        >>> open("demo/warehouse").symbols()["symbol"].to_pylist()  # doctest: +SKIP
        ['BTC-USDT', 'ETH-USDT']
        """
        return self.table("instruments")

    def tables(self) -> list[str]:
        """Return the names of the tables that are published, as `table` takes them.

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
            First `order_time` inside, and first after; None: no limit.
        columns : sequence of str or None
            Names of columns, in the wanted order; None: all, which are those of the SQL view `book_all` but
            `spread`, `mid` and `microprice`.
        exchange : str or None
            Needed if several exchanges list the symbol.
        decimals : bool
            True: prices and sizes are exact decimals. False: integers, at the scales that `symbols` shows.
        include_failed : bool
            Whether chunks that failed a check are included. A `FailedChunksWarning` names them.

        Returns
        -------
        Result
            A row each time the top levels or the status change, or as the run's cadence says.

        Raises
        ------
        SettingsError
            If a column or a time cannot be used.
        WarehouseError
            If there is no such symbol, or several exchanges list it.

        Examples
        --------
        >>> books = open("demo/warehouse").books("BTC-USDT", columns=["time", "bid_price"])  # doctest: +SKIP
        >>> books.to_pandas().tail(1)  # doctest: +SKIP
        """
        instrument = self._instrument(symbol, exchange)
        period = to_range(start, end)
        selection = _select(instrument, period, columns, decimals, include_failed)
        return self._read(BOOKS_VIEW, selection)

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
        """Return the rows of `grids` of one symbol: the last book of each step of time.

        Parameters
        ----------
        symbol : str
            Symbol as in the tables.
        start, end : int, str, datetime or None
            First `order_time` inside, and first after; None: no limit.
        columns : sequence of str or None
            Names of columns, as for `books`; `cadence` is the step.
        exchange : str or None
            Needed if several exchanges list the symbol.
        decimals : bool
            True: prices and sizes are exact decimals. False: integers.
        include_failed : bool
            Whether chunks that failed a check are included. A `FailedChunksWarning` names them.

        Returns
        -------
        Result
            A row for each step; empty if the run made no grids.

        Examples
        --------
        >>> open("books").grids("BTC-USDT", "2024-08-09").to_polars()  # doctest: +SKIP
        """
        instrument = self._instrument(symbol, exchange)
        period = to_range(start, end)
        return self._read(GRIDS_VIEW, _select(instrument, period, columns, decimals, include_failed))

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
            First `order_time` inside, and first after; None: no limit.
        columns : sequence of str or None
            Names of columns; None: those of the SQL view `trades_all`.
        exchange : str or None
            Needed if several exchanges list the symbol.
        decimals : bool
            True: prices and sizes are exact decimals. False: integers.
        include_failed : bool
            Whether chunks that failed a check are included. A `FailedChunksWarning` names them.

        Returns
        -------
        Result
            A row for each trade; `side` is the aggressor's.

        Examples
        --------
        >>> trades = open("demo/warehouse").trades("BTC-USDT", "2024-08-08T23:57Z")  # doctest: +SKIP
        >>> sum(trades["size"].to_pylist())  # doctest: +SKIP
        Decimal('12.34500000')
        """
        instrument = self._instrument(symbol, exchange)
        period = to_range(start, end)
        return self._read(TRADES_VIEW, _select(instrument, period, columns, decimals, include_failed))

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
        """Return rows of any table, with its own columns.

        Parameters
        ----------
        name : str
            Name of the table. Rows of instruments that need DECIMAL(38,18), in the table `NAME_decimal`, are
            included.
        symbol : str or None
            Only rows of this symbol; None: of all.
        start, end : int, str, datetime or None
            First time inside, and first after, by the first of these columns that the table has:
            `order_time`, `timestamp`, `from_time`, `hour`, `started`. None: no limit.
        columns : sequence of str or None
            Names of columns; None: all.
        exchange : str or None
            Only rows of this exchange; None: of all.
        decimals : bool
            True: prices and sizes are exact decimals; those that an event lacks are null. False: integers.
        include_failed : bool
            Whether chunks of `books`, `grids` and `events` that failed a check are included.

        Returns
        -------
        Result
            Empty if the table was not made yet.

        Raises
        ------
        SettingsError
            If there is no such table, column or time.

        Examples
        --------
        >>> open("demo/warehouse").table("events", "BTC-USDT", columns=["sequence"])  # doctest: +SKIP
        """
        first, last = to_range(start, end)
        reader = self._reader()
        instruments = [
            row
            for row in reader.rows(INSTRUMENTS)
            if symbol in (None, row["symbol"]) and exchange in (None, row["exchange"])
        ]
        selection = Selection(instruments, exchange, symbol, first, last, columns, decimals, include_failed)
        return self._read(view_of(name), selection)

    def gaps(
        self, symbol: str | None = None, start: TimeLike | None = None, end: TimeLike | None = None
    ) -> Result:
        """Return the discontinuities of the feeds.

        Parameters
        ----------
        symbol : str or None
            Only those of this symbol; None: all.
        start, end : int, str, datetime or None
            First `from_time` inside, and first after; None: no limit.

        Examples
        --------
        >>> open("books").gaps("BTC-USDT")["kind"].value_counts()  # doctest: +SKIP
        """
        return self.table("gaps", symbol, start, end)

    def coverage(
        self, symbol: str | None = None, start: TimeLike | None = None, end: TimeLike | None = None
    ) -> Result:
        """Return how long the book of each chunk had each status, ns.

        Parameters
        ----------
        symbol : str or None
            Only this symbol; None: all.
        start, end : int, str, datetime or None
            First `from_time` inside, and first after; None: no limit.

        Examples
        --------
        >>> open("books").coverage("BTC-USDT").to_pandas()[["hour", "verified"]]  # doctest: +SKIP
        """
        return self.table("coverage", symbol, start, end)

    def verdicts(
        self, symbol: str | None = None, start: TimeLike | None = None, end: TimeLike | None = None
    ) -> Result:
        """Return each suite's verdict on each chunk.

        Parameters
        ----------
        symbol : str or None
            Only this symbol; None: all.
        start, end : int, str, datetime or None
            First start of a chunk inside, and first after; None: no limit. Verdicts on all chunks together
            have the `hour` -1, so a `start` leaves them out.

        Examples
        --------
        >>> open("books").verdicts("BTC-USDT").to_pandas()[["suite", "verdict"]]  # doctest: +SKIP
        """
        return self.table("verdicts", symbol, start, end)

    def runs(self) -> Result:
        """Return the finished runs: command, times, published versions and summary as JSON.

        Examples
        --------
        >>> open("books").runs()["command"].to_pylist()  # doctest: +SKIP
        ['ingest', 'reconstruct', 'validate']
        """
        return self.table("runs")

    def failed_chunks(self, symbol: str | None = None, exchange: str | None = None) -> list[FailedChunk]:
        """Return the chunks that failed a check, and why.

        Parameters
        ----------
        symbol, exchange : str or None
            Only chunks of this symbol or exchange; None: of all.

        Examples
        --------
        >>> open("books").failed_chunks("BTC-USDT")  # doctest: +SKIP
        []
        """
        failed = self._reader().failed_chunks()
        chunks = [key for key in failed if symbol in (None, key[1]) and exchange in (None, key[0])]
        return list(select_failed(failed, chunks))

    def _reader(self) -> TableReader:
        """Return a reader of the versions that are published now."""
        return TableReader(self.path, require_published(self.path))

    def _instrument(self, symbol: str, exchange: str | None) -> dict[str, Any]:
        """Return the row of `instruments` of a symbol; raise if there is none, or there are several."""
        rows = find_instruments(self.path, symbol, exchange)
        if len(rows) > 1:
            venues = sorted(row["exchange"] for row in rows)
            raise WarehouseError(
                f"{symbol} is listed on {', '.join(venues)}: choose one, such as exchange={venues[0]!r}"
            )
        return rows[0]

    def _read(self, view: View, selection: Selection) -> Result:
        """Read a view, and warn of the failed chunks that the result includes."""
        result = read_result(self._reader(), view, selection)
        if selection.include_failed:
            warn_of_failed(result.failed_chunks, 3, _LEAVE_OUT)
        return result


def _select(
    instrument: Mapping[str, Any],
    period: tuple[int | None, int | None],
    columns: Sequence[str] | None,
    decimals: bool,
    include_failed: bool,
) -> Selection:
    """Return the selection of one instrument's rows."""
    names = instrument["exchange"], instrument["symbol"]
    return Selection([instrument], *names, *period, columns, decimals, include_failed)
