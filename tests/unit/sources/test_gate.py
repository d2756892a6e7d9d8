"""The Gate source reads diffs, snapshots, tickers and trades, and every ticker of a real capture is true."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from venue_lines import read_counted

from deltabook.schemas.errors import InputError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import Status
from deltabook.udfs.orderbook.continuity import APPLY, RESET, UpdateIds, check_updates, initial_state
from deltabook.udfs.sources.common.records import EMPTY_RECORD
from deltabook.udfs.sources.gate import GateSource, symbol_of

MS = 10**6
TIME = 1684930165217
DIFF = {"t": TIME, "s": "BTC_USDT", "U": 11, "u": 12}
FUTURES_DIFF = DIFF | {"a": [{"p": "0.2983", "s": 0}], "b": [{"p": "0.2", "s": 12}]}
SPOT_DIFF = DIFF | {"a": [["0.2983", "0"]], "b": [["0.2", "0.5"]]}
TICKER = {"t": TIME, "u": 12, "s": "BTC_USDT", "b": "0.2", "B": 12, "a": "0.3", "A": 7}
FUTURES_TRADE = {"size": -3, "id": 9, "create_time_ms": TIME, "price": "0.2", "contract": "BTC_USDT"}
SPOT_TRADE = {"id": 9, "create_time_ms": f"{TIME}.4578", "side": "buy", "currency_pair": "BTC_USDT"}
SPOT_TRADE |= {"amount": "1.5", "price": "0.2"}
FUTURES_BOOK = {"id": 10, "current": 1684930166.384, "update": 1684930166.35}
FUTURES_BOOK |= {"asks": [{"s": 803, "p": "0.2974"}], "bids": [{"s": 1, "p": "0.2"}]}
SPOT_BOOK = {"id": 10, "current": TIME, "update": TIME - 1, "asks": [["0.3", "1"]], "bids": [["0.2", "2"]]}
FUTURES_URL = b"https://api.gateio.ws/api/v4/futures/usdt/order_book?contract=BTC_USDT&limit=100&with_id=true"
SPOT_URL = b"https://api.gateio.ws/api/v4/spot/order_book?currency_pair=BTC_USDT&with_id=true"
NUMBERS = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")


def message(channel: str, result: Any, event: str = "update") -> bytes:
    return json.dumps({"time": 1, "channel": channel, "event": event, "result": result}).encode()


def response(url: bytes, book: Any) -> bytes:
    return url + b" -> 1684930166.5: " + json.dumps(book).encode()


def read_with_counts(*lines: bytes) -> tuple[list[dict[str, Any]], Counter[str]]:
    return read_counted(GateSource, lines)


def read(*lines: bytes) -> list[dict[str, Any]]:
    return read_with_counts(*lines)[0]


def only(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def test_every_field_of_a_futures_diff():
    (record,) = read(b"1684930165.5: " + message("futures.order_book_update", FUTURES_DIFF))
    assert record == EMPTY_RECORD | {
        "record": "book_update",
        "exchange": "GATEIO_FUTURES",
        "symbol": "BTC-USDT-PERP",
        "timestamp": TIME * MS,
        "received": 1684930165_500000000,
        "sequence": 12,
        "first_sequence": 11,
        "source_file": "capture",
        "source_row": 1,
        "bid_prices": [20_000_000],
        "bid_sizes": [12 * 10**8],
        "ask_prices": [29_830_000],
        "ask_sizes": [0],
    }


def test_a_spot_diff_has_pairs_as_levels():
    (record,) = read(message("spot.order_book_update", SPOT_DIFF))
    assert only(record, "exchange", "symbol", "sequence", "first_sequence") == ("GATEIO", "BTC-USDT", 12, 11)
    assert only(record, *NUMBERS) == ([20_000_000], [50_000_000], [29_830_000], [0])


@pytest.mark.parametrize(
    ("url", "book", "names", "time"),
    [
        (FUTURES_URL, FUTURES_BOOK, ("GATEIO_FUTURES", "BTC-USDT-PERP"), 1684930166350),
        (SPOT_URL, SPOT_BOOK, ("GATEIO", "BTC-USDT"), TIME - 1),
        (
            FUTURES_URL.replace(b"futures", b"delivery").replace(b"BTC_USDT", b"BTC_USDT_20211231"),
            FUTURES_BOOK | {"update": 1684930166},
            ("GATEIO_FUTURES", "BTC-USDT-211231"),
            1684930166000,
        ),
    ],
)
def test_the_url_alone_gives_a_snapshot_its_exchange_and_symbol(url, book, names, time):
    (record,) = read(response(url, book))
    assert only(record, "exchange", "symbol") == names
    assert only(record, "record", "is_snapshot", "sequence", "timestamp") == (
        "book_update",
        True,
        10,
        time * MS,
    )
    assert record["received"] == 1684930166_500000000


def test_a_ticker_is_a_golden_book_of_one_level_at_its_update_id():
    futures, spot, empty = read(
        message("futures.book_ticker", TICKER),
        message("spot.book_ticker", TICKER | {"B": "12", "A": "7"}),
        message("futures.book_ticker", TICKER | {"a": "", "A": 0}),
    )
    assert only(futures, "record", "kind", "sequence", "timestamp") == (
        "golden",
        "vendor_book",
        12,
        TIME * MS,
    )
    assert only(futures, *NUMBERS) == ([20_000_000], [12 * 10**8], [30_000_000], [7 * 10**8])
    assert only(spot, "exchange", "symbol", *NUMBERS) == ("GATEIO", "BTC-USDT", *only(futures, *NUMBERS))
    assert only(empty, *NUMBERS) == ([20_000_000], [12 * 10**8], [], [])


def test_trades_have_the_side_of_the_aggressor():
    sold, bought, internal, spot = read(
        message("futures.trades", [FUTURES_TRADE, FUTURES_TRADE | {"size": "2.5", "id": 10}]),
        message("futures.trades", [FUTURES_TRADE | {"is_internal": True}]),
        message("spot.trades", SPOT_TRADE),
    )
    names = ("record", "symbol", "side", "trade_id", "sequence", "timestamp", "price", "size")
    head = "trade", "BTC-USDT-PERP"
    assert only(sold, *names) == (*head, "sell", 9, 9, TIME * MS, 20_000_000, 3 * 10**8)
    assert only(bought, *names) == (*head, "buy", 10, 10, TIME * MS, 20_000_000, 25 * 10**7)
    assert internal["side"] == ""
    assert only(spot, *names) == ("trade", "BTC-USDT", "buy", 9, 9, TIME * MS, 20_000_000, 15 * 10**7)


@pytest.mark.parametrize(
    ("printed", "is_spot", "symbol"),
    [
        ("BTC_USDT", True, "BTC-USDT"),
        ("BTC_USDT", False, "BTC-USDT-PERP"),
        ("BTC_USD", False, "BTC-USD-PERP"),
        ("BTC_USDT_20211231", False, "BTC-USDT-211231"),
    ],
)
def test_names_of_instruments(printed, is_spot, symbol):
    assert symbol_of(printed, is_spot=is_spot) == symbol


def test_a_hostile_name_is_refused():
    with pytest.raises(InputError, match="is refused"):
        symbol_of("h='1' or '1'='1'", is_spot=False)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (message("futures.obu", {"full": True}), "other: futures.obu"),
        (message("futures.order_book", {}, "all"), "other: futures.order_book"),
        (message("spot.candlesticks", []), "other: spot.candlesticks"),
        (message("options.order_book_update", {}), "other: options.order_book_update"),
        (message("futures.trades", {"status": "success"}, "subscribe"), "other: answer"),
        (response(b"https://api.gateio.ws/api/v4/futures/usdt/contracts", {}), "other: response"),
        (b"wss://fx-ws.gateio.ws/v4/ws/usdt <-> 1684930163.9", "connection"),
        (b"", "blank"),
    ],
)
def test_other_lines_are_counted_by_their_kind(line, kind):
    records, lines = read_with_counts(line, message("futures.book_ticker", TICKER))
    assert len(records) == 1
    assert lines == {kind: 1, "taken": 1}


def diff(**fields: Any) -> bytes:
    return message("futures.order_book_update", FUTURES_DIFF | fields)


BAD = {
    "not JSON": (diff()[:-5], ""),
    "a list": (b"[]", "expected an object"),
    "a result that is no object": (message("futures.book_ticker", []), "field result"),
    "no id": (diff(u=None), "field u"),
    "ids that fall": (diff(U=13), "U 13 is above u 12"),
    "no levels": (diff(b=None), "field b"),
    "a level that is no level": (diff(b=[1]), "field b"),
    "a level without a size": (diff(b=[{"p": "1"}]), "size"),
    "a negative size": (diff(b=[{"p": "1", "s": -1}]), "negative"),
    "no symbol": (diff(s=None), "field s"),
    "a hostile symbol": (diff(s="X'"), "is refused"),
    "no time": (diff(t=None), "field t"),
    "a snapshot without an id": (response(SPOT_URL, SPOT_BOOK | {"id": None}), "field id"),
    "a snapshot that was requested without an id": (
        response(SPOT_URL, {key: SPOT_BOOK[key] for key in ("update", "asks", "bids")}),
        "with_id=true",
    ),
    "a snapshot at no time": (response(SPOT_URL, SPOT_BOOK | {"update": "soon"}), "field update"),
    "a snapshot of no symbol": (response(SPOT_URL.partition(b"?")[0], SPOT_BOOK), "is refused"),
    "a trade of no side": (message("spot.trades", SPOT_TRADE | {"side": "long"}), "field side"),
    "a trade of no size": (message("futures.trades", [FUTURES_TRADE | {"size": None}]), "size"),
    "a trade of no time": (message("futures.trades", [FUTURES_TRADE | {"create_time_ms": "x"}]), "_time_ms"),
    "one bad trade of two": (message("futures.trades", [FUTURES_TRADE, {"id": 1}]), "field contract"),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_line_goes_to_quarantine_and_the_next_is_read(line, reason):
    (first, bad, good), lines = read_with_counts(diff(), line, diff())
    assert first["record"] == "book_update"
    assert only(bad, "record", "source_row", "raw") == ("quarantine", 2, line)
    assert reason in bad["reason"] and bad["reason"]
    assert only(good, "record", "source_row") == ("book_update", 3)
    assert lines == {"quarantined": 1, "taken": 2}


def check(updates: list[dict[str, Any]]) -> Any:
    """Return the verdicts on the updates of one book, in the order of their ids."""
    updates.sort(key=lambda row: only(row, "sequence", "is_snapshot"))
    count = len(updates)
    columns = {name: [row[name] for row in updates] for name in updates[0]}
    ids = UpdateIds(
        np.array(columns["is_snapshot"], dtype=np.bool_),
        np.zeros(count, np.int64),
        *(np.array(columns[name], np.int64) for name in ("first_sequence", "prev_sequence", "sequence")),
        np.ones(count, np.bool_),
        np.array(columns["damaged"], dtype=np.bool_),
        np.array(columns["timestamp"], np.int64),
    )
    verdicts, out_of_order = check_updates(FEEDS["gate"], ids, initial_state())
    assert out_of_order == -1
    return verdicts


def scaled(row: dict[str, Any], side: str) -> list[tuple[int, int]]:
    assert only(row, "price_scale", "size_scale") == (8, 8)
    return list(zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True))


@pytest.mark.real_data
def test_ids_connect_and_every_ticker_of_a_real_capture_equals_the_book(real_data: Path):
    names = ("GATEIO_FUTURES.ws.1.0", "GATEIO_FUTURES.http.0.0")
    files = [read_with_counts(*(real_data / "venues" / name).read_bytes().splitlines()) for name in names]
    stream, answers = files[0][1], files[1][1]
    assert stream == {
        "taken": 352 + 75,
        "other: answer": 22,
        "other: futures.candlesticks": 1,
        "connection": 23,
    }
    assert answers == {"taken": 10}
    rows = files[0][0] + files[1][0]
    counts: Counter[str] = Counter()
    best: dict[tuple[str, int], list[list[tuple[int, int]]]] = {}
    for symbol in {row["symbol"] for row in rows}:
        updates = [row for row in rows if only(row, "record", "symbol") == ("book_update", symbol)]
        verdicts = check(updates)
        book: dict[str, dict[int, int]] = {}
        for row, action, status, gap in zip(
            updates, verdicts.action, verdicts.status, verdicts.gap, strict=True
        ):
            assert gap == -1
            counts["applied"] += action == APPLY
            counts["snapshots"] += action == RESET
            counts["dropped"] += action not in (APPLY, RESET)
            if action == RESET:
                book = {"bid": {}, "ask": {}}
            elif action == APPLY:
                assert status == Status.VERIFIED
            else:
                continue
            for side in ("bid", "ask"):
                for price, size in scaled(row, side):
                    counts["changes"] += action == APPLY
                    counts["deletes"] += action == APPLY and not size
                    counts["absent"] += action == APPLY and not size and price not in book[side]
                    if size:
                        book[side][price] = size
                    else:
                        book[side].pop(price, None)
            top = max(book["bid"]), min(book["ask"])
            assert top[0] < top[1]
            best[symbol, row["sequence"]] = [
                [(top[0], book["bid"][top[0]])],
                [(top[1], book["ask"][top[1]])],
            ]
        diffs = [row for row in updates if not row["is_snapshot"]]
        counts["linked"] += sum(
            row["first_sequence"] == previous["sequence"] + 1 for previous, row in pairwise(diffs)
        )
    assert counts == {
        "snapshots": 10,
        "applied": 316,
        "dropped": 36,
        "changes": 1_428,
        "deletes": 218,
        "absent": 13,
        "linked": 342,
    }
    tickers = [row for row in rows if row["record"] == "golden"]
    at_message = [row for row in tickers if (row["symbol"], row["sequence"]) in best]
    assert (len(tickers), len(at_message)) == (75, 18)
    for row in at_message:
        assert [scaled(row, "bid"), scaled(row, "ask")] == best[row["symbol"], row["sequence"]]
