"""Rebuilt books equal the oracle's books at full depth after every message, whatever the batch size."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from events import (
    COMPILED,
    EXCHANGE,
    START_MS,
    batches_of,
    captures,
    decimal_book,
    depth,
    events_of,
    feed,
    opening_values,
    read_files,
    read_lines,
    rebuilder,
    snapshot,
    trade,
)
from hypothesis import example, given
from hypothesis import strategies as st
from naive import (
    Capture,
    Gap,
    Level,
    Market,
    State,
    Update,
    follow_trades,
    parse_lines,
    read_capture,
    rebuild,
)
from properties import cases

from deltabook.schemas.errors import OrderError
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import Cadence, RowPolicy
from deltabook.schemas.tables import BOOKS
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.rebuild.checkpoints import BookState, make_checkpoint_row, restore_book_state
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market as SimulatedMarket

pytestmark = pytest.mark.usefixtures("narrow_bitmaps")

MARKETS: tuple[Market, ...] = ("spot", "usdm")
FULL = 64
"""More levels than any random book here has."""
ARRAYS = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
FLOW = ("trade_count", "buy_volume", "sell_volume")
KNOWN = ("bid_known_levels", "ask_known_levels")
BREAK = RowPolicy().session_break
PRICES = ["10", "10.5", "10.25", "11", "9.99999999", "0.00000001", "12", "50000", "1000000000"]

LEVEL = st.tuples(st.sampled_from(PRICES), st.sampled_from(["0", "0", "1", "2", "0.00000001", "1000000000"]))
SIDE = st.lists(LEVEL, max_size=4)
WHOLE_SIDE = st.lists(LEVEL, max_size=5, unique_by=lambda level: level[0])
STEP = st.one_of(
    st.tuples(st.just("next"), st.integers(1, 3), SIDE, SIDE),
    st.tuples(st.just("next"), st.integers(1, 3), SIDE, SIDE),
    st.tuples(st.sampled_from(["hole", "overlap", "stale"]), st.integers(1, 3), SIDE, SIDE),
    st.tuples(st.just("snapshot"), st.integers(-2, 2), WHOLE_SIDE, WHOLE_SIDE),
    st.tuples(st.sampled_from(["trade", "trade", "trade hole", "fund"]), st.integers(1, 3), SIDE, SIDE),
)
STEPS = st.lists(STEP, max_size=24)
PAUSES = st.dictionaries(st.integers(0, 24), st.sampled_from([BREAK // 2, BREAK, 2 * BREAK]), max_size=3)
SNAPSHOT_BEFORE_A_TRADE = [
    *[("next", 1, [], []), ("snapshot", -2, [], []), ("hole", 1, [], [])],
    *[("trade", 1, [], []), ("snapshot", -1, [], [])],
]
"""The last snapshot waits for the diff after the trade, and its row has a place before both."""


def lines_of(market: Market, steps: list[Any]) -> list[str]:
    """A feed of 100 ms of nothing but edge cases; the first diff names the symbol."""
    lines = [depth(market, 10, 10, [("10", "3")], [("11", "3")])]
    last, number = 10, 1
    for what, length, bids, asks in steps:
        if what == "snapshot":
            lines.append(snapshot(market, max(0, last + length), bids, asks))
        elif what in ("trade", "trade hole", "fund"):
            number += length if what == "trade hole" else 1
            more: dict[str, Any] = {"X": "INSURANCE_FUND"} if what == "fund" and market == "usdm" else {}
            more |= {"T": START_MS + last, "m": length % 2 == 1}
            lines.append(trade(market, number, size=str(length), **more))
        else:
            skip = {"next": 0, "hole": length, "overlap": -length, "stale": -2 * length - 1}[what]
            first, end = max(0, last + 1 + skip), max(0, last + length + skip)
            lines.append(depth(market, first, max(first, end), bids, asks))
            last = max(last, first, end)
    return lines


def paused(events: pa.RecordBatch, pauses: dict[int, int]) -> pa.RecordBatch:
    """The events, some of them after a pause, ns."""
    later = np.cumsum([pauses.get(index, 0) for index in range(events.num_rows)])
    for name in ("timestamp", "order_time"):
        times = pa.array(events[name].to_numpy() + later, pa.int64())
        events = events.set_column(events.schema.get_field_index(name), events.schema.field(name), times)
    return events


def oracle(market: Market, lines: list[str], events: pa.RecordBatch) -> list[State]:
    """The oracle's states of the same updates, in the order and at the times of the events."""
    updates = {update.position: update for update in parse_lines(lines).updates}
    chosen = events.filter(pa.compute.equal(events["event_type"], "book_update"))
    rows = zip(chosen["source_row"].to_pylist(), chosen["order_time"].to_pylist(), strict=True)
    timed = [replace(updates[row - 1], timestamp=time) for row, time in rows]
    return list(rebuild(timed, market, silence=BREAK))


def rows_expected(states: list[State], building: Rebuilder) -> list[State]:
    """A row follows every message that is applied, and every change of status.

    Snapshots at the end wait for a diff.
    """
    waiting = 0 if building.held is None else updates_in(building.held)
    written, status = [], None
    for state in states[: len(states) - waiting]:
        if state.applied or state.status != status:
            written.append(state)
            status = state.status
    return written


def updates_in(events: pa.RecordBatch) -> int:
    return int(pa.compute.sum(pa.compute.equal(events["event_type"], "book_update")).as_py())


def compare(row: dict[str, Any], state: State, levels: int) -> None:
    assert (row["sequence"], row["status"]) == (state.sequence, state.status)
    assert decimal_book(row) == (state.bids[:levels], state.asks[:levels])
    assert (row["bid_levels"], row["ask_levels"]) == (state.bid_levels, state.ask_levels)
    assert row["bid_known_levels"] == min(state.bid_known, levels)
    assert row["ask_known_levels"] == min(state.ask_known, levels)
    crossed = bool(state.bids and state.asks and state.bids[0][0] > state.asks[0][0])
    assert row["crossed"] is crossed


def gaps_of(building: Rebuilder, *leave_out: str) -> list[tuple[Any, ...]]:
    names = ("kind", "expected", "found", "sequence", "resolved_sequence")
    rows = [tuple(row[name] for name in names) for row in building.finish() if row["kind"] not in leave_out]
    # The oracle tells what ids show, not what levels do.
    return sorted((row for row in rows if row[0] != "crossed_book"), key=str)


def as_row(gap: Gap) -> tuple[Any, ...]:
    resolved = -1 if gap.resolved_sequence is None else gap.resolved_sequence
    return gap.kind, gap.expected, gap.found, gap.sequence, resolved


def without_flow(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in row if name not in (*FLOW, "cadence")}


@pytest.mark.kernel
@pytest.mark.parametrize("market", MARKETS)
@cases(400)
@given(
    steps=STEPS,
    pauses=PAUSES,
    levels=st.sampled_from([1, 2, 3, FULL]),
    size=st.sampled_from([1, 2, 5, 10_000]),
)
def test_books_statuses_and_gaps_equal_the_oracle(
    market: Market, steps: Any, pauses: dict[int, int], levels: int, size: int
) -> None:
    lines = lines_of(market, steps)
    events = paused(events_of(read_lines(lines)), pauses)
    building = rebuilder(market, levels)
    rows = feed(building, events, size)
    states = oracle(market, lines, events)
    for row, state in zip(rows, rows_expected(states, building), strict=True):
        compare(row, state, levels)
    book_gaps = gaps_of(building, "trade_gap", "missing_snapshot", "silence")
    assert book_gaps == sorted(map(as_row, states[-1].gaps), key=str)


@pytest.mark.kernel
@pytest.mark.parametrize("market", MARKETS)
@cases(250)
@given(steps=STEPS, levels=st.sampled_from([1, 2, 3, 20]), size=st.sampled_from([1, 3, 10_000]))
def test_cadence_change_writes_the_message_rows_that_differ_from_the_row_before(
    market: Market, steps: Any, levels: int, size: int
) -> None:
    events = events_of(read_lines(lines_of(market, steps)))
    messages = feed(rebuilder(market, levels), events)
    changes = feed(rebuilder(market, levels, Cadence.CHANGE), events, size)
    shown: list[Any] = [None]
    expected, flows, carried = [], [], [0, 0, 0]
    for row in messages:
        carried = [total + row[name] for total, name in zip(carried, FLOW, strict=True)]
        seen = [row[name] for name in (*ARRAYS, "status")]
        if seen != shown[-1]:
            shown.append(seen)
            expected.append(without_flow(row))
            flows.append(carried)
            carried = [0, 0, 0]
    assert [without_flow(row) for row in changes] == expected
    assert [[row[name] for name in FLOW] for row in changes] == flows


@pytest.mark.kernel
@pytest.mark.parametrize("cadence", list(Cadence))
@cases(150)
@given(market=st.sampled_from(MARKETS), steps=STEPS, pauses=PAUSES, levels=st.sampled_from([1, 2, 20]))
def test_batch_size_changes_no_row_no_gap_and_no_opening(
    cadence: Cadence, market: Market, steps: Any, pauses: dict[int, int], levels: int
) -> None:
    events = paused(events_of(read_lines(lines_of(market, steps))), pauses)
    results = []
    for size in (1, 7, 10_000):
        building = rebuilder(market, levels, cadence)
        rows = feed(building, events, size)
        gaps = sorted(building.finish(), key=str)
        results.append((rows, gaps, opening_values(building.capture_state())))
    assert results[0] == results[1] == results[2]


def stored(opening: BookState) -> BookState:
    """An opening as it is read again from its row of `checkpoints`."""
    named = {"exchange": "X", "symbol": "Y", "hour": 0, "event": 0, "fingerprint": ""}
    return restore_book_state(
        pa.Table.from_batches([make_checkpoint_row(opening, Scaled(8, 8), named)]), Scaled(8, 8)
    )


@pytest.mark.kernel
@pytest.mark.parametrize("cadence", list(Cadence))
@cases(150)
@given(
    market=st.sampled_from(MARKETS),
    steps=STEPS,
    pauses=PAUSES,
    levels=st.sampled_from([1, 2, 20]),
    data=st.data(),
)
def test_stopping_anywhere_and_continuing_from_the_opening_gives_the_same_rows(
    cadence: Cadence, market: Market, steps: Any, pauses: dict[int, int], levels: int, data: st.DataObject
) -> None:
    events = paused(events_of(read_lines(lines_of(market, steps))), pauses)
    whole = rebuilder(market, levels, cadence)
    expected = feed(whole, events)
    cuts = sorted(data.draw(st.sets(st.integers(0, events.num_rows), max_size=3)))
    building = rebuilder(market, levels, cadence)
    rows: list[dict[str, Any]] = []
    for start, end in zip([0, *cuts], [*cuts, events.num_rows], strict=True):
        building = rebuilder(market, levels, cadence, stored(building.capture_state()))
        rows += feed(building, events.slice(start, end - start))
    assert rows == expected
    assert opening_values(building.capture_state()) == opening_values(whole.capture_state())


@pytest.mark.kernel
@pytest.mark.parametrize("cadence", list(Cadence))
@cases(150)
@example(market="spot", steps=SNAPSHOT_BEFORE_A_TRADE)
@given(market=st.sampled_from(MARKETS), steps=STEPS)
def test_trades_between_rows_are_a_plain_count(cadence: Cadence, market: Market, steps: Any) -> None:
    """Event by event: a row is of the event before it, or of a snapshot that waited for that event."""
    events = events_of(read_lines(lines_of(market, steps)))
    building = rebuilder(market, 2, cadence)
    count, told, at = Counter[str](), Counter[str](), dict[int, Counter[str]]()
    for batch in batches_of(events, 1):
        (event,) = batch.to_pylist()
        if event["side"]:
            count.update({"all": 1, event["side"]: event["size"]})
        else:
            at[event["sequence"]] = count.copy()
        for row in building.apply_events(batch).to_pylist():
            between, told = at[row["sequence"]] - told, at[row["sequence"]]
            assert [row[name] for name in FLOW] == [between[name] for name in ("all", "buy", "sell")]
    opening, count = building.capture_state(), count - told
    left = [opening.trade_count, opening.buy_volume, opening.sell_volume]
    assert left == [count[name] for name in ("all", "buy", "sell")]


@pytest.mark.kernel
@pytest.mark.parametrize("market", MARKETS)
@cases(150)
@given(steps=STEPS, size=st.sampled_from([1, 3, 10_000]))
def test_trade_gaps_equal_the_oracles_and_leave_the_books_alone(
    market: Market, steps: Any, size: int
) -> None:
    lines = lines_of(market, steps)
    events = events_of(read_lines(lines))
    building = rebuilder(market)
    rows = feed(building, events, size)
    found = gaps_of(building, "sequence_gap", "unbridgeable_snapshot", "missing_snapshot")
    trades = parse_lines(lines).trades
    assert found == sorted(map(as_row, follow_trades(trades)[1]), key=str)
    alone = events.filter(pa.compute.equal(events["event_type"], "book_update"))
    assert [without_flow(row) for row in feed(rebuilder(market), alone, size)] == [
        without_flow(row) for row in rows
    ]


@pytest.mark.kernel
@pytest.mark.parametrize("market", MARKETS)
@cases(150)
@given(steps=STEPS)
def test_updates_affected_is_a_plain_count(market: Market, steps: Any) -> None:
    """Of the updates applied from the gap's own on, until the snapshot that ends it."""
    lines = lines_of(market, steps)
    events = events_of(read_lines(lines))
    building = rebuilder(market)
    feed(building, events, 3)
    expected: list[int] = []
    begun: list[int] = []
    applied, known = 0, 0
    for state in oracle(market, lines, events):
        if state.is_snapshot and state.applied and len(state.gaps) > known:
            known = len(state.gaps)  # a hole that this snapshot ends at once touches no update
            expected.append(0)
        if state.is_snapshot and state.applied:
            expected += [applied - start for start in begun]
            begun = []
        applied += state.applied and not state.is_snapshot
        if len(state.gaps) > known:
            known = len(state.gaps)
            begun.append(applied - 1)
    expected += [applied - start for start in begun]
    rows = [row for row in building.finish() if row["kind"] in ("sequence_gap", "unbridgeable_snapshot")]
    assert sorted(row["updates_affected"] for row in rows) == sorted(expected)


@pytest.mark.kernel
@pytest.mark.parametrize("batch", [1, 10_000])
def test_gap_names_its_place_and_what_resolved_it(batch: int) -> None:
    lines = [snapshot("spot", 10), depth("spot", 11, 11), depth("spot", 13, 14), snapshot("spot", 20)]
    building = rebuilder("spot")
    feed(building, events_of(read_lines(lines, "some file")), batch)
    (gap,) = building.finish()
    start = 1_723_161_600_000_000_000
    assert gap == {
        "hour": start,
        "kind": "sequence_gap",
        "epoch": 0,
        "sequence": 14,
        "expected": 12,
        "found": 13,
        "from_time": start + 14_000_000,
        "resolved_sequence": 20,
        "resolved_time": start + 14_000_000,
        "resolved_by": "snapshot",
        "updates_affected": 1,
        "levels": [],
        "source_file": "some file",
        "source_row": 3,
    }


@pytest.mark.kernel
def test_locked_book_is_valid_and_crossed_book_is_flagged_and_kept() -> None:
    lines = [snapshot("spot", 1, [("10", "1")], [("11", "1")]), depth("spot", 2, 2, [("11", "1")])]
    lines += [depth("spot", 3, 3, [("11.5", "1")]), depth("spot", 4, 4, [("11.5", "0"), ("11", "0")])]
    rows = feed(rebuilder("spot"), events_of(read_lines(lines)))
    assert [row["crossed"] for row in rows] == [False, False, True, False]
    assert [row["bid_levels"] for row in rows] == [1, 2, 3, 1]
    assert {row["status"] for row in rows} == {"verified"}


@pytest.mark.kernel
@pytest.mark.parametrize("cadence", list(Cadence))
def test_emptied_side_is_a_row_without_levels(cadence: Cadence) -> None:
    lines = [snapshot("spot", 1, [("10", "1")], [("11", "1")]), depth("spot", 2, 2, [("10", "0")])]
    lines += [depth("spot", 3, 3, [], [("11", "0")]), depth("spot", 4, 4, [("9", "1")])]
    rows = feed(rebuilder("spot", 20, cadence), events_of(read_lines(lines)))
    assert [(len(row["bid_prices"]), len(row["ask_prices"])) for row in rows] == [
        (1, 1),
        (0, 1),
        (0, 0),
        (1, 0),
    ]
    assert not any(row["crossed"] for row in rows)


@pytest.mark.kernel
@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("cadence", list(Cadence))
def test_feed_without_a_snapshot_is_unseeded_and_a_missing_snapshot(market: Market, cadence: Cadence) -> None:
    lines = [depth(market, number, number, [("10", str(number))]) for number in range(1, 6)]
    building = rebuilder(market, 20, cadence)
    rows = feed(building, events_of(read_lines(lines)), 2)
    assert [(row["sequence"], row["status"], row["bid_prices"], row["bid_levels"]) for row in rows] == [
        (1, "unseeded", [], 0)
    ]
    assert gaps_of(building) == [("missing_snapshot", -1, -1, 5, -1)]


@pytest.mark.kernel
def test_feed_of_trades_alone_has_no_rows_and_misses_no_snapshot() -> None:
    building = rebuilder("spot")
    events = events_of(read_lines([trade("spot", 1), trade("spot", 2)]))
    assert (feed(building, events), building.finish(), building.capture_state().trade_count) == ([], [], 2)


@pytest.mark.kernel
def test_no_events_are_no_rows() -> None:
    building = rebuilder("spot")
    before = opening_values(building.capture_state())
    written = building.apply_events(pa.RecordBatch.from_pylist([], schema=FLAT_EVENTS.arrow))
    assert (written.num_rows, written.schema) == (0, BOOKS.arrow)
    assert (building.finish(), opening_values(building.capture_state())) == ([], before)


@pytest.mark.kernel
@pytest.mark.parametrize("batch", [1, 10_000])
def test_events_out_of_order_are_refused_with_file_and_row(batch: int) -> None:
    events = events_of(
        read_lines([snapshot("spot", 1), depth("spot", 2, 3), depth("spot", 4, 7)], "some file")
    )
    with pytest.raises(OrderError, match=r"BINANCE BTC-USDT: update 3 \(some file, row 2\) comes after"):
        feed(rebuilder("spot"), events.take(pa.array([0, 2, 1])), batch)


def simulated(market: Market) -> list[str]:
    size = {} if market == "spot" else {"price_scale": 1, "size_scale": 3, "smallest_order": 1}
    stride = 1 if market == "spot" else 3
    lines = capture_lines(
        SimulatedMarket(11, **size, intensity=30),
        60 if COMPILED else 12,
        "BTCUSDT",
        market_type=market,
        update_id_stride=stride,
    )
    return [line.decode().rstrip() for line in lines]


@pytest.fixture(scope="module", params=MARKETS)
def capture(request: pytest.FixtureRequest) -> tuple[Market, list[str], pa.Table]:
    lines = simulated(request.param)
    return request.param, lines, read_lines(lines)


def without_row(records: pa.Table, row: int) -> pa.Table:
    """The records as they would be had the line never been captured."""
    return records.filter(pa.compute.not_equal(records["source_row"], row))


def diffs_of(lines: list[str]) -> Iterator[tuple[int, int]]:
    """(row, last id) of every diff."""
    for row, line in enumerate(lines, start=1):
        message = json.loads(line.partition(" ")[2])
        if "@depth@" in message.get("stream", ""):
            yield row, message["data"]["u"]


def seeding_id(lines: list[str]) -> int:
    bare = (json.loads(line.partition(" ")[2]) for line in lines if '"stream"' not in line)
    (found,) = [message["lastUpdateId"] for message in bare]
    return int(found)


def test_simulated_capture_is_verified_and_its_books_are_the_oracles(capture: Any) -> None:
    market, lines, records = capture
    events = events_of(records)
    building = rebuilder(market, 5_000)
    states = oracle(market, lines, events)
    rows = feed(building, events, 50)
    for row, state in zip(rows, rows_expected(states, building), strict=True):
        compare(row, state, 5_000)
    assert building.finish() == []
    assert states[-1].status == "verified"


def seeded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The books of the rows that have one; a spot snapshot's time is its predecessor's, lost or not."""
    names = ("sequence", "status", "bid_levels", "ask_levels", *ARRAYS)
    return [{name: row[name] for name in names} for row in rows if row["status"] != "unseeded"]


def test_each_lost_diff_with_a_successor_newer_than_the_snapshot_is_one_gap(capture: Any) -> None:
    market, lines, records = capture
    diffs, seed = list(diffs_of(lines)), seeding_id(lines)
    whole = feed(rebuilder(market), events_of(records))
    lost, stale = 0, 0
    for row, last in diffs[:-1]:
        building = rebuilder(market)
        rows = feed(building, events_of(without_row(records, row)))
        gaps = building.finish()
        if last <= seed:
            stale += 1
            assert gaps == []
            assert seeded(rows) == seeded(whole)
            continue
        lost += 1
        (gap,) = gaps
        assert gap["kind"] in ("sequence_gap", "unbridgeable_snapshot")
        later = [found["status"] for found in rows if found["sequence"] > last]
        assert later and set(later) == {"suspect"}
        assert {found["status"] for found in rows if found["sequence"] < last} <= {"unseeded", "verified"}
    assert stale > 0 and lost > stale


def test_loss_of_the_last_diff_cannot_be_seen(capture: Any) -> None:
    market, lines, records = capture
    *_, (row, _) = diffs_of(lines)
    building = rebuilder(market)
    rows = feed(building, events_of(without_row(records, row)))
    assert (building.finish(), rows[-1]["status"]) == ([], "verified")


def test_lost_trade_is_one_trade_gap_and_changes_no_book(capture: Any) -> None:
    market, _, records = capture
    whole = [without_flow(row) for row in feed(rebuilder(market), events_of(records))]
    trades = records.filter(pa.compute.equal(records["record"], "trade")).sort_by("sequence").to_pylist()
    for found in trades[1:-1:5]:
        building = rebuilder(market)
        rows = feed(building, events_of(without_row(records, found["source_row"])))
        number = found["sequence"]
        assert gaps_of(building) == [("trade_gap", number, number + 1, number + 1, -1)]
        assert [without_flow(row) for row in rows] == whole


def test_lost_snapshot_leaves_every_book_unseeded(capture: Any) -> None:
    market, _, records = capture
    building = rebuilder(market)
    alone = records.filter(pa.compute.invert(records["is_snapshot"]))
    rows = feed(building, events_of(alone), 7)
    assert [(row["status"], row["bid_levels"], row["ask_levels"]) for row in rows] == [("unseeded", 0, 0)]
    assert [gap["kind"] for gap in building.finish()] == ["missing_snapshot"]


def scaled(levels: tuple[Level, ...]) -> Any:
    """Levels as exact integers: the oracle only compares and sorts them, and integers are faster."""
    whole = [(price.scaleb(8), size.scaleb(8)) for price, size in levels]
    assert all(number == int(number) for level in whole for number in level)
    return tuple((int(price), int(size)) for price, size in whole)


def read_scaled(market: Market) -> tuple[list[Update], Capture]:
    capture = read_capture(captures(market))
    updates = [
        Update(
            update.is_snapshot,
            update.sequence,
            scaled(update.bids),
            scaled(update.asks),
            update.first_sequence,
            update.prev_sequence,
        )
        for update in capture.updates
    ]
    return updates, capture


@pytest.mark.real_data
@pytest.mark.parametrize("market", MARKETS)
def test_every_book_of_a_real_capture_equals_the_oracles_at_full_depth(market: Market) -> None:
    events = events_of(read_files(captures(market)))
    updates, capture = read_scaled(market)
    chosen = events.filter(pa.compute.equal(events["event_type"], "book_update"))
    assert chosen["sequence"].to_pylist() == [update.sequence for update in updates]
    states = rebuild(updates, market, depth=None)
    building = rebuilder(market, 20_000)
    status, compared = None, 0
    trades = [0, 0, 0]
    for batch in batches_of(events, 1_000):
        written = building.apply_events(batch)
        columns = {name: written.column(name) for name in written.schema.names}
        for index in range(written.num_rows):
            state = next(state for state in states if state.applied or state.status != status)
            status = state.status
            for side, levels, count in (
                ("bid", state.bids, state.bid_levels),
                ("ask", state.asks, state.ask_levels),
            ):
                parts = (columns[f"{side}_{what}"][index].values.to_pylist() for what in ("prices", "sizes"))
                assert list(zip(*parts, strict=True)) == levels
                assert columns[f"{side}_levels"][index].as_py() == count
            found = [columns[name][index].as_py() for name in ("sequence", "status", "crossed")]
            assert found == [state.sequence, status, False]
            compared += 1
        trades = [total + sum(columns[name].to_pylist()) for total, name in zip(trades, FLOW, strict=True)]
    assert next((state for state in states if state.applied), None) is None
    assert compared > 6_000 and building.finish() == []
    opening = building.capture_state()
    rest = (opening.trade_count, opening.buy_volume, opening.sell_volume)
    sums = [len(capture.trades), *(volume(capture, maker) for maker in (False, True))]
    assert [total + more for total, more in zip(trades, rest, strict=True)] == sums


def volume(capture: Capture, buyer_is_maker: bool) -> int:
    sizes = [trade.size for trade in capture.trades if trade.buyer_is_maker == buyer_is_maker]
    return int(sum(sizes, Decimal(0)).scaleb(8))


@pytest.mark.real_data
@pytest.mark.parametrize("market", MARKETS)
def test_change_rows_of_a_real_capture_do_not_depend_on_the_batch_size(market: Market) -> None:
    events = events_of(read_files(captures(market)[:1]))
    tables = []
    for size in (13, 1_000, 1_000_000):
        building = rebuilder(market, 20, Cadence.CHANGE)
        tables.append(
            pa.Table.from_batches([building.apply_events(part) for part in batches_of(events, size)])
        )
    assert tables[0].num_rows > 1_000
    assert tables[0].equals(tables[1]) and tables[1].equals(tables[2])
    assert set(tables[0]["exchange"].to_pylist()) == {EXCHANGE[market]}
