"""A real capture, written as a day of Crypto Lake: from the first seed on, its books equal the capture's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulted import build, rows
from naive import Update, read_capture

from deltabook.schemas.tables import BOOKS

pytestmark = pytest.mark.real_data

SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
DEPTH = 20
MILLISECOND = 1_000_000


def levels_of(update: Update) -> list[tuple[bool, float, float]]:
    sides = ((True, update.bids), (False, update.asks))
    return [(is_bid, float(price), float(size)) for is_bid, levels in sides for price, size in levels]


def delta_table(updates: list[Update]) -> pa.Table:
    """The vendor's `book_delta_v2`: a row a level change, no word of what is a snapshot."""
    messages = [(update, level) for update in updates for level in levels_of(update)]
    return pa.table(
        {
            "received_time": [update.received for update, _ in messages],
            "origin_time": [update.timestamp * MILLISECOND for update, _ in messages],
            "sequence_number": [update.sequence for update, _ in messages],
            "side_is_bid": [is_bid for _, (is_bid, _, _) in messages],
            "price": [price for _, (_, price, _) in messages],
            "size": [size for _, (_, _, size) in messages],
        }
    )


def book_table(update: Update) -> pa.Table:
    """The vendor's `book`: one row of its own, the best levels of a whole book."""
    columns = {
        "received_time": [update.received],
        "origin_time": [update.timestamp * MILLISECOND],
        "sequence_number": [update.sequence],
    }
    for side, levels in (("bid", sorted(update.bids, reverse=True)), ("ask", sorted(update.asks))):
        for level, (price, size) in enumerate(levels[:DEPTH]):
            columns |= {f"{side}_{level}_price": [float(price)], f"{side}_{level}_size": [float(size)]}
    return pa.table(columns)


def write(folder: Path, table: str, columns: pa.Table) -> None:
    path = folder / table / "exchange=BINANCE" / "symbol=BTC-USDT" / "dt=2024-08-08" / "1.snappy.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(columns, path)


def books(warehouse: Path) -> dict[int, tuple]:
    """The last row of each sequence, of books that are seeded."""
    found = rows(warehouse, BOOKS, "sequence", "status", "order_time", *SIDES)
    return {
        row["sequence"]: tuple(tuple(row[side]) for side in SIDES)
        for row in sorted(found, key=lambda row: row["order_time"])
        if row["status"] != "unseeded"
    }


def test_crypto_lake_day_gives_the_books_of_the_capture(spark, real_data, tmp_path):
    spot = real_data / "binance" / "spot" / "btcusdt_20240808.gz"
    updates = read_capture([spot]).updates
    snapshot = next(update for update in updates if update.is_snapshot)
    diffs = [update for update in updates if update.sequence > snapshot.sequence]
    # The vendor stamps every row; a REST snapshot has no time of its own.
    whole = replace(snapshot, timestamp=diffs[0].timestamp, received=diffs[0].received - 1)
    write(tmp_path / "day", "book_delta_v2", delta_table([whole, *diffs]))
    write(tmp_path / "day", "book", book_table(whole))
    capture = build("binance", [spot], tmp_path / "capture", "--depth", DEPTH)
    lake = build("crypto_lake", [tmp_path / "day"], tmp_path / "lake", "--depth", DEPTH, "--seed", "golden")
    assert (capture.exit_status, lake.exit_status) == (0, 0), capture.said + lake.said
    assert lake.summary["level_changes"] == sum(len(u.bids) + len(u.asks) for u in [whole, *diffs])
    found = books(tmp_path / "lake")
    assert len(found) > 3000
    assert found == books(tmp_path / "capture")
    assert lake.summary["book_rows"].keys() == {"unseeded", "unverifiable"}  # unseeded: before the seed
