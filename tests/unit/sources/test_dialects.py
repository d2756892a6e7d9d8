"""One simulated market, written in every dialect and read through every source, gives the same books."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from events import in_first_epoch

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.feeds import feed_of
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import HOUR, Cadence, RowPolicy, Seed
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.rebuild.checkpoints import BookState
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.simulator import binance, crypto_lake, kraken, tardis
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.truths.vendor_books import VendorBookQueue, queue_vendor_books

MESSAGES, SEED, TOP = 150, 11, 10
NUMBERS = Scaled(8, 8)


def market() -> Market:
    return Market(SEED)


def write_binance(folder: Path) -> list[Path]:
    path = folder / "btcusdt.jsonl"
    path.write_bytes(b"".join(binance.capture_lines(market(), MESSAGES, "BTCUSDT")))
    return [path]


def write_lake(folder: Path) -> list[Path]:
    return crypto_lake.write_tables(
        crypto_lake.tables(market(), MESSAGES, "BINANCE", "BTC-USDT", seeded=True), folder
    )


def write_tardis(folder: Path) -> list[Path]:
    lines = tardis.csv_lines(market(), MESSAGES, "binance", "BTCUSDT")
    names = "binance", "BTCUSDT"
    return [path for table in lines for path in tardis.write_csv(lines[table], folder, table, *names)]


def write_kraken(folder: Path) -> list[Path]:
    return [kraken.write_dump(kraken.dump_lines(market(), MESSAGES, "XBT/USDT", depth=100), folder)]


WRITERS = {
    "binance": (write_binance, "verified"),
    "crypto_lake": (write_lake, "unverifiable"),
    "tardis": (write_tardis, "unverifiable"),
    "kraken": (write_kraken, "checked"),
}


def records_of(source: str, paths: Sequence[Path]) -> pa.Table:
    batches = []
    for path in paths:
        reader = SOURCES[source]({"path": str(path)}).reader(None)
        batches += [batch for part in reader.partitions() for batch in reader.read(part)]
    return pa.Table.from_batches(batches)


def vendor_books(records: pa.Table) -> VendorBookQueue:
    """The vendor's books, as a rebuild reads them."""
    golden = in_first_epoch(records.filter(pc.equal(records["kind"], "vendor_book"))).sort_by("sequence")
    return queue_vendor_books(golden.select(["epoch", "sequence", "received", *SIDE_NAMES]), NUMBERS)


def rebuilt(source: str, records: pa.Table) -> tuple[list[dict[str, Any]], Rebuilder]:
    events = in_first_epoch(records.filter(pc.is_in(records["record"], pa.array(["book_update", "trade"]))))
    exchange, symbol = (events[name][0].as_py() for name in ("exchange", "symbol"))
    feed = feed_of(source, exchange)
    hour = pc.max(events["timestamp"]).as_py() // HOUR * HOUR
    events = order_chunk(events, FLAT_EVENTS.arrow.empty_table(), hour, feed).combine_chunks()
    policy = RowPolicy(TOP, Cadence.MESSAGE, seed=Seed.GOLDEN)
    building = Rebuilder(exchange, symbol, feed, policy, NUMBERS, BookState())
    if source == "crypto_lake":
        building.use_vendor_books(vendor_books(records))
    books = [row for batch in events.to_batches() for row in building.apply_events(batch).to_pylist()]
    return books, building


def top(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(tuple(row[f"{side}_{what}"]) for side in ("bid", "ask") for what in ("prices", "sizes"))


@pytest.fixture(scope="module")
def dialects(tmp_path_factory):
    """Records and books of the market in each dialect."""
    found = {}
    for source, (write, _) in WRITERS.items():
        folder = tmp_path_factory.mktemp(source)
        folder.mkdir(exist_ok=True)
        records = records_of(source, write(folder))
        found[source] = records, *rebuilt(source, records)
    return found


def test_every_line_of_every_dialect_is_readable(dialects):
    for source, (records, _, _) in dialects.items():
        kinds = set(records["record"].to_pylist())
        assert "quarantine" not in kinds, source
        assert {"book_update", "trade", "file"} <= kinds, source


def test_status_is_the_best_that_the_dialect_can_prove_and_there_is_no_gap(dialects):
    for source, (_, books, building) in dialects.items():
        best = WRITERS[source][1]
        assert books[-1]["status"] == best
        assert sum(row["status"] == best for row in books) > MESSAGES / 2, source
        assert building.finish() == [], source


def test_lake_books_are_those_of_the_capture_at_the_same_ids(dialects):
    truth = {row["sequence"]: top(row) for row in dialects["binance"][1] if row["status"] == "verified"}
    ours = {row["sequence"]: top(row) for row in dialects["crypto_lake"][1] if row["bid_prices"]}
    assert len(truth.keys() & ours.keys()) > MESSAGES / 2
    assert {at: ours[at] for at in truth.keys() & ours.keys()} == {
        at: truth[at] for at in truth.keys() & ours.keys()
    }


@pytest.mark.parametrize(("source", "resolution"), [("tardis", 1_000), ("kraken", 1_000)])
def test_books_are_those_of_the_capture_at_the_same_times(dialects, source, resolution):
    truth = {row["timestamp"] // resolution: top(row) for row in dialects["binance"][1]}
    ours = {row["timestamp"] // resolution: top(row) for row in dialects[source][1]}
    seeded = min(
        row["timestamp"] // resolution for row in dialects["binance"][1] if row["status"] == "verified"
    )
    common = [at for at in truth.keys() & ours.keys() if at > seeded]
    assert len(common) > MESSAGES / 2
    assert [ours[at] for at in sorted(common)] == [truth[at] for at in sorted(common)]


def test_trades_are_the_same(dialects):
    def trades(records: pa.Table) -> list[tuple[Any, ...]]:
        chosen = records.filter(pc.equal(records["record"], "trade")).to_pylist()
        return sorted((row["timestamp"] // 1_000, row["price"], row["size"], row["side"]) for row in chosen)

    truth = trades(dialects["binance"][0])
    assert len(truth) > 20
    for source in ("crypto_lake", "tardis", "kraken"):
        assert trades(dialects[source][0]) == truth, source


def test_kraken_checksums_all_match(dialects):
    compared = dialects["kraken"][2].comparisons["checksum"]
    assert compared.compared > MESSAGES / 2
    assert compared.matched == compared.compared
