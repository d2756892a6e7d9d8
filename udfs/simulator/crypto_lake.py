"""Writes the simulated market's feed as Crypto Lake's Parquet tables `book_delta_v2`, `trades` and `book`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.udfs.simulator.market import BookSnapshot, Int64Array, Market, MarketChunk
from deltabook.udfs.simulator.recorder import MESSAGES, ReceiveTimes, Recorder, recorded_chunks

Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class LakeFaults:
    """What is wrong with the vendor's tables. Buyers of the data have measured each of these faults.

    Attributes
    ----------
    lost_deletes : float
        Share of the deletes without a row in `book_delta_v2`, 0 to 1. Such a level is stranded.
    crossed_books : float
        Share of the rows of `book` whose best bid is above the best ask, 0 to 1.
    book_delay : int
        Time, ns, by which `book` is behind `book_delta_v2`.
    seed : int
        Seed of the random choices.
    """

    lost_deletes: float = 0.0
    crossed_books: float = 0.0
    book_delay: int = 0
    seed: int = 0


BOOK_DEPTH = 20
"""Levels per side of a row of the table `book`."""

_TIMES = [("received_time", pa.timestamp("ns")), ("origin_time", pa.timestamp("ns"))]
_WHERE = [("exchange", pa.string()), ("symbol", pa.string())]
SCHEMAS = {
    "book_delta_v2": pa.schema(
        [
            *_TIMES,
            ("sequence_number", pa.int64()),
            ("side_is_bid", pa.bool_()),
            ("price", pa.float64()),
            ("size", pa.float64()),
            *_WHERE,
        ]
    ),
    "trades": pa.schema(
        [
            ("side", pa.string()),
            ("quantity", pa.float64()),
            ("price", pa.float64()),
            ("trade_id", pa.int64()),
            *reversed(_TIMES),
            *_WHERE,
        ]
    ),
    "book": pa.schema(
        [
            *_TIMES,
            ("sequence_number", pa.int64()),
            *(
                (f"{side}_{level}_{field}", pa.float64())
                for side in ("bid", "ask")
                for level in range(BOOK_DEPTH)
                for field in ("price", "size")
            ),
            *_WHERE,
        ]
    ),
}
"""Columns of each table, as the vendor's reader returns them. In the vendor's files, exchange and symbol are
not columns but parts of the folder names."""


def tables(
    market: Market,
    messages: int,
    exchange: str,
    symbol: str,
    *,
    seeded: bool = False,
    book_every: int = 1,
    float_times: bool = False,
    faults: LakeFaults | None = None,
) -> dict[str, pa.Table]:
    """Advance a market and return its feed as Crypto Lake's tables.

    Parameters
    ----------
    market : Market
        The market. It is advanced by `messages`.
    messages : int
        Number of diffs to write. A diff's sequence number is its last update id (Binance's u).
    exchange, symbol : str
        The vendor's names of the exchange and the instrument, such as ``BINANCE`` and ``BTC-USDT``.
    seeded : bool
        True: begin `book_delta_v2` with a message that holds the whole book, before the first diff.
    book_every : int
        Number of messages from one row of `book` to the next. The first row follows the first message.
    float_times : bool
        True: round all times to float64, as in some of the vendor's files. The times are then multiples of
        256 ns.
    faults : LakeFaults, optional
        What is wrong with the tables; None: nothing.

    Returns
    -------
    dict of str to pyarrow.Table
        Maps each table's name to the table, which has the columns of `SCHEMAS`. The table `trades` has one
        row for each maker order that is hit.

    Raises
    ------
    ValueError
        If `book_every` is below 1.
    """
    recorder = Recorder()
    parts: dict[str, list[Columns]] = {name: [] for name in SCHEMAS}
    if seeded:
        book = market.snapshot(limit=None)
        received = recorder.receive_book(book, book.timestamp, MESSAGES)
        parts["book_delta_v2"].append(_seed_rows(market, book, received))
    for rows, _ in day_chunks(market, messages, recorder, book_every, faults or LakeFaults()):
        for name, columns in rows.items():
            parts[name].append(columns)
    where = {"exchange": exchange, "symbol": symbol}
    return {name: make_table(name, rows, where, float_times) for name, rows in parts.items()}


def day_chunks(
    market: Market,
    messages: int,
    recorder: Recorder,
    book_every: int,
    faults: LakeFaults,
    chunk_messages: int = 256,
) -> Iterator[tuple[dict[str, Columns], MarketChunk]]:
    """Advance a market chunk by chunk, and yield the columns of the vendor's tables.

    Parameters
    ----------
    market : Market
        The market. It is advanced by `messages`.
    messages : int
        Number of diffs.
    recorder : Recorder
        Assigns the receive times.
    book_every : int
        See `tables`.
    faults : LakeFaults
        What is wrong with the tables.
    chunk_messages : int
        Number of messages per chunk; only one chunk is in memory at a time.

    Yields
    ------
    (rows, chunk) : (dict of str to Columns, MarketChunk)
        Columns by table, and what is true.

    Raises
    ------
    ValueError
        If `book_every` is below 1.
    """
    if book_every < 1:
        raise ValueError(f"book_every must be at least 1, is {book_every}")
    random, done = np.random.default_rng(faults.seed), 0
    for chunk, times in recorded_chunks(market, messages, recorder, chunk_messages):
        which = slice(-done % book_every, None, book_every)
        yield (
            {
                "book_delta_v2": _lose_deletes(_delta_rows(market, chunk, times), faults, random),
                "trades": _trade_rows(market, chunk, times),
                "book": _spoil_books(
                    _book_rows(market, chunk, times, which), faults, random, market.price_scale
                ),
            },
            chunk,
        )
        done += len(chunk.timestamps)


def write_tables(feed: dict[str, pa.Table], folder: Path) -> list[Path]:
    """Write tables in the vendor's folder layout, one file per table and day.

    A file's path is ``<table>/exchange=<exchange>/symbol=<symbol>/dt=<day>/1.snappy.parquet``. The day is
    the UTC date of the origin time. A table without rows has no file.

    Parameters
    ----------
    feed : dict of str to pyarrow.Table
        Result of `tables`.
    folder : Path
        Folder to write to.

    Returns
    -------
    list of Path
        The files written.
    """
    paths = []
    for name, table in feed.items():
        days = pc.strftime(table["origin_time"], format="%Y-%m-%d")
        for day in sorted(days.unique().to_pylist()):
            rows = table.filter(pc.equal(days, day))
            where = "/".join(f"{key}={rows[key][0].as_py()}" for key in ("exchange", "symbol"))
            path = folder / name / where / f"dt={day}" / "1.snappy.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows.drop_columns(["exchange", "symbol"]), path, compression="snappy")
            paths.append(path)
    return paths


def _numbers(market: Market, prices: Int64Array, sizes: Int64Array, name: str = "size") -> Columns:
    """Return prices and sizes as doubles.

    Doubles represent integers below 2**53 exactly. So each quotient is the double that is nearest to the
    decimal number, and its printed text is the decimal number.
    """
    return {"price": prices / 10**market.price_scale, name: sizes / 10**market.size_scale}


def _seed_rows(market: Market, book: BookSnapshot, received: int) -> Columns:
    counts = len(book.bid_prices), len(book.ask_prices)
    return {
        "received_time": np.full(sum(counts), received),
        "origin_time": np.full(sum(counts), book.timestamp),
        "sequence_number": np.full(sum(counts), book.last_update_id),
        "side_is_bid": np.repeat([True, False], counts),
        **_numbers(
            market,
            np.concatenate([book.bid_prices, book.ask_prices]),
            np.concatenate([book.bid_sizes, book.ask_sizes]),
        ),
    }


def _delta_rows(market: Market, chunk: MarketChunk, received: ReceiveTimes) -> Columns:
    """Return a row for each changed level; each message has its bids first, then its asks, best first."""
    counts = np.diff(chunk.bid_offsets), np.diff(chunk.ask_offsets)
    messages = np.concatenate([np.arange(len(chunk.timestamps)).repeat(count) for count in counts])
    order = np.argsort(messages, kind="stable")
    messages = messages[order]
    return {
        "received_time": received.messages[messages],
        "origin_time": chunk.timestamps[messages],
        "sequence_number": chunk.last_update_ids[messages],
        "side_is_bid": np.repeat([True, False], [count.sum() for count in counts])[order],
        **_numbers(
            market,
            np.concatenate([chunk.bid_prices, chunk.ask_prices])[order],
            np.concatenate([chunk.bid_sizes, chunk.ask_sizes])[order],
        ),
    }


def _trade_rows(market: Market, chunk: MarketChunk, received: ReceiveTimes) -> Columns:
    return {
        "side": np.where(chunk.trade_buyer_is_maker == 1, "sell", "buy"),
        **_numbers(market, chunk.trade_prices, chunk.trade_sizes, "quantity"),
        "trade_id": chunk.trade_ids,
        "origin_time": chunk.trade_timestamps,
        "received_time": received.trades,
    }


def _book_rows(market: Market, chunk: MarketChunk, received: ReceiveTimes, which: slice) -> Columns:
    rows: Columns = {
        "received_time": received.partials[which],
        "origin_time": chunk.timestamps[which],
        "sequence_number": chunk.last_update_ids[which],
    }
    for side, prices, sizes in (
        ("bid", chunk.top_bid_prices, chunk.top_bid_sizes),
        ("ask", chunk.top_ask_prices, chunk.top_ask_sizes),
    ):
        for level in range(BOOK_DEPTH):
            numbers = _numbers(market, prices[which, level], sizes[which, level])
            rows |= {f"{side}_{level}_{field}": values for field, values in numbers.items()}
    return rows


def _lose_deletes(rows: Columns, faults: LakeFaults, random: np.random.Generator) -> Columns:
    """Return the rows of `book_delta_v2` without a share of the deletes."""
    if not faults.lost_deletes:
        return rows
    is_lost = (rows["size"] == 0) & (random.random(len(rows["size"])) < faults.lost_deletes)
    return {name: values[~is_lost] for name, values in rows.items()}


def _spoil_books(rows: Columns, faults: LakeFaults, random: np.random.Generator, price_scale: int) -> Columns:
    """Return the rows of `book`, later by the delay; in a share of them, all bids are above the best ask."""
    for name in ("received_time", "origin_time"):
        rows[name] = rows[name] + faults.book_delay
    if faults.crossed_books:
        is_crossed = random.random(len(rows["ask_0_price"])) < faults.crossed_books
        distance = (rows["ask_19_price"] - rows["bid_19_price"]) * is_crossed
        for level in range(BOOK_DEPTH):
            name = f"bid_{level}_price"
            rows[name] = np.round(rows[name] + distance, price_scale)
    return rows


def make_table(name: str, parts: list[Columns], where: dict[str, str], float_times: bool) -> pa.Table:
    """Return a table of the vendor.

    Parameters
    ----------
    name : str
        Name of the table, a key of `SCHEMAS`.
    parts : list of Columns
        The columns, part by part.
    where : dict of str to str
        Exchange and symbol.
    float_times : bool
        See `tables`.
    """
    length = sum(len(part["origin_time"]) for part in parts)
    columns = {}
    for field in SCHEMAS[name]:
        if field.name in where:
            columns[field.name] = pa.repeat(where[field.name], length)
            continue
        values = np.concatenate([part[field.name] for part in parts]) if parts else np.array([], np.int64)
        if float_times and pa.types.is_timestamp(field.type):
            values = values.astype(np.float64).astype(np.int64)
        columns[field.name] = pa.array(values.tolist() if field.type == pa.string() else values, field.type)
    return pa.table(columns, schema=SCHEMAS[name])
