"""Exports for hftbacktest: events are in order by both clocks, and all replayed books equal deltabook's."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captures import depth_rows, simulated_lines, write
from conftest import invoke
from faulted import build, into, lake, rows
from test_replay import in_order, second_snapshot, stretched
from test_report import publish

from deltabook.schemas import tables
from deltabook.schemas.names import HOUR
from deltabook.udfs.export.depth_limit import CHANGES, CLEAR, NOTHING, WHOLE, ShownPrices
from deltabook.udfs.export.two_clock_order import EVENT_DTYPE, TO_EXCHANGE, TO_LOCAL, TwoClockOrder
from deltabook.udfs.orderbook.book import SideChanges
from deltabook.udfs.simulator import kraken
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

START = 1_723_161_255_000_000_000 // HOUR * HOUR
BUY, SELL = 1 << 29, 1 << 28
DEPTH, TRADE, CLEARED, SNAPSHOT = 1, 2, 3, 4
Books = tuple[dict[float, float], dict[float, float]]


def exported(warehouse: Path, folder: Path, *how: object) -> tuple[np.ndarray, dict[str, Any]]:
    """All events of an export, its files in order, and its manifest."""
    run = invoke("export", "events", "--format", "hftbacktest", "--out", folder, *how, *into(warehouse))
    assert run.exit_status == 0, run.said
    manifest = json.loads((folder / "manifest.json").read_text())
    parts = [np.load(folder / file["path"])["data"] for file in manifest["files"]]
    for part, file in zip(parts, manifest["files"], strict=True):
        assert len(part) == file["rows"]
        check_orders(part)
    return np.concatenate(parts), manifest


def check_orders(events: np.ndarray) -> None:
    """The two rules of hftbacktest's own validator, and that nothing arrives before it happens."""
    for bit, clock in ((TO_EXCHANGE, "exch_ts"), (TO_LOCAL, "local_ts")):
        assert (np.diff(events[clock][(events["ev"] & bit) > 0]) >= 0).all(), clock
    assert (events["local_ts"] >= events["exch_ts"]).all()


def apply(books: Books, event: np.void) -> None:
    """What hftbacktest does with one row of depth."""
    kind = int(event["ev"]) & 0xFF
    side = books[0] if int(event["ev"]) & BUY else books[1]
    if kind == CLEARED:
        assert np.isnan(event["px"])
        side.clear()
    elif kind in (DEPTH, SNAPSHOT):
        if event["qty"]:
            side[float(event["px"])] = float(event["qty"])
        else:
            side.pop(float(event["px"]), None)


def levels_of(book: dict[str, Any]) -> Books:
    """A row of books as doubles; an unproven one is shown as none."""
    if book["status"] in ("suspect", "unseeded"):
        return {}, {}
    sides = []
    for side in ("bid", "ask"):
        prices, sizes = ([value / 10**8 for value in book[f"{side}_{what}"]] for what in ("prices", "sizes"))
        sides.append(dict(zip(prices, sizes, strict=True)))
    return sides[0], sides[1]


def check_every_book(events: np.ndarray, books: list[dict[str, Any]]) -> int:
    """Compare the exchange's book with the last row of books at every time that has one; return how often."""
    seen = events[(events["ev"] & TO_EXCHANGE) > 0]
    times = np.maximum.accumulate([book["order_time"] for book in books]).tolist()
    held: Books = ({}, {})
    place = compared = 0
    for row, book in enumerate(books):
        if row + 1 < len(books) and times[row + 1] == times[row]:
            continue
        while place < len(seen) and seen[place]["exch_ts"] <= times[row]:
            apply(held, seen[place])
            place += 1
        assert held == levels_of(book), times[row]
        compared += 1
    return compared


def last(events: np.ndarray, bit: int) -> Books:
    """The book after all that one of the two sees."""
    books: Books = ({}, {})
    for event in events[(events["ev"] & bit) > 0]:
        apply(books, event)
    return books


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    late = random.Random(4)
    market = Market(9, start_time=START + HOUR // 2)
    return [stretched(line, late) for line in capture_lines(market, 150, "BTCUSDT", snapshot_every=60)]


@pytest.fixture(scope="module")
def late(spark, lines, tmp_path_factory) -> Path:
    """Hours of a capture in which many a message arrives after a later one."""
    folder = tmp_path_factory.mktemp("late")
    build("binance", [write(folder / "raw.gz", lines)], folder / "w", "--depth", "full")
    return folder / "w"


@pytest.mark.spark
def test_replayed_books_equal_ours_though_messages_arrive_late(late, tmp_path):
    events, _ = exported(late, tmp_path / "e")
    books = in_order(rows(late, tables.BOOKS))
    assert check_every_book(events, books) > 140
    assert last(events, TO_LOCAL) == levels_of(books[-1])
    both = (events["ev"] & (TO_EXCHANGE | TO_LOCAL)) == (TO_EXCHANGE | TO_LOCAL)
    assert 100 < (~both).sum() < len(events)
    trades = events[((events["ev"] & 0xFF) == TRADE) & ((events["ev"] & TO_EXCHANGE) > 0)]
    expected = [row for row in rows(late, tables.EVENTS) if row["event_type"] == "trade"]
    sold = sorted(
        (row["data"]["price"] / 10**8, row["data"]["size"] / 10**8, row["data"]["side"]) for row in expected
    )
    side_of = {BUY: "buy", SELL: "sell"}
    assert sold == sorted(
        (float(row["px"]), float(row["qty"]), side_of[int(row["ev"]) & (BUY | SELL)]) for row in trades
    )


@pytest.mark.spark
def test_an_unproven_book_is_empty_until_a_snapshot(spark, lines, tmp_path):
    kept = list(lines)
    snapshot = second_snapshot(kept)
    for row in sorted((row for row in depth_rows(kept) if row < snapshot), reverse=True)[4:6]:
        del kept[row]
    build("binance", [write(tmp_path / "raw.gz", kept)], tmp_path / "w", "--depth", "full")
    books = in_order(rows(tmp_path / "w", tables.BOOKS))
    assert {"suspect", "verified"} <= {book["status"] for book in books}
    events, manifest = exported(tmp_path / "w", tmp_path / "e")
    assert check_every_book(events, books) > 140
    assert manifest["books_left_out"]["suspect"] > 1


@pytest.mark.spark
def test_levels_that_the_venue_drops_are_deleted(spark, tmp_path):
    dump = list(kraken.dump_lines(Market(5), 150, "XBT/USD", depth=10))
    build("kraken", [kraken.write_dump(dump, tmp_path)], tmp_path / "w", "--depth", "full")
    events, _ = exported(tmp_path / "w", tmp_path / "e")
    books = in_order(rows(tmp_path / "w", tables.BOOKS))
    assert check_every_book(events, books) > 100
    assert max(len(book["bid_prices"]) for book in books) == 10


@pytest.mark.spark
def test_a_vendor_book_seeds_the_exported_book(spark, tmp_path):
    files = lake(tmp_path / "raw", seeded=False)
    build("crypto_lake", files, tmp_path / "w", "--seed", "golden", "--depth", "full")
    events, _ = exported(tmp_path / "w", tmp_path / "e")
    assert check_every_book(events, in_order(rows(tmp_path / "w", tables.BOOKS))) > 20
    assert ((events["ev"] & 0xFF) == SNAPSHOT).any()


@pytest.mark.spark
def test_a_part_begins_with_the_whole_book(late, tmp_path):
    books = in_order(rows(late, tables.BOOKS))
    since, until = books[50]["order_time"], books[90]["order_time"]
    events, _ = exported(late, tmp_path / "e", "--from", since, "--to", until)
    seen = (events["ev"] & TO_EXCHANGE) > 0
    assert events["exch_ts"][seen].min() >= since and events["exch_ts"][seen].max() < until
    depth = events[seen & ((events["ev"] & 0xFF) != TRADE)]
    assert [int(kind) & 0xFF for kind in depth["ev"][:3]] == [CLEARED, CLEARED, SNAPSHOT]
    within = [book for book in books if since <= book["order_time"] < until]
    assert check_every_book(depth, within) > 20


@pytest.mark.spark
def test_a_chunk_that_is_left_out_leaves_no_book_behind(spark, tmp_path):
    chunks = tmp_path / "config.yaml"
    chunks.write_text("chunk: 5s\n")
    files = [write(tmp_path / "raw.gz", simulated_lines(150))]
    build("binance", files, tmp_path / "w", "--depth", "full", config=chunks)
    books = in_order(rows(tmp_path / "w", tables.BOOKS))
    before, gone, *later = sorted({book["hour"] for book in books})
    verdict = {"exchange": "BINANCE", "symbol": "BTC-USDT", "hour": gone, "suite": "events"}
    verdict |= {
        "verdict": "failed",
        "reasons": "no gaps",
        "hides": True,
        "counts": [],
        "fingerprint": "",
        "run_id": "",
    }
    publish(tmp_path / "w", {tables.VERDICTS: [verdict]})
    events, manifest = exported(tmp_path / "w", tmp_path / "e", "--config", chunks)
    assert [hour["reasons"] for hour in manifest["hours_left_out"]] == [["events: no gaps"]]
    times: dict[int, set[int]] = defaultdict(set)
    for event in rows(tmp_path / "w", tables.EVENTS):
        times[event["hour"]].add(event["order_time"])
    # With the last event before the hour the book goes.
    hidden = [
        book | {"status": "suspect"}
        if book["hour"] == gone or book["order_time"] == max(times[before])
        else book
        for book in books
    ]
    assert check_every_book(events, hidden) > 100
    assert not (times[gone] - times[before] - times[later[0]]) & set(events["exch_ts"].tolist())


@pytest.mark.kernel
@pytest.mark.parametrize("batch", [1, 3, 50])
def test_both_orders_hold_whatever_the_batches(batch):
    random_numbers = np.random.default_rng(8)
    n = 50
    exchange = np.sort(random_numbers.integers(0, 400, n))
    local = exchange + random_numbers.integers(0, 60, n)
    counts = random_numbers.integers(0, 4, n)
    from_here = np.minimum.accumulate(np.append(local, 10**9)[::-1])[::-1]
    ordered, found = TwoClockOrder(), []
    for start in range(0, n, batch):
        part = slice(start, start + batch)
        made = np.zeros(counts[part].sum(), dtype=EVENT_DTYPE)
        made["exch_ts"], made["local_ts"] = (np.repeat(of[part], counts[part]) for of in (exchange, local))
        made["ival"] = np.repeat(np.arange(n)[part], counts[part])
        found.append(ordered.add(made, counts[part], local[part], from_here[1:][part]))
    events = np.concatenate([*found, ordered.take_waiting()])
    check_orders(events)
    has_events = counts > 0
    by_arrival = np.argsort(local, kind="stable")
    for bit, order in ((TO_EXCHANGE, np.arange(n)), (TO_LOCAL, by_arrival)):
        expected = np.repeat(order, counts[order])
        assert events["ival"][(events["ev"] & bit) > 0].tolist() == expected.tolist()
    assert len(events) < 2 * counts.sum() and has_events.any()


@pytest.mark.kernel
@pytest.mark.parametrize("sign", [1, -1])
def test_levels_pushed_out_by_a_message_are_deleted_with_it(sign):
    kept = ShownPrices(sign)
    prices = np.array([10, 11, 12, 9, 9, 11, 30]) * sign + 100
    side = SideChanges(np.array([0, 3, 4, 5, 6, 7]), prices, np.array([1, 1, 1, 1, 0, 5, 2]))
    kinds = np.array([WHOLE, CHANGES, CHANGES, CHANGES, NOTHING])
    deleted = kept.limit_depth(side, np.full(5, 3), kinds)
    changes = [
        [
            ((price - 100) * sign, size)
            for price, size in zip(deleted.prices[a:b].tolist(), deleted.sizes[a:b].tolist(), strict=True)
        ]
        for a, b in pairwise(deleted.offsets.tolist())
    ]
    assert changes == [[(10, 1), (11, 1), (12, 1)], [(9, 1), (12, 0)], [(9, 0)], [(11, 5)], []]
    assert (kept.prices - 100 * sign).tolist() == [10, 11]
    kept.limit_depth(
        SideChanges(np.zeros(2, np.int64), side.prices[:0], side.sizes[:0]), np.full(1, 3), np.array([CLEAR])
    )
    assert len(kept.prices) == 0
