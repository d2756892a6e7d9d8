"""All dialects of one simulated market describe the same books and trades, as plain dicts compute them."""

from __future__ import annotations

import csv
import hashlib
import json
import zlib
from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby

import numba
import pytest

from deltabook.udfs.simulator import crypto_lake, kraken, tardis
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.kernel

MESSAGES = 30 if numba.config.DISABLE_JIT else 150
SEED = 12
Book = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]


def set_level(levels: dict[Decimal, Decimal], price: Decimal, size: Decimal) -> None:
    if size:
        levels[price] = size
    else:
        levels.pop(price, None)


def best(levels: dict[Decimal, Decimal], depth: int, *, bids: bool) -> list[tuple[Decimal, Decimal]]:
    return sorted(levels.items(), reverse=bids)[:depth]


def binance_events(market_type: str = "spot") -> list[tuple[int, str, dict]]:
    events = []
    for line in capture_lines(Market(SEED), MESSAGES, "BTCUSDT", market_type=market_type):
        received, text = line.split(b" ", 1)
        message = json.loads(text)
        stream = message["stream"].split("@")[1] if "stream" in message else "rest"
        events.append((int(received), stream, message.get("data", message)))
    return events


@pytest.fixture(scope="module")
def lake():
    return crypto_lake.tables(Market(SEED), MESSAGES, "BINANCE", "BTC-USDT", seeded=True)


@pytest.fixture(scope="module")
def csv_tables() -> dict[str, list[dict[str, str]]]:
    lines = tardis.csv_lines(Market(SEED), MESSAGES, "binance", "BTCUSDT")
    return {name: list(csv.DictReader(table)) for name, table in lines.items()}


def lake_columns(table) -> dict[str, list]:
    """Times as int64, floats as the decimals that they print."""
    columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if str(column.type) == "timestamp[ns]":
            column = column.cast("int64")
        values = column.to_pylist()
        columns[name] = [Decimal(repr(v)) for v in values] if str(column.type) == "double" else values
    return columns


def lake_books(table) -> Iterator[tuple[int, int, int, Book]]:
    """Yield sequence number, origin and receive time, and the book after each message."""
    columns = lake_columns(table)
    names = ("sequence_number", "origin_time", "received_time", "side_is_bid", "price", "size")
    bids, asks = {}, {}
    for key, rows in groupby(zip(*(columns[name] for name in names), strict=True), key=lambda row: row[:3]):
        for *_, is_bid, price, size in rows:
            set_level(bids if is_bid else asks, price, size)
        yield *key, (bids, asks)


def tardis_books(rows: list[dict[str, str]]) -> Iterator[tuple[int, int, Book]]:
    """Yield time and local time in µs and the book after each message."""
    bids, asks, was_snapshot = {}, {}, False
    for local, message in groupby(rows, key=lambda row: row["local_timestamp"]):
        for row in message:
            if row["is_snapshot"] == "true" and not was_snapshot:
                bids.clear(), asks.clear()
            was_snapshot = row["is_snapshot"] == "true"
            set_level(bids if row["side"] == "bid" else asks, Decimal(row["price"]), Decimal(row["amount"]))
        yield int(row["timestamp"]), int(local), (bids, asks)


def kraken_messages(depth: int = 100, seed: int = SEED) -> Iterator[tuple[str, list]]:
    """Yield receive time as printed and message."""
    for line in kraken.dump_lines(Market(seed), MESSAGES, "XBT/USD", depth=depth):
        prefix, _, text = line.decode().rstrip("\n").partition(": ")
        if text.startswith("["):
            yield prefix, json.loads(text)


def microseconds(text: str) -> int:
    whole, fraction = text.split(".")
    assert len(fraction) == 6
    return int(whole + fraction)


def newest(message: list) -> int:
    """The newest level time of a book message, µs."""
    sides = [levels for part in message[1:-2] for name, levels in part.items() if name != "c"]
    return max(microseconds(level[2]) for levels in sides for level in levels)


def digits(levels: list[tuple[str, str]]) -> str:
    return "".join(part.replace(".", "").lstrip("0") for level in levels for part in level)


class Client:
    """A Kraken client as the venue documents it: apply, truncate, checksum; numbers stay the printed text."""

    def __init__(self, depth: int, *, truncates: bool = True) -> None:
        self.depth = depth if truncates else 1 << 30
        self.sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}

    def take(self, message: list) -> str | None:
        """Return the checksum sent; a snapshot has none."""
        checksum = None
        for part in message[1:-2]:
            checksum = part.pop("c", checksum)
            for name, levels in part.items():
                side = self.sides[name[0]]
                if name in ("as", "bs"):
                    side.clear()
                for price, size, _, *mark in levels:
                    assert mark in ([], ["r"])
                    if Decimal(size) == 0:
                        del side[price]  # the venue never deletes what a client does not hold
                    else:
                        assert mark or side.get(price) != size
                        side[price] = size
        for name in "ab":
            kept = self.levels(name)[: self.depth]
            self.sides[name].clear()
            self.sides[name].update(kept)
        return checksum

    def levels(self, name: str) -> list[tuple[str, str]]:
        return sorted(self.sides[name].items(), key=lambda level: Decimal(level[0]), reverse=name == "b")

    def checksum(self) -> str:
        return str(zlib.crc32((digits(self.levels("a")[:10]) + digits(self.levels("b")[:10])).encode()))


def test_crypto_lake_and_tardis_tell_the_same_whole_book_at_the_same_times(lake, csv_tables):
    assert len(lake["book_delta_v2"]["received_time"].unique()) == MESSAGES + 1
    pairs = zip(
        lake_books(lake["book_delta_v2"]), tardis_books(csv_tables["incremental_book_L2"]), strict=True
    )
    for (_, origin, received, ours), (timestamp, local, theirs) in pairs:
        assert (origin // 1_000, received // 1_000) == (timestamp, local)
        assert ours == theirs
        assert max(ours[0]) < min(ours[1])
        assert min(len(ours[0]), len(ours[1])) > 1_000


@pytest.mark.parametrize("market_type", ["spot", "usdm"])
def test_binance_and_crypto_lake_tell_the_same_book_at_the_same_ids(lake, market_type):
    events = binance_events(market_type)
    diffs = [(received, data) for received, stream, data in events if stream == "depth"]
    rest = next(data for _, stream, data in events if stream == "rest")
    book = [{Decimal(p): Decimal(q) for p, q in rest[side]} for side in ("bids", "asks")]
    lowest, highest = min(book[0]), max(book[1])
    compared, states = 0, lake_books(lake["book_delta_v2"])
    seed_id, *_ = next(states)
    assert seed_id == diffs[0][1]["U"] - 1
    for (received, diff), (sequence, origin, lake_received, truth) in zip(diffs, states, strict=True):
        assert (sequence, origin, lake_received) == (
            diff["u"],
            diff["E" if market_type == "spot" else "T"] * 1_000_000,
            received,
        )
        if diff["u"] <= rest["lastUpdateId"]:
            continue
        for levels, changes in zip(book, (diff["b"], diff["a"]), strict=True):
            for price, size in changes:
                set_level(levels, Decimal(price), Decimal(size))
        # Beyond the thousand levels of the REST snapshot the book is partial.
        assert book[0].items() <= truth[0].items() and book[1].items() <= truth[1].items()
        assert {p: q for p, q in truth[0].items() if p >= lowest}.items() <= book[0].items()
        assert {p: q for p, q in truth[1].items() if p <= highest}.items() <= book[1].items()
        compared += 1
    assert compared == MESSAGES - 5


@pytest.mark.parametrize("depth", [10, 100, 1000])
def test_a_kraken_client_that_truncates_always_holds_the_true_best_levels(lake, depth):
    messages = {newest(m): (at, m) for at, m in kraken_messages(depth) if m[-2] == f"book-{depth}"}
    client, sent, republished = Client(depth), [], 0
    for _, origin, received, (bids, asks) in lake_books(lake["book_delta_v2"]):
        if origin // 1_000 in messages:
            at, message = messages.pop(origin // 1_000)
            assert at == repr(received / 10**9)
            republished += json.dumps(message).count('"r"')
            sent.append(client.take(message))
            assert sent[-1] in (None, client.checksum())
        for name, levels in (("b", bids), ("a", asks)):
            held = [(Decimal(price), Decimal(size)) for price, size in client.levels(name)]
            assert held == best(levels, depth, bids=name == "b")
    assert not messages
    assert sent.count(None) == 1  # the snapshot
    assert republished > 0
    assert len(sent) > 0.6 * MESSAGES


def test_a_kraken_client_that_never_truncates_ends_with_levels_that_are_not_there():
    held = {}
    for truncates in (True, False):
        client = Client(25, truncates=truncates)
        for _, message in kraken_messages(25):
            if message[-2] == "book-25":
                client.take(message)
        held[truncates] = client
    for name in "ab":
        assert len(held[True].sides[name]) == 25
        assert len(held[False].sides[name]) > 25
    assert any(held[True].levels(name) != held[False].levels(name)[:25] for name in "ab")


def test_checksums_differ_if_one_message_is_lost():
    messages = [message for _, message in kraken_messages() if message[-2] == "book-100"]
    client, wrong = Client(100), 0
    for place, message in enumerate(messages):
        if place != 3:
            try:
                checksum = client.take(message)
            except KeyError:  # deletes what the lost message would have brought
                wrong += 1
                break
            wrong += checksum not in (None, client.checksum())
    assert wrong > 0


def test_all_dialects_tell_the_same_trades(lake, csv_tables):
    binance = [
        (data["t"], data["T"] * 1_000, received, Decimal(data["p"]), Decimal(data["q"]), data["m"])
        for received, stream, data in binance_events()
        if stream == "trade"
    ]
    columns = lake_columns(lake["trades"])
    names = ("trade_id", "origin_time", "received_time", "price", "quantity", "side")
    assert [
        (ident, origin // 1_000, received, price, size, side == "sell")
        for ident, origin, received, price, size, side in zip(*(columns[n] for n in names), strict=True)
    ] == binance
    rows = [
        (int(r["id"]), int(r["timestamp"]), int(r["local_timestamp"]), r["price"], r["amount"], r["side"])
        for r in csv_tables["trades"]
    ]
    expected = [(i, at, received // 1_000, p, q, maker) for i, at, received, p, q, maker in binance]
    assert [(*row[:3], Decimal(row[3]), Decimal(row[4]), row[5] == "sell") for row in rows] == expected
    received_at = {at: received for _, at, received, *_ in binance}
    told = []
    for prefix, message in kraken_messages():
        if message[-2] == "trade":
            for price, size, time, side, kind, _ in message[1]:
                assert kind in ("m", "l")
                told.append((microseconds(time), Decimal(price), Decimal(size), side == "s"))
            assert prefix == repr(received_at[told[-1][0]] / 10**9)
    assert told == [(at, *numbers) for _, at, _, *numbers in binance]
    assert len(told) > MESSAGES


def test_golden_rows_are_the_true_top_of_the_book(lake, csv_tables):
    columns = lake_columns(lake["book"])
    states, compared = lake_books(lake["book_delta_v2"]), 0
    golden25 = {int(row["timestamp"]): row for row in csv_tables["book_snapshot_25"]}
    next(states)
    for row, (sequence, origin, _, (bids, asks)) in enumerate(states):
        assert (columns["sequence_number"][row], columns["origin_time"][row]) == (sequence, origin)
        snapshot = golden25.get(origin // 1_000)
        for side, levels in (("bid", bids), ("ask", asks)):
            top = best(levels, 25, bids=side == "bid")
            assert top[:20] == [
                tuple(columns[f"{side}_{level}_{field}"][row] for field in ("price", "size"))
                for level in range(20)
            ]
            if snapshot:
                assert top == [
                    tuple(Decimal(snapshot[f"{side}s[{level}].{field}"]) for field in ("price", "amount"))
                    for level in range(25)
                ]
                compared += 1
    assert compared > MESSAGES


def test_quotes_are_the_book_tickers(csv_tables):
    tickers = [
        (received // 1_000, *(Decimal(data[name]) for name in "bBaA"))
        for received, stream, data in binance_events()
        if stream == "bookTicker"
    ]
    fields = ("bid_price", "bid_amount", "ask_price", "ask_amount")
    assert tickers == [
        (int(row["local_timestamp"]), *(Decimal(row[name]) for name in fields))
        for row in csv_tables["quotes"]
    ]


def test_no_kraken_depth_but_the_venues_own_is_accepted():
    with pytest.raises(ValueError, match=r"depth .* is 50; channel .* is 'spread'"):
        kraken.dump_lines(Market(1), 1, "XBT/USD", depth=50, channels=("spread",))


def test_bytes_of_a_seed_are_these_compiled_or_not():
    parts = [
        b"".join(kraken.dump_lines(Market(8), 20, "XBT/USD", depth=25)),
        *("".join(lines).encode() for lines in tardis.csv_lines(Market(8), 20, "binance", "X").values()),
        *(
            json.dumps(table.to_pylist(), default=str).encode()
            for table in crypto_lake.tables(Market(8), 20, "BINANCE", "X").values()
        ),
    ]
    assert hashlib.sha256(b"".join(parts)).hexdigest()[:16] == "7c5a02539e3a334b"
