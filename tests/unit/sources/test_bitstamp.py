"""The Bitstamp source reads diffs, snapshots and trades, and a real capture agrees with its REST books."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from venue_lines import read_counted

from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import RECORDS
from deltabook.schemas.names import GapKind, Status
from deltabook.udfs.orderbook.continuity import (
    APPLY,
    IGNORE,
    RESET,
    UpdateIds,
    UpdateVerdicts,
    check_updates,
    initial_state,
)
from deltabook.udfs.ordering.feed_order import in_stream_order, make_events
from deltabook.udfs.sources.bitstamp import BitstampSource
from deltabook.udfs.sources.common.records import EMPTY_RECORD

US = 1000
TIME = 1641343695572693
BOOK = {"timestamp": "1641343695", "microtimestamp": str(TIME)}
BOOK |= {"bids": [["0.14695", "4567.5"], ["0.14", "0"]], "asks": [["0.15", "1"]]}
TRADE = {"id": 216000477, "amount": 0.0792, "amount_str": "0.07920000", "price_str": "3805.44", "type": 0}
TRADE |= {"microtimestamp": str(TIME)}
URL = b"https://www.bitstamp.net/api/v2/order_book/ethusd"
LEVELS = {
    "bid_prices": [14_695_000, 14_000_000],
    "bid_sizes": [456_750_000_000, 0],
    "ask_prices": [15_000_000],
    "ask_sizes": [10**8],
}
TAKEN = {"record": "book_update", "exchange": "BITSTAMP", "symbol": "ETH-USD", "timestamp": TIME * US}
TAKEN |= {"sequence": TIME, "source_file": "capture", "source_row": 1}


def message(channel: str, data: Any, event: str = "data") -> bytes:
    return json.dumps({"data": data, "channel": channel, "event": event}).encode()


def diff(pair: str = "ethusd", **fields: Any) -> bytes:
    return message(f"diff_order_book_{pair}", BOOK | fields)


def snapshot(url: bytes = URL, **fields: Any) -> bytes:
    return url + b" -> 1641343696.5: " + json.dumps(BOOK | fields).encode()


def trade(**fields: Any) -> bytes:
    return message("live_trades_ethusd", TRADE | fields, "trade")


def read_with_counts(*lines: bytes) -> tuple[list[dict[str, Any]], Counter[str]]:
    return read_counted(BitstampSource, lines)


def read(*lines: bytes) -> list[dict[str, Any]]:
    return read_with_counts(*lines)[0]


def only(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def test_every_field_of_a_diff():
    (record,) = read(b"1641343697.5: " + diff())
    assert record == EMPTY_RECORD | TAKEN | LEVELS | {"received": 1641343697_500000000}


@pytest.mark.parametrize("url", [URL, URL + b"/", URL + b"?group=1"])
def test_the_url_alone_gives_a_snapshot_its_symbol(url):
    (record,) = read(snapshot(url))
    more = {"received": 1641343696_500000000, "is_snapshot": True}
    assert record == EMPTY_RECORD | TAKEN | LEVELS | more


@pytest.mark.parametrize(("kind", "side"), [(0, "buy"), (1, "sell"), ("1", "sell")])
def test_the_type_of_a_trade_is_the_side_of_the_aggressor(kind, side):
    (record,) = read(trade(type=kind))
    names = ("record", "symbol", "trade_id", "sequence", "timestamp", "side", "price", "size")
    head = "trade", "ETH-USD", 216000477, 216000477, TIME * US
    assert only(record, *names) == (*head, side, 380_544_000_000, 7_920_000)


@pytest.mark.parametrize(("pair", "symbol"), [("btcusd", "BTC-USD"), ("btcusd-perp", "BTC-USD-PERP")])
def test_names_of_pairs(pair, symbol):
    url = URL.replace(b"ethusd", pair.encode())
    assert [record["symbol"] for record in read(diff(pair), snapshot(url))] == [symbol, symbol]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (message("order_book_ethusd", BOOK), "other: order_book"),
        (message("detail_order_book_ethusd", BOOK), "other: detail_order_book"),
        (message("live_orders_ethusd", {}), "other: answer"),
        (message("diff_order_book_ethusd", {}, "bts:subscription_succeeded"), "other: answer"),
        (b'{"event":"bts:heartbeat","channel":"","data":{}}', "other: answer"),
        (snapshot(b"https://www.bitstamp.net/api/v2/ticker/ethusd"), "other: response"),
        (b"wss://ws.bitstamp.net/ <-> 1641343690.5", "connection"),
        (b"", "blank"),
    ],
)
def test_other_lines_are_counted_by_their_kind(line, kind):
    line = line.replace(b'"channel": "live_orders_ethusd", "event": "data"', b'"event": "order_created"')
    records, lines = read_with_counts(line, diff())
    assert len(records) == 1
    assert lines == {kind: 1, "taken": 1}


BAD = {
    "not JSON": (diff()[:-5], ""),
    "a list": (b"[]", "expected an object"),
    "data that is no object": (message("diff_order_book_ethusd", []), "field data"),
    "no time": (diff(microtimestamp=None), "field microtimestamp"),
    "a time of zero": (diff(microtimestamp="0"), "after 1970"),
    "a time beyond int64 in ns": (diff(microtimestamp=str(2**62)), "fits int64 in ns"),
    "no bids": (diff(bids=None), "field bids"),
    "a negative size": (diff(asks=[["1", "-1"]]), "negative"),
    "a snapshot without a time": (snapshot(microtimestamp=None), "field microtimestamp"),
    "a trade of no side": (trade(type=2), "field type"),
    "a trade without an id": (trade(id=None), "field id"),
    "a trade without a price": (trade(price_str=None), "field price_str"),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_line_goes_to_quarantine_and_the_next_is_read(line, reason):
    records, lines = read_with_counts(diff(), line, diff())
    bad = records[1]
    assert only(bad, "record", "source_row", "raw") == ("quarantine", 2, line)
    assert reason in bad["reason"] and bad["reason"]
    assert only(records[-1], "record", "source_row", "damaged") == ("book_update", 3, False)
    assert lines == {"quarantined": 1, "taken": 2}


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        (diff(bids="x"), ["ETH-USD"]),
        (snapshot(bids="x"), ["ETH-USD"]),
        (trade(type=2), []),
        (b"{", ["BTC-USD", "ETH-USD"]),
        (diff("xrpusd", bids="x"), ["BTC-USD", "ETH-USD"]),
    ],
)
def test_a_bad_line_damages_the_book_it_names_else_all(line, damaged):
    marks = [record for record in read(diff(), diff("btcusd"), line) if record["damaged"]]
    assert sorted(record["symbol"] for record in marks) == damaged
    assert all(mark["sequence"] == TIME + 1 for mark in marks)


def check(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], UpdateVerdicts]:
    """Return the book updates of one symbol in the feed's order, and the verdicts on them."""
    table = pa.Table.from_pylist(rows, schema=RECORDS.arrow)
    table = table.append_column("epoch", pa.array([0] * len(rows), pa.int64()))
    updates = [
        row
        for row in in_stream_order(make_events(table, 0), FEEDS["bitstamp"]).to_pylist()
        if row["event_type"] == "book_update"
    ]
    count = len(updates)
    columns = {name: [row[name] for row in updates] for name in updates[0]}
    ids = UpdateIds(
        np.array(columns["is_snapshot"], dtype=np.bool_),
        np.zeros(count, np.int64),
        *(np.array(columns[name], np.int64) for name in ("first_sequence", "prev_sequence", "sequence")),
        np.zeros(count, np.bool_),
        np.array(columns["damaged"], dtype=np.bool_),
        np.array(columns["timestamp"], np.int64),
    )
    verdicts, out_of_order = check_updates(FEEDS["bitstamp"], ids, initial_state())
    assert out_of_order == -1
    return updates, verdicts


@pytest.mark.parametrize("received", [b"1641343696.4: ", b"1641343696.6: ", b""])
def test_a_diff_of_the_snapshot_s_time_is_dropped_whenever_it_was_received(received):
    later = diff(microtimestamp=str(TIME + 1))
    updates, verdicts = check(read(snapshot(), received + diff(), later))
    actions = [
        (row["is_snapshot"], row["sequence"] - TIME, action)
        for row, action in zip(updates, verdicts.action, strict=True)
    ]
    assert sorted(actions) == [(False, 0, IGNORE), (False, 1, APPLY), (True, 0, RESET)]
    assert verdicts.status[-1] == Status.UNVERIFIABLE


def test_a_damaged_line_makes_the_book_suspect_until_the_next_snapshot():
    times = [{"microtimestamp": str(TIME + number)} for number in (0, 10, 20, 30)]
    rows = read(snapshot(), diff(**times[1]), diff(bids="x"), diff(**times[2]), snapshot(**times[3]))
    updates, verdicts = check([row for row in rows if row["record"] == "book_update"])
    assert [row["damaged"] for row in updates] == [False, False, True, False, False]
    unverifiable, suspect = Status.UNVERIFIABLE, Status.SUSPECT
    assert verdicts.status.tolist() == [unverifiable, unverifiable, suspect, suspect, unverifiable]
    assert verdicts.gap.tolist() == [-1, -1, GapKind.QUARANTINED_ROW, -1, -1]
    assert verdicts.action[-1] == RESET


@pytest.mark.real_data
def test_a_real_capture_gives_the_counts_of_an_independent_reader(real_data: Path):
    names = ("BITSTAMP.ws.1.0", "BITSTAMP.http.0.0")
    files = [read_with_counts(*(real_data / "venues" / name).read_bytes().splitlines()) for name in names]
    assert files[0][1] == {"taken": 717 + 10, "other: answer": 20, "connection": 21}
    assert files[1][1] == {"taken": 10}
    rows = files[0][0] + files[1][0]
    assert sum(row["record"] == "trade" for row in rows) == 10
    counts: Counter[str] = Counter()
    for symbol in {row["symbol"] for row in rows}:
        updates, verdicts = check([row for row in rows if row["symbol"] == symbol])
        assert verdicts.status.max() == Status.UNVERIFIABLE
        assert verdicts.gap.max() == -1
        book: dict[str, dict[int, int]] = {"bid": {}, "ask": {}}
        dropped: dict[tuple[str, int], int] = {}
        for row, action in zip(updates, verdicts.action, strict=True):
            counts[{APPLY: "applied", RESET: "snapshots", IGNORE: "dropped"}[action]] += 1
            if action == RESET:
                book = {"bid": {}, "ask": {}}
            for side in ("bid", "ask"):
                for price, size in zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True):
                    if action == IGNORE:
                        dropped[side, price] = size
                        continue
                    counts["changes"] += action == APPLY
                    counts["deletes"] += action == APPLY and not size
                    counts["absent"] += action == APPLY and not size and price not in book[side]
                    if size:
                        book[side][price] = size
                    else:
                        book[side].pop(price, None)
            if action == RESET:
                fetched = {side: dict(levels) for side, levels in book.items()}
            assert action == IGNORE or max(book["bid"]) < min(book["ask"])
        counts["said"] += len(dropped)
        counts["agree"] += sum(fetched[side].get(price, 0) == size for (side, price), size in dropped.items())
        times = [row["sequence"] for row in updates if not row["is_snapshot"]]
        counts["rising"] += sum(later > earlier for earlier, later in pairwise(times))
    assert counts == {
        "snapshots": 10,
        "applied": 615,
        "dropped": 102,
        "changes": 1_656,
        "deletes": 736,
        "absent": 0,
        "agree": 214,
        "said": 214,
        "rising": 708,
    }
