"""Make CSV tables for tests, and parse them into the records of a source."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa

from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources.binance import source as binance
from deltabook.udfs.sources.common.file_source import BLOCK_BYTES, FileSource, line_blocks
from deltabook.udfs.sources.tardis import source as tardis

Record = dict[str, Any]
HEAD = "exchange,symbol,timestamp,local_timestamp"
UPDATES = f"{HEAD},is_snapshot,side,price,amount"
TRADES = f"{HEAD},id,side,price,amount"
QUOTES = f"{HEAD},ask_amount,ask_price,bid_price,bid_amount"
T_DEPTH = "symbol,timestamp,first_update_id,last_update_id,side,update_type,price,qty,pu"
T0 = 1_585_699_200_000_000
"""2020-04-01 00:00 UTC in µs, as Tardis prints it."""
SOURCES: dict[str, Any] = {"tardis": tardis, "binance": binance}


def table(header: str, *rows: str) -> bytes:
    return "".join(f"{line}\n" for line in (header, *rows)).encode()


def update(time: int, side: str, price: object, size: object, snapshot: bool = False, **other: object) -> str:
    """A row of `incremental_book_L2`; times are µs after `T0`, the exchange's 7 µs before the recorder's."""
    fields = {"exchange": "deribit", "symbol": "BTC-PERPETUAL", "timestamp": T0 + time - 7}
    fields |= {"local_timestamp": T0 + time, "is_snapshot": str(snapshot).lower()}
    return ",".join(map(str, (fields | {"side": side, "price": price, "amount": size} | other).values()))


def parse(content: bytes, block_bytes: int = BLOCK_BYTES, source: str = "tardis") -> list[Record]:
    """The records of a table by row, without the columns that are the same in all of them."""
    module = SOURCES[source]

    def blocks(stream: Any, path: str) -> Iterator[bytes]:
        return line_blocks(stream, path, block_bytes)

    usual, module.line_blocks = module.line_blocks, blocks
    try:
        read: FileSource = {"tardis": tardis.TardisSource, "binance": binance.BinanceSource}[source](
            {"path": "f"}
        )
        batches = list(read.parse(io.BytesIO(content), "f"))
    finally:
        module.line_blocks = usual
    records = pa.Table.from_batches(batches, RECORDS.arrow).to_pylist()
    return sorted(records, key=lambda row: (row["source_row"], row["record"], row["symbol"]))


def levels(record: Record, side: str) -> list[tuple[Decimal, Decimal]]:
    """One side of a record."""
    if record["wide"]:
        return [(Decimal(price), Decimal(size)) for price, size in json.loads(record["wide"])[f"{side}s"]]
    scales = {what: -record[f"{what}_scale"] for what in ("price", "size")}
    return [
        (Decimal(price).scaleb(scales["price"]), Decimal(size).scaleb(scales["size"]))
        for price, size in zip(record[f"{side}_prices"], record[f"{side}_sizes"], strict=True)
    ]


def short(record: Record) -> tuple[Any, ...]:
    """A book update in a few words: row, whole book, sequence in µs after T0, damaged, bids, asks."""
    sides = [[tuple(map(float, level)) for level in levels(record, side)] for side in ("bid", "ask")]
    when = record["sequence"] // 1000 - T0
    return (record["source_row"], record["is_snapshot"], when, record["damaged"], *sides)
