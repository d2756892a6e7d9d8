"""Read samples of the books, and the largest trades, of one instrument for the figures of the report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.jobs.report.data_files import WHOLE, DataFile, Period, clip_files, read_batches
from deltabook.jobs.report.time_grid import LONGEST, Integers, TimeGrid, build_time_grid
from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, EventType, Status
from deltabook.schemas.rows import InstrumentRow

LEVELS = 20
"""Number of levels per side that are read for figures."""
TRADES = 500
"""Maximum number of trades that are drawn. If there are more, the largest trades are drawn."""
SECONDS = 7 * 86_400
"""Maximum number of seconds for which returns and order flow are drawn: the last seconds of the books."""

Floats = NDArray[np.float64]


@dataclass
class LargestTrades:
    """The largest trades of an instrument, ordered by time.

    Attributes
    ----------
    count : int
        Number of all trades. The arrays hold only the largest trades.
    times : int64[n]
        `order_time` of each trade, ns since 1970 UTC.
    prices, sizes : float64[n]
        Price and size of each trade, in the instrument's units.
    is_buy : bool[n]
        Whether the aggressor bought.
    """

    count: int = 0
    times: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    prices: Floats = field(default_factory=lambda: np.empty(0))
    sizes: Floats = field(default_factory=lambda: np.empty(0))
    is_buy: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))


@dataclass
class BookSeries:
    """Books of one instrument, sampled over time.

    Attributes
    ----------
    rows : int
        Number of rows of `books` that were read.
    grid : TimeGrid
        Time grid of the depth map. The map has one column for each of the `count` steps of the grid.
    bid_prices, bid_sizes, ask_prices, ask_sizes : float64[count, levels]
        Prices and sizes of the last book in each column, best first; NaN if there is no level or no book.
    is_suspect : bool[count]
        Whether the column has a suspect row of `books`. If the column has no row, the last row before the
        column decides.
    seconds : int64[n]
        Consecutive seconds since 1970 UTC.
    mids, flow : float64[n]
        Mid at the end of each second (NaN in a pause), and order flow imbalance of the best level, summed
        over each second.
    trades : LargestTrades
        Largest trades of the same instrument.
    """

    rows: int
    grid: TimeGrid
    bid_prices: Floats
    bid_sizes: Floats
    ask_prices: Floats
    ask_sizes: Floats
    is_suspect: NDArray[np.bool_]
    seconds: Integers
    mids: Floats
    flow: Floats
    trades: LargestTrades = field(default_factory=LargestTrades)

    @property
    def column_mids(self) -> Floats:
        """Mid of each column, (best bid + best ask) / 2; NaN if a side is empty."""
        return (self.bid_prices[:, 0] + self.ask_prices[:, 0]) / 2

    def returns(self) -> Floats:
        """Return the log return of the mid over each second except the first, in basis points."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.diff(np.log(self.mids)) * 1e4


def read_books(
    files: list[DataFile],
    instrument: InstrumentRow,
    period: Period = WHOLE,
    levels: int = LEVELS,
    known_only: bool = False,
) -> BookSeries | None:
    """Return the last book of each time step within a period, and the mid and order flow of each second.

    Every row of the period is read once. Memory does not grow with the number of rows.

    Parameters
    ----------
    files : list of DataFile
        Data files of `books` or `books_decimal`, ordered by time.
    instrument : InstrumentRow
        Exchange and scales of the instrument.
    period : (int or None, int or None)
        Start (inclusive) and end (exclusive), ns since 1970 UTC.
    levels : int
        Number of levels per side to read.
    known_only : bool
        Whether books are cut to their known levels.

    Returns
    -------
    BookSeries or None
        Sampled books, without trades; None if the period has no rows of `books`.
    """
    files = clip_files(files, period)
    if not files:
        return None
    grid = build_time_grid(files)
    last = max(file.last for file in files) // NANOSECONDS_PER_SECOND
    first = max(min(file.first for file in files) // NANOSECONDS_PER_SECOND, last - SECONDS + 1)
    sides = {name: np.full((grid.count, levels), np.nan) for name in SIDE_NAMES}
    count = int(last - first + 1)
    books = BookSeries(
        0,
        grid,
        sides["bid_prices"],
        sides["bid_sizes"],
        sides["ask_prices"],
        sides["ask_sizes"],
        is_suspect=np.zeros(grid.count, np.bool_),
        seconds=np.arange(first, last + 1),
        mids=np.full(count, np.nan),
        flow=np.zeros(count),
    )
    column_times = np.full(grid.count, -1, np.int64)
    second_times = np.full(count, -1, np.int64)
    ends_suspect = np.zeros(grid.count, np.bool_)
    price_unit, size_unit = _units(instrument)
    names: tuple[str, ...] = ("order_time", "status", "ofi", *SIDE_NAMES)
    if known_only:
        from deltabook.udfs.rebuild.book_rows import cut_to_known  # imports numba

        names += ("bid_known_levels", "ask_known_levels")
    for batch in read_batches(files, instrument["exchange"], names, period):
        batch = cut_to_known(batch) if known_only else batch
        books.rows += batch.num_rows
        times = batch["order_time"].to_numpy()
        rows, columns = _last_row_of_each(grid.steps(times), times, column_times)
        for name in SIDE_NAMES:
            unit = size_unit if "size" in name else price_unit
            sides[name][columns] = _level_matrix(batch[name].take(rows), levels, unit)
        suspect = pc.equal(batch["status"], Status.SUSPECT.label).to_numpy(zero_copy_only=False)
        ends_suspect[columns] = suspect[rows.to_numpy()]
        books.is_suspect[grid.steps(times[suspect])] = True
        seconds = times // NANOSECONDS_PER_SECOND - first
        rows, slots = _last_row_of_each(seconds, times, second_times)
        best = [_level_matrix(batch[name].take(rows), 1, price_unit)[:, 0] for name in SIDE_NAMES[::2]]
        books.mids[slots] = (best[0] + best[1]) / 2
        is_recent = seconds >= 0
        flow = np.nan_to_num(_level_matrix(batch["ofi"], 1, size_unit)[:, 0])
        books.flow += np.bincount(seconds[is_recent], flow[is_recent], count)
    if not books.rows:
        return None
    filled, sources = _carried_columns(column_times, grid)
    for side in sides.values():
        side[filled] = side[sources]
    books.is_suspect[filled] = ends_suspect[sources]
    books.mids = _carry_mids(books.mids, second_times)
    return books


def read_trades(files: list[DataFile], instrument: InstrumentRow, period: Period = WHOLE) -> LargestTrades:
    """Return the largest trades of an instrument within a period; `TRADES` is their maximum number.

    Parameters
    ----------
    files : list of DataFile
        Data files of `events` or `events_decimal`, ordered by time.
    instrument : InstrumentRow
        Exchange and scales of the instrument.
    period : (int or None, int or None)
        Start (inclusive) and end (exclusive), ns since 1970 UTC.
    """
    largest = LargestTrades()
    price_unit, size_unit = _units(instrument)
    names = ("event_type", "order_time", "data.side", "data.price", "data.size")
    for batch in read_batches(clip_files(files, period), instrument["exchange"], names, period):
        batch = batch.filter(pc.equal(batch["event_type"], EventType.TRADE.value))
        if not batch.num_rows:
            continue
        side, price, size = (batch["data"].field(name) for name in ("side", "price", "size"))
        is_buy = pc.equal(side, "buy").to_numpy(zero_copy_only=False)
        times = batch["order_time"].to_numpy()
        prices, sizes = _to_floats(price, price_unit), _to_floats(size, size_unit)
        largest = _join_largest(largest, LargestTrades(batch.num_rows, times, prices, sizes, is_buy))
    return largest


def _join_largest(earlier: LargestTrades, later: LargestTrades) -> LargestTrades:
    """Return the largest of some earlier and later trades, ordered by time, at most `TRADES` in number."""
    sizes = np.concatenate([earlier.sizes, later.sizes])
    chosen = np.sort(np.argsort(-sizes, kind="stable")[:TRADES])
    return LargestTrades(
        earlier.count + later.count,
        np.concatenate([earlier.times, later.times])[chosen],
        np.concatenate([earlier.prices, later.prices])[chosen],
        sizes[chosen],
        np.concatenate([earlier.is_buy, later.is_buy])[chosen],
    )


def _units(instrument: InstrumentRow) -> tuple[float, float]:
    """Return the numbers by which to divide stored prices and stored sizes to get the instrument's units."""
    if instrument["is_decimal"]:
        return 1.0, 1.0
    return 10.0 ** instrument["price_scale"], 10.0 ** instrument["size_scale"]


def _last_row_of_each(steps: Integers, times: Integers, newest: Integers) -> tuple[pa.Array, Integers]:
    """Return the index in a batch of the last row of each step, and the step of each of these rows.

    `steps` and `times` have the step and the time of each row of the batch. Rows with a negative step are
    left out. A step is left out if an earlier batch had a later row of this step. `newest` has the time of
    the last row of each step in the earlier batches, and is updated in place.
    """
    rows = np.flatnonzero(np.append(np.diff(steps) != 0, True)) if len(steps) else np.empty(0, np.intp)
    rows = rows[steps[rows] >= 0]
    rows = rows[times[rows] >= newest[steps[rows]]]
    newest[steps[rows]] = times[rows]
    return pa.array(rows), steps[rows]


def _level_matrix(lists: pa.ListArray, depth: int, unit: float) -> Floats:
    """Return a matrix with the first `depth` values of each list as a row; NaN beyond the end of a list."""
    offsets = lists.offsets.to_numpy()
    indices = offsets[:-1, None] + np.arange(depth)
    is_present = indices < offsets[1:, None]
    values = np.full(indices.shape, np.nan)
    values[is_present] = _to_floats(lists.values.take(pa.array(indices[is_present])), unit)
    return values


def _to_floats(numbers: pa.Array, unit: float) -> Floats:
    """Return stored prices or sizes divided by `unit`, as float64."""
    return pc.cast(numbers, pa.float64(), safe=False).to_numpy(zero_copy_only=False) / unit  # type: ignore[no-any-return]


def _carried_columns(column_times: Integers, grid: TimeGrid) -> tuple[Integers, Integers]:
    """Return the columns without a row that repeat an earlier book, and the columns of these earlier books.

    `column_times` has the time of the last row in each column; -1: no row. `LONGEST` limits the time after
    its row for which a book is repeated. A book is repeated for at least one column.
    """
    latest = np.maximum.accumulate(np.where(column_times >= 0, np.arange(grid.count), -1))
    age = grid.times() - column_times[np.maximum(latest, 0)]
    longest = max(LONGEST * NANOSECONDS_PER_SECOND, grid.step)
    filled = np.flatnonzero((column_times < 0) & (latest >= 0) & (age <= longest))
    return filled, latest[filled]


def _carry_mids(mids: Floats, second_times: Integers) -> Floats:
    """Fill each second without a row with the mid of the last second that has a row.

    `second_times` has the time of the last row in each second; -1: no row. `LONGEST` limits the time for
    which a mid is used. After this time, the mid is NaN.
    """
    latest = np.maximum.accumulate(np.where(second_times >= 0, np.arange(len(mids)), -1))
    is_current = (latest >= 0) & (np.arange(len(mids)) - latest <= LONGEST)
    return np.where(is_current, mids[np.maximum(latest, 0)], np.nan)
