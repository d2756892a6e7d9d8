"""Make Binance lines for tests, and turn the lines into events and the events into books."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numba
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from places import REAL_DATA

from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import FLAT_EVENTS, RECORDS
from deltabook.schemas.names import Cadence, RowPolicy
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.rebuild.checkpoints import BookState
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.sources.binance.source import BinanceSource

DATA = REAL_DATA
SCALE = 8
START_MS = 1_723_161_600_000
"""2024-08-09 00:00 UTC, as Binance prints it."""
HOUR_NS = START_MS * 1_000_000
EXCHANGE = {"spot": "BINANCE", "usdm": "BINANCE_FUTURES"}
SYMBOL = {"spot": "BTC-USDT", "usdm": "BTC-USDT-PERP"}
FEED = {"spot": FEEDS["binance"], "usdm": FEEDS["binance_futures"]}
COMPILED = not numba.config.DISABLE_JIT

Pairs = Sequence[tuple[str, str]]


def captures(market: str) -> list[Path]:
    """The real capture files of a market, in order; skips the test where they are absent."""
    folder = DATA / "binance" / market
    if not folder.is_dir():
        pytest.skip(f"the real captures are absent: no folder {folder}")
    return sorted(folder.glob("*.gz"))


def compact(message: object) -> str:
    return json.dumps(message, separators=(",", ":"))


def depth(market: str, first: int, last: int, bids: Pairs = (), asks: Pairs = (), **more: Any) -> str:
    """A diff; for `usdm`, `pu` is the id before `first` unless given."""
    times = {"E": START_MS + last} | ({} if market == "spot" else {"T": START_MS + last})
    ids = {"s": "BTCUSDT", "U": first, "u": last} | ({} if market == "spot" else {"pu": first - 1})
    body = {"e": "depthUpdate"} | times | ids | {"b": bids, "a": asks} | more
    return compact({"stream": "btcusdt@depth@100ms", "data": body})


def snapshot(market: str, last: int, bids: Pairs = (), asks: Pairs = (), **more: Any) -> str:
    """A REST snapshot, which names no symbol."""
    times = {} if market == "spot" else {"E": START_MS + last, "T": START_MS + last}
    return compact({"lastUpdateId": last} | times | {"bids": bids, "asks": asks} | more)


def trade(market: str, number: int, price: str = "10", size: str = "1", **more: Any) -> str:
    """A trade; the aggressor bought unless `m=True` says otherwise."""
    last = {"M": True} if market == "spot" else {"X": "MARKET"}
    ids = {"e": "trade", "E": START_MS + number, "T": START_MS + number, "s": "BTCUSDT", "t": number}
    body = ids | {"p": price, "q": size, "m": False} | last | more
    return compact({"stream": "btcusdt@trade", "data": body})


def read_bytes(content: bytes, path: str = "capture", **options: str) -> pa.Table:
    """Parse a capture's content; records in the source's order, without the file's own record."""
    source = BinanceSource({"path": path, **options})
    return pa.Table.from_batches(source.parse(io.BytesIO(content), path), schema=RECORDS.arrow)


def read_lines(lines: Iterable[str], path: str = "capture", **options: str) -> pa.Table:
    """Parse lines as one file."""
    return read_bytes("".join(f"{line}\n" for line in lines).encode(), path, **options)


def read_files(paths: Iterable[Path | str]) -> pa.Table:
    """Parse capture files, each as a Spark task would; a file that fails fails the test."""
    batches: list[pa.RecordBatch] = []
    for path in paths:
        reader = BinanceSource({"path": str(path)}).reader(None)
        *records, verdict = reader.read(reader.partitions()[0])
        assert verdict.column("kind").to_pylist() == ["read"], verdict.to_pylist()
        batches += records
    return pa.Table.from_batches(batches, schema=RECORDS.arrow)


def messages(records: pa.Table) -> pa.Table:
    """Book updates, and the trades of `trade`, or of `aggTrade` where there is no `trade`."""
    kinds = set(records["record"].to_pylist())
    trades = "trade" if "trade" in kinds else "agg_trade"
    return records.filter(pc.is_in(records["record"], pa.array(["book_update", trades])))


def in_first_epoch(records: pa.Table) -> pa.Table:
    """Records with their epoch, as `order_chunk` takes them."""
    return records.append_column("epoch", pa.repeat(pa.scalar(0, pa.int64()), records.num_rows))


def events_of(records: pa.Table, hour: int = HOUR_NS) -> pa.RecordBatch:
    """Put records of one symbol into the feed's order, all as one hour."""
    chosen = in_first_epoch(messages(records))
    futures = "BINANCE_FUTURES" in chosen["exchange"].to_pylist()
    feed = FEED["usdm" if futures else "spot"]
    ordered = order_chunk(chosen, FLAT_EVENTS.arrow.empty_table(), hour, feed).combine_chunks()
    return next(iter(ordered.to_batches()), pa.RecordBatch.from_pylist([], schema=FLAT_EVENTS.arrow))


def rebuilder(
    market: str, levels: int = 20, cadence: Cadence = Cadence.MESSAGE, opening: BookState | None = None
) -> Rebuilder:
    """A rebuilder of one instrument's books."""
    names = EXCHANGE[market], SYMBOL[market]
    return Rebuilder(
        *names,
        FEED[market],
        RowPolicy(levels, cadence),
        Scaled(SCALE, SCALE),
        opening or BookState(),
    )


def batches_of(events: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, events.num_rows, size):
        yield events.slice(start, size)


def feed(building: Rebuilder, events: pa.RecordBatch, size: int = 10_000) -> list[dict[str, Any]]:
    """Feed events in batches; return the rows of `books` (prices and sizes scaled)."""
    rows: list[dict[str, Any]] = []
    for batch in batches_of(events, size):
        rows += building.apply_events(batch).to_pylist()
    return rows


def decimal_book(row: dict[str, Any]) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
    """A row's bids and asks as the oracle gives them."""
    bids, asks = (
        [
            (Decimal(price).scaleb(-SCALE), Decimal(size).scaleb(-SCALE))
            for price, size in zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True)
        ]
        for side in ("bid", "ask")
    )
    return bids, asks


def opening_values(opening: BookState) -> dict[str, Any]:
    """An opening as plain values, which compare."""
    return {
        name: [part.tolist() for part in value] if name in ("bids", "asks") else value
        for name, value in vars(opening).items()
    }
