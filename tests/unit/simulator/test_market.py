"""The simulated market: its messages give its true books, and resemble those of real captures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from decimal import Decimal

import numba
import numpy as np
import pytest

from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market, MarketChunk
from deltabook.udfs.simulator.printing import DecimalFormat, decimal_text, level_texts

pytestmark = pytest.mark.kernel

# The suite also runs uncompiled, a hundred times slower.
MESSAGES = 300 if numba.config.DISABLE_JIT else 2_000
USDM = {"price_scale": 2, "size_scale": 3, "smallest_order": 1}

# Keys in the order of the real captures in ../shared/data (the partial books: of Binance's documents).
SPOT_KEYS = {
    "depth@100ms": ["e", "E", "s", "U", "u", "b", "a"],
    "trade": ["e", "E", "s", "t", "p", "q", "T", "m", "M"],
    "bookTicker": ["u", "s", "b", "B", "a", "A"],
    "depth20@100ms": ["lastUpdateId", "bids", "asks"],
    "rest": ["lastUpdateId", "bids", "asks"],
}
USDM_KEYS = {
    "depth@100ms": ["e", "E", "T", "s", "U", "u", "pu", "b", "a"],
    "trade": ["e", "E", "T", "s", "t", "p", "q", "X", "m"],
    "bookTicker": ["e", "u", "s", "b", "B", "a", "A", "T", "E"],
    "depth20@100ms": ["e", "E", "T", "s", "U", "u", "pu", "b", "a"],
    "rest": ["lastUpdateId", "E", "T", "bids", "asks"],
}


@pytest.fixture(scope="module")
def run() -> tuple[tuple[dict[int, int], dict[int, int]], MarketChunk, Market]:
    """The seeding book as a consumer sees it, what followed, and the market after it."""
    market = Market(7)
    seed = market.snapshot()
    books = (
        dict(zip(seed.bid_prices.tolist(), seed.bid_sizes.tolist(), strict=True)),
        dict(zip(seed.ask_prices.tolist(), seed.ask_sizes.tolist(), strict=True)),
    )
    return books, market.advance(MESSAGES), market


def apply(book: dict[int, int], prices: np.ndarray, sizes: np.ndarray) -> None:
    for price, size in zip(prices.tolist(), sizes.tolist(), strict=True):
        if size:
            book[price] = size
        else:
            book.pop(price, None)


def parsed(line: bytes) -> tuple[int, str, dict[str, object]]:
    received, text = line.split(b" ", 1)
    message = json.loads(text)
    if "stream" in message:
        return int(received), message["stream"].split("@", 1)[1], message["data"]
    return int(received), "rest", message


def digest(chunks: list[MarketChunk]) -> str:
    """Of everything but offsets and message indices, which count from the start of a chunk."""
    names = [
        f.name for f in dataclasses.fields(MarketChunk) if not re.search("inside|offsets|messages", f.name)
    ]
    joined = [np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in names]
    return hashlib.sha256(b"".join(column.tobytes() for column in joined)).hexdigest()


def test_book_is_never_crossed_nor_empty(run):
    _, chunk, _ = run
    assert (chunk.ticker_bid_prices < chunk.ticker_ask_prices).all()
    assert (chunk.ticker_bid_sizes > 0).all() and (chunk.ticker_ask_sizes > 0).all()
    assert (chunk.top_bid_prices[:, 0] < chunk.top_ask_prices[:, 0]).all()
    assert (chunk.top_bid_counts == 25).all() and (chunk.top_ask_counts == 25).all()


def test_true_top_equals_a_dict_rebuilt_from_snapshot_and_diffs(run):
    seed, chunk, market = run
    bids, asks = dict(seed[0]), dict(seed[1])
    for i in range(MESSAGES):
        at = slice(*chunk.bid_offsets[i : i + 2])
        apply(bids, chunk.bid_prices[at], chunk.bid_sizes[at])
        at = slice(*chunk.ask_offsets[i : i + 2])
        apply(asks, chunk.ask_prices[at], chunk.ask_sizes[at])
        if i % 10 == 0 or i > MESSAGES - 20:
            best_bids, best_asks = sorted(bids, reverse=True)[:25], sorted(asks)[:25]
            assert best_bids == chunk.top_bid_prices[i].tolist()
            assert best_asks == chunk.top_ask_prices[i].tolist()
            assert [bids[price] for price in best_bids] == chunk.top_bid_sizes[i].tolist()
            assert [asks[price] for price in best_asks] == chunk.top_ask_sizes[i].tolist()
    whole = market.snapshot(limit=None)
    assert len(whole.bid_prices) > 2_000 and len(whole.ask_prices) > 2_000
    true = dict(zip(whole.bid_prices.tolist(), whole.bid_sizes.tolist(), strict=True))
    assert all(true[price] == size for price, size in bids.items())


def test_ids_are_consecutive_and_tickers_and_trades_fall_into_their_message(run):
    _, chunk, _ = run
    assert (chunk.first_update_ids[1:] == chunk.last_update_ids[:-1] + 1).all()
    assert (np.diff(chunk.trade_ids) == 1).all()
    assert (np.diff(chunk.ticker_update_ids) > 0).all()
    row = chunk.ticker_messages
    assert (chunk.first_update_ids[row] <= chunk.ticker_update_ids).all()
    assert (chunk.ticker_update_ids <= chunk.last_update_ids[row]).all()
    for times, row in (
        (chunk.trade_timestamps, chunk.trade_messages),
        (chunk.ticker_timestamps, chunk.ticker_messages),
    ):
        assert (np.diff(times) >= 0).all()
        assert (times <= chunk.timestamps[row]).all()
        assert (times >= chunk.timestamps[row] - 100_000_000).all()


def test_last_ticker_of_a_message_is_its_true_best(run):
    _, chunk, _ = run
    last = np.searchsorted(chunk.ticker_messages, np.arange(MESSAGES), side="right") - 1
    known = last >= 0
    assert (chunk.ticker_bid_prices[last] == chunk.top_bid_prices[:, 0])[known].all()
    assert (chunk.ticker_bid_sizes[last] == chunk.top_bid_sizes[:, 0])[known].all()
    assert (chunk.ticker_ask_prices[last] == chunk.top_ask_prices[:, 0])[known].all()
    assert (chunk.ticker_ask_sizes[last] == chunk.top_ask_sizes[:, 0])[known].all()


def test_market_is_as_busy_as_the_real_captures(run):
    _, chunk, _ = run
    levels = np.diff(chunk.bid_offsets) + np.diff(chunk.ask_offsets)
    assert ((levels >= 45) & (levels <= 220)).mean() > 0.99
    assert 80 < levels.mean() < 120
    tops = (chunk.top_bid_prices, chunk.top_bid_sizes, chunk.top_ask_prices, chunk.top_ask_sizes)
    top = np.concatenate([column[:, :20] for column in tops], axis=1)
    assert 0.80 < (top[1:] != top[:-1]).any(axis=1).mean() < 0.95
    _, shared = np.unique(chunk.trade_timestamps, return_counts=True)
    assert 0.55 < shared[shared > 1].sum() / shared.sum() < 0.80
    assert 2 < len(chunk.trade_ids) / MESSAGES < 8
    moves = np.diff(chunk.top_bid_prices[:, 0])
    assert (moves > 0).mean() > 0.1 and (moves < 0).mean() > 0.1


def test_deletes_of_absent_levels_and_resends_are_as_common_as_in_reality(run):
    seed, chunk, _ = run
    absent = resent = 0
    for book, prices, sizes in (
        (dict(seed[0]), chunk.bid_prices, chunk.bid_sizes),
        (dict(seed[1]), chunk.ask_prices, chunk.ask_sizes),
    ):
        for price, size in zip(prices.tolist(), sizes.tolist(), strict=True):
            absent += size == 0 and price not in book
            resent += size > 0 and book.get(price) == size
            apply(book, np.array([price]), np.array([size]))
    total = len(chunk.bid_prices) + len(chunk.ask_prices)
    assert 0.05 < absent / total < 0.20
    assert 0.005 < resent / total < 0.10


def test_quiet_messages_change_no_top_level_and_have_no_trade():
    chunk = Market(3, quiet_share=0.999).advance(50)
    assert (chunk.top_bid_sizes[:, :20] == chunk.top_bid_sizes[0, :20]).all()
    assert len(chunk.trade_ids) == 0 and len(chunk.ticker_update_ids) == 0


def test_same_seed_gives_the_same_stream_in_any_chunking():
    whole = digest([Market(5).advance(120)])
    market = Market(5)
    assert digest([market.advance(n, photograph=0) for n in (1, 7, 50, 62)]) == whole
    assert digest([Market(6).advance(120)]) != whole


@pytest.mark.parametrize("market_type", ["spot", "usdm"])
def test_lines_are_the_same_bytes_in_any_chunking(market_type):
    settings = {"market_type": market_type, "snapshot_every": 20}
    first, second = (
        list(capture_lines(Market(5), 60, "BTCUSDT", **settings, chunk_messages=size)) for size in (7, 64)
    )
    assert first == second


def test_photograph_is_the_book_inside_the_message():
    market = Market(11)
    chunk = market.advance(10, photograph=4)
    inside = chunk.inside
    assert inside is not None
    assert chunk.first_update_ids[4] <= inside.last_update_id < chunk.last_update_ids[4]
    ticker = np.searchsorted(chunk.ticker_update_ids, inside.last_update_id, side="right") - 1
    assert inside.bid_prices[0] == chunk.ticker_bid_prices[ticker]
    assert inside.ask_sizes[0] == chunk.ticker_ask_sizes[ticker]
    assert len(inside.bid_prices) == len(inside.ask_prices) == 1_000


@pytest.mark.parametrize(
    ("market_type", "parameters", "keys"), [("spot", {}, SPOT_KEYS), ("usdm", USDM, USDM_KEYS)]
)
def test_keys_and_their_order_are_those_of_real_messages(market_type, parameters, keys):
    lines = list(capture_lines(Market(2, **parameters), 30, "BTCUSDT", market_type=market_type))
    seen = {}
    for line in lines:
        _, stream, data = parsed(line)
        seen.setdefault(stream, set()).add(tuple(data))
    assert seen == {stream: {tuple(names)} for stream, names in keys.items()}
    printed = rb'\["\d+\.\d{8}","\d+\.\d{8}"\]' if market_type == "spot" else rb'\["\d+\.\d\d","\d+\.\d{3}"\]'
    levels = [line for line in lines if b"@depth@" in line]
    assert all(len(re.findall(printed, line)) == line.count(b'["') for line in levels)


@pytest.mark.parametrize(("market_type", "parameters"), [("spot", {}), ("usdm", USDM)])
@pytest.mark.parametrize("stride", [1, 50])
def test_a_consumer_seeded_by_the_rest_snapshot_meets_every_golden_top(market_type, parameters, stride):
    usdm = market_type == "usdm"
    settings = {"market_type": market_type, "update_id_stride": stride}
    events = [parsed(line) for line in capture_lines(Market(4, **parameters), 80, "BTCUSDT", **settings)]
    assert [event[0] for event in events] == sorted(event[0] for event in events)
    at = next(i for i, event in enumerate(events) if event[1] == "rest")
    snapshot = events[at][2]
    seed_id = snapshot["lastUpdateId"]
    before = [data for _, stream, data in events[:at] if stream == "depth@100ms"]
    assert sum(data["U"] <= seed_id < data["u"] for data in before) == 1
    assert before[0]["u"] < seed_id
    assert len(snapshot["bids"]) == len(snapshot["asks"]) == 1_000
    books = {
        side: {Decimal(p): Decimal(q) for p, q in snapshot[name]}
        for side, name in (("b", "bids"), ("a", "asks"))
    }
    previous, compared = None, 0
    for _, stream, data in events:
        if stream == "depth@100ms":
            if previous is not None:
                assert data["pu"] == previous if usdm else data["U"] == previous + 1 or stride > 1
            previous = data["u"]
            if data["u"] <= seed_id:
                continue
            for side in "ba":
                for price, size in data[side]:
                    books[side][Decimal(price)] = Decimal(size)
        elif stream == "depth20@100ms" and previous > seed_id:
            assert (data["u"] if usdm else data["lastUpdateId"]) == previous
            for side, name in (("b", "bids"), ("a", "asks")):
                held = [level for level in books[side].items() if level[1]]
                best = sorted(held, reverse=side == "b")[:20]
                assert best == [(Decimal(p), Decimal(q)) for p, q in data[side if usdm else name]]
            compared += 1
    assert compared == 75


def test_bids_of_a_diff_fall_on_spot_and_rise_on_usdm():
    for market_type, falling in (("spot", True), ("usdm", False)):
        lines = map(parsed, capture_lines(Market(2), 5, "BTCUSDT", market_type=market_type))
        for _, stream, data in lines:
            if stream == "depth@100ms":
                prices = [Decimal(price) for price, _ in data["b"]]
                assert prices == sorted(prices, reverse=falling)


def test_no_stream_is_reordered():
    last: dict[str, int] = {}
    for _, stream, data in map(parsed, capture_lines(Market(9), 60, "BTCUSDT")):
        ident = data.get("u") or data.get("t") or data.get("lastUpdateId")
        assert ident > last.get(stream, 0)
        last[stream] = ident


@pytest.mark.parametrize(("scale", "decimals"), [(0, 0), (0, 8), (2, 2), (2, 8), (5, 8), (9, 9)])
def test_decimal_text_is_exact(scale, decimals):
    values = [0, 1, 9, 10, 99_999, 6_183_763, 2**53 + 1, 2**62 + 1]
    expected = [f"{Decimal(value).scaleb(-scale):.{decimals}f}" for value in values]
    assert [decimal_text(value, scale, decimals) for value in values] == expected
    column = np.array(values, np.int64)
    starts, stops = np.array([0, 3]), np.array([3, 8])
    texts = level_texts(
        column, column, starts, stops, DecimalFormat(scale, decimals, scale, decimals), reverse=False
    )
    pairs = [f'["{text}","{text}"]' for text in expected]
    assert texts == [",".join(pairs[:3]), ",".join(pairs[3:])]
    texts = level_texts(
        column, column, starts, stops, DecimalFormat(scale, decimals, scale, decimals), reverse=True
    )
    assert texts[0] == ",".join(pairs[2::-1])


def test_parameters_out_of_range_are_all_named():
    with pytest.raises(ValueError, match=r"starting_mid .* intensity "):
        Market(1, starting_mid=10, intensity=0)
    with pytest.raises(ValueError, match=r"market_type .* snapshot_every "):
        capture_lines(Market(1), 1, "X", market_type="coin", snapshot_every=0)


def test_mid_stays_within_its_bounds_and_bids_above_zero():
    chunk = Market(1, starting_mid=20_000, intensity=400).advance(MESSAGES // 10)
    assert (chunk.bid_prices > 0).all()
    assert chunk.top_bid_prices[:, 0].min() > 4_000


@pytest.mark.parametrize(
    ("market_type", "expected"), [("spot", "2f9b7410ef9d1716"), ("usdm", "e57f34981830ac1f")]
)
def test_bytes_of_a_seed_are_these_compiled_or_not(market_type, expected):
    lines = capture_lines(Market(8), 200, "BTCUSDT", market_type=market_type)
    assert hashlib.sha256(b"".join(lines)).hexdigest()[:16] == expected
