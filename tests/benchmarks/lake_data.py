"""Write simulated Crypto Lake files with any number of rows, for benchmarks.

Usage: python tests/benchmarks/lake_data.py FOLDER ROWS. The market is random with a fixed seed, and its book
is never crossed.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = 1_723_075_200_000_000_000
"""2024-08-08 00:00 UTC, ns."""
TICKS = 100
"""Ticks in 1 of the price."""
LOTS = 100_000
"""Lots in 1 of a size."""
OPENING_MID = 60_000 * TICKS
SEED_LEVELS = 20
MESSAGE_NANOSECONDS = 100_000_000
HOUR_NANOSECONDS = 3_600_000_000_000
HOUR_ROWS = 8_000_000
"""Level changes of a busy symbol's hour."""


def lake_path(folder: Path, table: str, exchange: str = "BINANCE", symbol: str = "BTC-USDT") -> Path:
    """Name a file as the vendor does."""
    return folder / table / f"exchange={exchange}" / f"symbol={symbol}" / "dt=2024-08-08" / "1.snappy.parquet"


def write_deltas(
    path: Path,
    rows: int,
    *,
    rows_per_message: int = 25,
    row_group_rows: int = 1_000_000,
    compression: str = "snappy",
    message_nanoseconds: int = MESSAGE_NANOSECONDS,
    exchange: str = "BINANCE",
    symbol: str = "BTC-USDT",
    seed: int = 0,
) -> None:
    """Write a `book_delta_v2` file of `rows` rows; its first message is a book of 20 levels a side."""
    tables = _delta_tables(rows, rows_per_message, row_group_rows, message_nanoseconds, seed)
    _write(path, tables, compression, exchange, symbol)


def hours_file(
    folder: Path, hours: int = 1, *, symbol: str = "BTC-USDT", seed: int = 0, with_seed: bool = False
) -> Path:
    """Make a folder with a `book_delta_v2` file of whole hours of `HOUR_ROWS` rows, if it is not there.

    Parameters
    ----------
    folder : Path
        Where to.
    hours : int
        How many.
    symbol : str
        Its name; another `seed`, another market.
    with_seed : bool
        Also the vendor's book that seeds it.

    Returns
    -------
    Path
        The folder.
    """
    path = lake_path(folder, "book_delta_v2", symbol=symbol)
    if not path.exists():
        partial = path.with_name(".partial")
        per_message = 25
        span = HOUR_NANOSECONDS * per_message // HOUR_ROWS - 50_000  # a little less than the hour
        shape = {"rows_per_message": per_message, "message_nanoseconds": span, "symbol": symbol, "seed": seed}
        write_deltas(partial, HOUR_ROWS * hours, **shape)
        if with_seed:
            write_seed(lake_path(folder, "book", symbol=symbol), symbol=symbol)
        partial.rename(path)
    return folder


def write_seed(path: Path, exchange: str = "BINANCE", symbol: str = "BTC-USDT") -> None:
    """Write a `book` file of one row: the book after the first message of `write_deltas`, any seed."""
    received, origin = _times(np.zeros(1, dtype=np.int64), MESSAGE_NANOSECONDS)
    columns = {"received_time": received, "origin_time": origin, "sequence_number": np.ones(1, np.int64)}
    distances = np.arange(1, SEED_LEVELS + 1)
    for side, prices in (("bid", OPENING_MID - distances), ("ask", OPENING_MID + distances)):
        for level, price in enumerate(prices.tolist()):
            columns[f"{side}_{level}_price"] = np.array([price / TICKS])
            columns[f"{side}_{level}_size"] = np.array([1.0])
    _write(path, iter([pa.table(columns)]), "snappy", exchange, symbol)


def write_trades(
    path: Path,
    rows: int,
    *,
    span_nanoseconds: int = HOUR_NANOSECONDS,
    compression: str = "snappy",
    exchange: str = "BINANCE",
    symbol: str = "BTC-USDT",
    seed: int = 0,
) -> None:
    """Write a `trades` file of `rows` rows, evenly over a span of time."""
    random = np.random.default_rng(seed)
    received, origin = _times(np.arange(rows), max(span_nanoseconds // max(rows, 1), 1000))
    table = pa.table(
        {
            "side": pa.array(["sell", "buy"]).take(pa.array(random.integers(0, 2, rows))),
            "quantity": random.geometric(0.0002, rows) / LOTS,
            "price": (OPENING_MID + np.cumsum(random.integers(-1, 2, rows))) / TICKS,
            "trade_id": np.arange(1, rows + 1),
            "origin_time": origin,
            "received_time": received,
        }
    )
    _write(path, iter([table]), compression, exchange, symbol)


def _delta_tables(
    rows: int, rows_per_message: int, row_group_rows: int, message_nanoseconds: int, seed: int
) -> Iterator[pa.Table]:
    random = np.random.default_rng(seed)
    mid, message, written = OPENING_MID, 0, 0
    rest: list[pa.Table] = [_opening(message_nanoseconds)]
    while written < rows:
        while sum(table.num_rows for table in rest) < min(row_group_rows, rows - written):
            lengths = random.geometric(1 / rows_per_message, max(row_group_rows // rows_per_message, 1))
            numbers = np.arange(message + 1, message + 1 + len(lengths))
            mids = mid + np.cumsum(random.integers(-1, 2, len(lengths)))
            rest.append(_changes(random, mid, mids, lengths, numbers, message_nanoseconds))
            mid, message = int(mids[-1]), int(numbers[-1])
        joined = pa.concat_tables(rest)
        group = min(row_group_rows, rows - written)
        yield joined.slice(0, group)
        rest, written = [joined.slice(group)], written + group


def _opening(message_nanoseconds: int) -> pa.Table:
    distances = np.arange(1, SEED_LEVELS + 1)
    ticks = np.concatenate((OPENING_MID - distances, OPENING_MID + distances))
    return _table(
        np.zeros(len(ticks), np.int64), ticks < OPENING_MID, ticks, ticks * 0 + LOTS, message_nanoseconds
    )


def _changes(
    random: np.random.Generator,
    mid: int,
    mids: np.ndarray,
    lengths: np.ndarray,
    numbers: np.ndarray,
    message_nanoseconds: int,
) -> pa.Table:
    """Make messages around a mid price that moves by a tick at most; what it moves onto is deleted.

    Three changes in ten lie near it, the others far out: as on real books, a quarter reach the top 20
    levels, nine messages in ten change them, and thousands of levels stand behind.
    """
    message_of = np.repeat(np.arange(len(lengths)), lengths)
    changes = len(message_of)
    is_bid = random.random(changes) < 0.5
    near = random.random(changes) < 0.3
    distances = np.where(near, random.geometric(0.05, changes), random.geometric(0.0006, changes))
    sizes = random.geometric(0.0002, changes) * (random.random(changes) < 0.7)
    first = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    steps = np.diff(mids, prepend=mid)
    moved = first[steps != 0]
    is_bid[moved], distances[moved], sizes[moved] = steps[steps != 0] < 0, 0, 0
    ticks = mids[message_of] + np.where(is_bid, -distances, distances)
    return _table(numbers[message_of], is_bid, ticks, sizes, message_nanoseconds)


def _table(
    numbers: np.ndarray, is_bid: np.ndarray, ticks: np.ndarray, sizes: np.ndarray, message_nanoseconds: int
) -> pa.Table:
    received, origin = _times(numbers, message_nanoseconds)
    return pa.table(
        {
            "received_time": received,
            "origin_time": origin,
            "sequence_number": numbers + 1,
            "side_is_bid": is_bid,
            "price": ticks / TICKS,
            "size": sizes / LOTS,
        }
    )


def _times(numbers: np.ndarray, message_nanoseconds: int) -> tuple[pa.Array, pa.Array]:
    """Return receive and origin times, both as the vendor's floats left them."""
    jitter = numbers * 7919 % 9973 * 1000
    received = START + numbers * message_nanoseconds + jitter % message_nanoseconds
    origin = (received - 15_000_000) // 1_000_000 * 1_000_000
    return tuple(
        pa.array(times.astype(np.float64).astype(np.int64)).cast(pa.timestamp("ns"))
        for times in (received, origin)
    )  # type: ignore[return-value]


def _write(path: Path, tables: Iterator[pa.Table], compression: str, exchange: str, symbol: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    for table in tables:
        for name, value in (("exchange", exchange), ("symbol", symbol)):
            column = pa.repeat(pa.scalar(value), table.num_rows).dictionary_encode()
            table = table.append_column(name, column)
        writer = writer or pq.ParquetWriter(path, table.schema, compression=compression)
        writer.write_table(table)
    if writer is not None:
        writer.close()


if __name__ == "__main__":
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    write_deltas(lake_path(root, "book_delta_v2"), count)
    write_trades(lake_path(root, "trades"), max(count // 50, 1))
    write_seed(lake_path(root, "book"))
