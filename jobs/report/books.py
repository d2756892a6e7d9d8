"""What the report draws of one instrument's books and trades, read a batch of rows at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deltabook.jobs.report.facts import Instrument
from deltabook.jobs.tables.published import open_table
from deltabook.jobs.tables.stored import Stored
from deltabook.schemas.columns import SIDE_NAMES, Table
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, EventType, Status
from deltabook.udfs.storage.object_store import readable

COLUMNS = 600
"""Columns of time that a depth map has, about."""
LEVELS = 20
"""Levels a side that are drawn."""
TRADES = 500
"""Trades that are drawn: the largest."""
SECONDS = 7 * 86_400
"""One-second steps, the last ones, whose returns and order flow are drawn."""
LONGEST = 60
"""Seconds for which a book stands without a newer row; after that the recording had paused."""
PAUSES = 30
"""Pauses of the recording that are cut out of an axis of time: the longest."""
_BATCH_BYTES = 32 << 20
_LEAST_STEP = 1_000_000

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class File:
    """A data file: its rows, and the least and greatest `order_time` in it."""

    path: str
    rows: int
    first: int
    last: int


@dataclass(frozen=True)
class Clock:
    """Steps of equal length over stretches of time, one after another: pauses take no steps.

    Attributes
    ----------
    starts, ends : int64[k]
        The stretches, ns; the end is that of the last row.
    first : int64[k]
        Step at which each begins.
    step : int
        Length, ns.
    count : int
        Steps in all.
    """

    starts: Integers
    ends: Integers
    first: Integers
    step: int
    count: int

    def steps(self, times: Integers) -> Integers:
        """Return the step of each time."""
        at = np.maximum(np.searchsorted(self.starts, times, "right") - 1, 0)
        last = np.append(self.first[1:], self.count)[at] - 1
        return np.clip(self.first[at] + (times - self.starts[at]) // self.step, self.first[at], last)

    def times(self) -> Integers:
        """Return the time at which each step begins, ns."""
        at = np.searchsorted(self.first, np.arange(self.count), "right") - 1
        return self.starts[at] + (np.arange(self.count) - self.first[at]) * self.step


@dataclass
class Trades:
    """The largest trades of an instrument, in time, and how many there are in all."""

    count: int = 0
    times: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    prices: Floats = field(default_factory=lambda: np.empty(0))
    sizes: Floats = field(default_factory=lambda: np.empty(0))
    is_buy: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))


@dataclass
class Books:
    """What is drawn of an instrument's books.

    Attributes
    ----------
    rows : int
        Rows there are.
    clock : Clock
        Of the columns.
    bid_prices, bid_sizes, ask_prices, ask_sizes : float64[count, LEVELS]
        The last book of each column, best first; NaN where there is no level, or no book.
    is_suspect : bool[count]
        Whether a row of the column is suspect, or the book that stands in it.
    seconds : int64[n]
        Seconds since 1970, evenly spaced.
    mids, flow : float64[n]
        Mid at the end of each second, NaN after a pause; order flow imbalance of the best level within it.
    trades : Trades
        Of the same instrument.
    """

    rows: int
    clock: Clock
    bid_prices: Floats
    bid_sizes: Floats
    ask_prices: Floats
    ask_sizes: Floats
    is_suspect: NDArray[np.bool_]
    seconds: Integers
    mids: Floats
    flow: Floats
    trades: Trades = field(default_factory=Trades)

    @property
    def column_mids(self) -> Floats:
        """(best bid + best ask) / 2 of each column."""
        return (self.bid_prices[:, 0] + self.ask_prices[:, 0]) / 2

    def returns(self) -> Floats:
        """Return the log return of mid over each second but the first, basis points."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.diff(np.log(self.mids)) * 1e4


def files_of(stored: Stored, table: Table) -> dict[Instrument, list[File]]:
    """Find the data files of every instrument, in time.

    Parameters
    ----------
    stored : Stored
        Whose published versions are read.
    table : Table
        Partitions by symbol, and keeps statistics of `exchange` and `order_time`.

    Returns
    -------
    dict
        By exchange and symbol. A file that holds two exchanges is listed under both.
    """
    files: dict[Instrument, list[File]] = defaultdict(list)
    if not stored.exists(table):
        return files
    opened = open_table(stored.root, table, (stored.versions_read or {}).get(table.name))
    folder = (stored.root / table.name).as_uri()
    for row in pa.table(opened.get_add_actions(flatten=True)).to_pylist():
        path = f"{folder}/{row['path']}"
        file = File(path, row["num_records"], row["min.order_time"], row["max.order_time"])
        for exchange in {row["min.exchange"], row["max.exchange"]}:
            files[exchange, row["partition.symbol"]].append(file)
    return {key: sorted(found, key=lambda file: (file.first, file.path)) for key, found in files.items()}


def clock_of(files: list[File], columns: int = COLUMNS) -> Clock:
    """Lay columns over the time in which there are rows.

    Parameters
    ----------
    files : list of File
        In time, at least one.
    columns : int
        About how many.

    Returns
    -------
    Clock
        Without the pauses that `join_stretches` leaves.
    """
    starts, ends = join_stretches([(file.first, file.last) for file in files])
    step = max(-(-int((ends - starts).sum()) // columns), _LEAST_STEP)
    counts = (ends - starts) // step + 1
    return Clock(starts, ends, np.cumsum(counts) - counts, step, int(counts.sum()))


def join_stretches(stretches: Iterable[tuple[int, int]]) -> tuple[Integers, Integers]:
    """Join stretches of time unless a pause between them is worth cutting out of an axis.

    Parameters
    ----------
    stretches : iterable of (int, int)
        Start and end of each, ns; at least one.

    Returns
    -------
    (int64[k], int64[k])
        Starts and ends; between them are the longest pauses, those of more than a twentieth of the rest.
    """
    known: list[list[int]] = []
    for start, end in sorted(stretches):
        if known and start <= known[-1][1]:
            known[-1][1] = max(known[-1][1], end)
        else:
            known.append([start, end])
    least = max(LONGEST * NANOSECONDS_PER_SECOND, sum(end - start for start, end in known) // 20)
    pauses = sorted((later[0] - one[1] for one, later in pairwise(known)), reverse=True)
    least = max([least, *pauses[PAUSES : PAUSES + 1]])
    joined = known[:1]
    for one in known[1:]:
        if one[0] - joined[-1][1] > least:
            joined.append(one)
        else:
            joined[-1][1] = one[1]
    starts, ends = zip(*joined, strict=True)
    return np.array(starts, np.int64), np.array(ends, np.int64)


def read_books(files: list[File], instrument: dict[str, Any]) -> Books:
    """Read what is drawn of an instrument's books: of each step the last row.

    Cost: all lists of prices and sizes are decoded, once; what is kept does not grow with the rows.

    Parameters
    ----------
    files : list of File
        Of `books` or `books_decimal`, in time, at least one.
    instrument : dict
        Its row of `instruments`.
    """
    clock = clock_of(files)
    last = max(file.last for file in files) // NANOSECONDS_PER_SECOND
    first = max(min(file.first for file in files) // NANOSECONDS_PER_SECOND, last - SECONDS + 1)
    sides: dict[str, Any] = {name: np.full((clock.count, LEVELS), np.nan) for name in SIDE_NAMES}
    count = int(last - first + 1)
    books = Books(
        sum(file.rows for file in files),
        clock,
        **sides,
        is_suspect=np.zeros(clock.count, np.bool_),
        seconds=np.arange(first, last + 1),
        mids=np.full(count, np.nan),
        flow=np.zeros(count),
    )
    drawn = np.full(clock.count, -1, np.int64)
    held = np.full(count, -1, np.int64)
    ends = np.zeros(clock.count, np.bool_)
    units = [
        10.0 ** (0 if instrument["is_decimal"] else instrument[f"{of}_scale"]) for of in ("price", "size")
    ]
    names = ("order_time", "status", "ofi", *SIDE_NAMES)
    for batch in _batches(files, instrument["exchange"], names):
        times = batch["order_time"].to_numpy()
        at, slots = _last_of_each(clock.steps(times), times, drawn)
        for name in SIDE_NAMES:
            sides[name][slots] = _levels(batch[name].take(at), LEVELS, units["size" in name])
        suspect = pc.equal(batch["status"], Status.SUSPECT.label).to_numpy(zero_copy_only=False)
        ends[slots] = suspect[at.to_numpy()]
        books.is_suspect[clock.steps(times[suspect])] = True
        seconds = times // NANOSECONDS_PER_SECOND - first
        at, slots = _last_of_each(seconds, times, held)
        best = [_levels(batch[name].take(at), 1, units[0])[:, 0] for name in SIDE_NAMES[::2]]
        books.mids[slots] = (best[0] + best[1]) / 2
        known = seconds >= 0
        flow = np.nan_to_num(_levels(batch["ofi"], 1, units[1])[:, 0])
        books.flow += np.bincount(seconds[known], flow[known], count)
    stands, latest = _standing(drawn, clock)
    for side in sides.values():
        side[stands] = side[latest]
    books.is_suspect[stands] = ends[latest]
    books.mids = _held(books.mids, held)
    return books


def read_trades(files: list[File], instrument: dict[str, Any]) -> Trades:
    """Read an instrument's largest trades.

    Parameters
    ----------
    files : list of File
        Of `events` or `events_decimal`, in time.
    instrument : dict
        Its row of `instruments`.
    """
    kept: list[Any] = [np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0, np.bool_)]
    count = 0
    units = [
        10.0 ** (0 if instrument["is_decimal"] else instrument[f"{of}_scale"]) for of in ("price", "size")
    ]
    names = ("event_type", "order_time", "data.side", "data.price", "data.size")
    for batch in _batches(files, instrument["exchange"], names):
        batch = batch.filter(pc.equal(batch["event_type"], EventType.TRADE.value))
        if not batch.num_rows:
            continue
        count += batch.num_rows
        side, price, size = (batch["data"].field(name) for name in ("side", "price", "size"))
        found = [batch["order_time"].to_numpy(), _floats(price, units[0]), _floats(size, units[1])]
        found.append(pc.equal(side, "buy").to_numpy(zero_copy_only=False))
        kept = [np.concatenate(pair) for pair in zip(kept, found, strict=True)]
        largest = np.sort(np.argsort(-kept[2], kind="stable")[:TRADES])
        kept = [values[largest] for values in kept]
    return Trades(count, *kept)


def _batches(files: list[File], exchange: str, names: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Yield an instrument's rows, in time within a batch; each batch of bounded bytes."""
    for file in files:
        with pq.ParquetFile(readable(file.path), buffer_size=1 << 20) as opened:
            for group in range(opened.num_row_groups):
                for batch in _of_group(opened, group, ["exchange", *names]):
                    is_own = pc.equal(batch["exchange"], exchange)
                    if not pc.all(is_own).as_py():
                        batch = batch.filter(is_own)
                    times = batch["order_time"].to_numpy()
                    if (np.diff(times) < 0).any():
                        batch = batch.take(pa.array(np.argsort(times, kind="stable")))
                    yield batch


def _of_group(opened: pq.ParquetFile, group: int, names: list[str]) -> Iterable[pa.RecordBatch]:
    """Read a row group whole, which takes half the time, unless it is large."""
    told = opened.metadata.row_group(group)
    if told.total_byte_size <= _BATCH_BYTES:
        table = opened.read_row_group(group, columns=names).combine_chunks()
        return table.to_batches()  # type: ignore[no-any-return]
    rows = max(_BATCH_BYTES * told.num_rows // told.total_byte_size, 64)
    return opened.iter_batches(rows, row_groups=[group], columns=names)  # type: ignore[no-any-return]


def _last_of_each(steps: Integers, times: Integers, newest: Integers) -> tuple[pa.Array, Integers]:
    """Return the last row of each step, unless a later one was met, and those steps; note their times."""
    at = np.flatnonzero(np.append(np.diff(steps) != 0, True)) if len(steps) else np.empty(0, np.intp)
    at = at[steps[at] >= 0]
    at = at[times[at] >= newest[steps[at]]]
    newest[steps[at]] = times[at]
    return pa.array(at), steps[at]


def _levels(lists: pa.ListArray, depth: int, unit: float) -> Floats:
    """Return the first values of each list as one row, NaN where there are fewer."""
    offsets = lists.offsets.to_numpy()
    places = offsets[:-1, None] + np.arange(depth)
    is_there = places < offsets[1:, None]
    values = np.full(places.shape, np.nan)
    values[is_there] = _floats(lists.values.take(pa.array(places[is_there])), unit)
    return values


def _floats(numbers: pa.Array, unit: float) -> Floats:
    return pc.cast(numbers, pa.float64(), safe=False).to_numpy(zero_copy_only=False) / unit  # type: ignore[no-any-return]


def _standing(drawn: Integers, clock: Clock) -> tuple[Integers, Integers]:
    """Return steps without a row in which a book still stands, and the steps whose it is; not in pauses."""
    latest = np.maximum.accumulate(np.where(drawn >= 0, np.arange(clock.count), -1))
    age = clock.times() - drawn[np.maximum(latest, 0)]
    longest = max(LONGEST * NANOSECONDS_PER_SECOND, clock.step)
    stands = np.flatnonzero((drawn < 0) & (latest >= 0) & (age <= longest))
    return stands, latest[stands]


def _held(mids: Floats, held: Integers) -> Floats:
    latest = np.maximum.accumulate(np.where(held >= 0, np.arange(len(mids)), -1))
    is_known = (latest >= 0) & (np.arange(len(mids)) - latest <= LONGEST)
    return np.where(is_known, mids[np.maximum(latest, 0)], np.nan)
