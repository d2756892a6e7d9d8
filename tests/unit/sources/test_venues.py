"""Sources of single venues: small lines field by field, and the venues' real captures by their own truths."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from venue_lines import VENUE_LINES

from deltabook.udfs.sources.recognition import recognize_file
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.storage.containers import open_file

SYMBOLS = {
    "coinbase": ("COINBASE", "BTC-USD"),
    "kraken_futures": ("KRAKEN_FUTURES", "BTC-USD-PERP"),
    "deribit": ("DERIBIT", "BTC-USD-PERP"),
    "bitget": ("BITGET_FUTURES", "BTC-USDT-PERP"),
    "bitmex": ("BITMEX", "BTC-USD-PERP"),
    "gate": ("GATEIO_FUTURES", "BTC-USDT-PERP"),
    "bitstamp": ("BITSTAMP", "BTC-USD"),
}


def read(source: str, path: Path) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return the records of a file, and its lines by kind."""
    rows: list[dict[str, Any]] = []
    with open_file(str(path)) as stream:
        batches = SOURCES[source]({}).parse(stream, str(path))
        while True:
            try:
                rows += next(batches).to_pylist()
            except StopIteration as end:
                return rows, end.value


def read_lines(source: str, lines: list[bytes], folder: Path) -> tuple[list[dict[str, Any]], Counter[str]]:
    path = folder / "lines"
    path.write_bytes(b"".join(lines))
    return read(source, path)


class Books:
    """Books of plain dictionaries, {(exchange, symbol): (bids, asks)}; prices are scaled to 12 decimals."""

    def __init__(self) -> None:
        self.sides: dict[tuple[str, str], tuple[dict[int, int], dict[int, int]]] = {}
        self.absent = self.deletes = self.changes = 0

    def apply(self, row: dict[str, Any]) -> None:
        key = row["exchange"], row["symbol"]
        if row["is_snapshot"]:
            self.sides[key] = {}, {}
        for side, name in zip(self.sides.setdefault(key, ({}, {})), ("bid", "ask"), strict=True):
            unit = 10 ** (12 - row["price_scale"])
            for price, size in zip(row[f"{name}_prices"], row[f"{name}_sizes"], strict=True):
                is_change = not row["is_snapshot"]
                self.changes += is_change
                if size:
                    side[price * unit] = size * 10 ** (12 - row["size_scale"])
                else:
                    self.deletes += is_change
                    self.absent += is_change and price * unit not in side
                    side.pop(price * unit, None)
                if len(side) and price == 0:
                    raise AssertionError(row)

    def best(self, row: dict[str, Any]) -> list[tuple[int, int] | None]:
        bids, asks = self.sides[row["exchange"], row["symbol"]]
        return [
            (max(bids), bids[max(bids)]) if bids else None,
            (min(asks), asks[min(asks)]) if asks else None,
        ]

    def is_crossed(self, row: dict[str, Any]) -> bool:
        bid, ask = self.best(row)
        return bool(bid and ask and bid[0] >= ask[0])


@pytest.mark.parametrize("source", VENUE_LINES)
def test_snapshot_update_and_trade_are_read(source, tmp_path):
    rows, lines = read_lines(source, VENUE_LINES[source], tmp_path)
    updates = [row for row in rows if row["record"] == "book_update" and row["level_changes"] != 0]
    updates = [row for row in updates if row["bid_prices"] or row["ask_prices"]]
    (trade,) = [row for row in rows if row["record"] == "trade"]
    assert [row["is_snapshot"] for row in updates] == [True, False]
    assert {(row["exchange"], row["symbol"]) for row in rows} == {SYMBOLS[source]}
    books = Books()
    for row in updates:
        books.apply(row)
    assert books.best(updates[-1]) == [(10**12, 10**12), None]
    assert trade["side"] == "sell" and trade["price"] == 10 ** trade["price_scale"]
    assert lines.total() == len(VENUE_LINES[source])
    assert lines["quarantined"] == 0


@pytest.mark.parametrize("source", VENUE_LINES)
def test_own_lines_are_recognized(source, tmp_path):
    path = tmp_path / "capture"
    path.write_bytes(b"".join(VENUE_LINES[source]))
    assert recognize_file(str(path)).source == source


_DELETES = {
    b'"price_level":"2","new_quantity":"0"': b'"price_level":"two","new_quantity":"0"',
    b'"price":2,"qty":0': b'"price":"two","qty":0',
    b'["delete",2,0]': b'["delete","two",0]',
    b'["2","0"]': b'["two","0"]',
    b'"delete","data":[{"symbol":"XBTUSD","id":2': b'"delete","data":[{"symbol":"XBTUSD","id":9',
    b'{"p":"2","s":0}': b'{"p":"two","s":0}',
}
"""{the deleted level of each venue's update: the same, unreadable}."""


@pytest.mark.parametrize("source", VENUE_LINES)
def test_a_line_without_a_required_field_is_quarantined_and_the_others_are_read(source, tmp_path):
    good, _ = read_lines(source, VENUE_LINES[source], tmp_path)
    (update,) = [line for line in VENUE_LINES[source] if any(mark in line for mark in _DELETES)]
    broken = update
    for mark, bad in _DELETES.items():
        broken = broken.replace(mark, bad)
    rows, lines = read_lines(source, [*VENUE_LINES[source], broken], tmp_path)
    (bad,) = [row for row in rows if row["record"] == "quarantine"]
    assert lines["quarantined"] == 1 and bad["source_row"] == len(VENUE_LINES[source]) + 1
    assert len([row for row in rows if row["record"] == "trade"]) == 1
    assert len(rows) >= len(good)


def test_a_hole_in_a_connection_s_count_breaks_the_chain_of_every_book(tmp_path):
    lines = VENUE_LINES["coinbase"]
    whole, _ = read_lines("coinbase", lines, tmp_path)
    links = [(row["sequence"], row["prev_sequence"]) for row in whole if row["record"] == "book_update"]
    assert links == [(1, -1), (3, 1), (4, 3)]  # the last one is the empty update at the end of the file
    holed, _ = read_lines("coinbase", [*lines[:2], *lines[3:]], tmp_path)
    links = [(row["sequence"], row["prev_sequence"]) for row in holed if row["record"] == "book_update"]
    assert links == [(1, -1), (3, 2), (4, 3)]


def test_a_coinbase_file_connects_to_the_file_before(tmp_path):
    lines = VENUE_LINES["coinbase"]
    first, _ = read_lines("coinbase", lines[:3], tmp_path)
    second, _ = read_lines("coinbase", lines[3:], tmp_path)
    updates = [row for row in first + second if row["record"] == "book_update"]
    assert [(row["sequence"], row["prev_sequence"]) for row in updates] == [(1, -1), (2, 1), (3, 2), (4, 3)]


# (file, source, snapshots, updates, level changes of updates, deletes, deletes of absent levels, trades),
# by plain dict books in Decimal.
CAPTURES = [
    ("BITGET.ws.2.0", "bitget", 2, 192, None, None, 0, 125),
    ("BITMEX.ws.1.0", "bitmex", 10, 1_969, 2_587, 543, 0, 27),
    ("COINBASE.first-400.jsonl.zst", "coinbase", 2, 282, 1_662, 389, 13, 240),
    ("DERIBIT.ws.1.0", "deribit", 10, 36, 41, 19, 0, 0),
    ("KRAKEN_FUTURES.ws.1.0", "kraken_futures", 10, 7_014, 7_014, 2_400, 0, 1_003),
    ("BYBIT.first-900.jsonl.zst", "bybit", 4, 549, None, None, 0, 26),
    ("kraken_v2_book.jsonl", "kraken", 1, 3, 5, 2, 0, 0),
]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "source", "snapshots", "updates", "changes", "deletes", "absent", "trades"), CAPTURES
)
def test_a_real_capture_gives_the_counts_of_an_independent_reader(
    real_data: Path, file, source, snapshots, updates, changes, deletes, absent, trades
):
    rows, lines = read(source, real_data / "venues" / file)
    assert lines["quarantined"] == 0
    books = Books()
    kinds: Counter[object] = Counter()
    crossed = 0
    for row in rows:
        kinds[row["record"], row["is_snapshot"]] += 1
        if row["record"] == "book_update":
            empty = not (row["bid_prices"] or row["ask_prices"] or row["is_snapshot"])
            kinds["empty"] += empty
            books.apply(row)
            crossed += books.is_crossed(row)
    assert kinds["book_update", True] == snapshots
    assert kinds["book_update", False] - kinds["empty"] == updates
    assert kinds["trade", False] == trades
    assert crossed == 0
    assert changes in (None, books.changes)
    assert deletes in (None, books.deletes)
    assert books.absent == absent


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("stream", "answers", "source", "snapshots", "diffs", "stale"),
    [
        ("GATEIO_FUTURES.ws.1.0", "GATEIO_FUTURES.http.0.0", "gate", 10, 352, 36),
        ("BITSTAMP.ws.1.0", "BITSTAMP.http.0.0", "bitstamp", 10, 717, 102),
    ],
)
def test_answers_in_a_file_of_their_own_start_the_books_of_a_stream(
    real_data: Path, stream, answers, source, snapshots, diffs, stale
):
    starts, _ = read(source, real_data / "venues" / answers)
    rows, _ = read(source, real_data / "venues" / stream)
    ids = {(row["exchange"], row["symbol"]): row["sequence"] for row in starts}
    assert len(ids) == len(starts) == snapshots and all(row["is_snapshot"] for row in starts)
    updates = [row for row in rows if row["record"] == "book_update"]
    assert len(updates) == diffs
    assert sum(row["sequence"] <= ids[row["exchange"], row["symbol"]] for row in updates) == stale
    assert {(row["exchange"], row["symbol"]) for row in updates} <= ids.keys()


@pytest.mark.real_data
@pytest.mark.parametrize(("file", "source", "tickers"), [("DERIBIT.ws.1.0", "deribit", 89)])
def test_every_ticker_equals_the_book_that_it_describes(real_data: Path, file, source, tickers):
    rows, _ = read(source, real_data / "venues" / file)
    truths = [row for row in rows if row["record"] == "golden"]
    assert len(truths) == tickers
    books, compared = Books(), 0
    for row in rows:
        if row["record"] != "book_update":
            continue
        books.apply(row)
        for truth in truths:
            if (truth["symbol"], truth["sequence"]) == (row["symbol"], row["sequence"]):
                named = Books()
                named.apply(truth | {"is_snapshot": True})
                assert named.best(truth) == books.best(row)
                compared += 1
    assert compared == tickers
