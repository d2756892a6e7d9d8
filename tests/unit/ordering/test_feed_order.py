"""Events of a chunk are in the feed's order, whatever the order of the messages, files and batches."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from events import (
    FEED,
    HOUR_NS,
    START_MS,
    depth,
    in_first_epoch,
    messages,
    read_lines,
    snapshot,
    trade,
)
from hypothesis import given
from hypothesis import strategies as st
from naive import in_feed_order, parse_lines
from properties import cases

from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import FLAT_EVENTS, RECORDS
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.sources.okx import OkxSource

NOTHING = FLAT_EVENTS.arrow.empty_table()
MS = 1_000_000


def order(records: pa.Table, stored: pa.Table = NOTHING) -> list[dict[str, Any]]:
    return order_table(records, stored).to_pylist()


def order_table(records: pa.Table, stored: pa.Table = NOTHING) -> pa.Table:
    futures = "BINANCE_FUTURES" in records["exchange"].to_pylist() + stored["exchange"].to_pylist()
    ordered = order_chunk(
        in_first_epoch(messages(records)), stored, HOUR_NS, FEED["usdm" if futures else "spot"]
    )
    assert ordered.schema == FLAT_EVENTS.arrow
    return ordered


def order_lines(*lines: str) -> list[dict[str, Any]]:
    return order(read_lines(lines))


def ids(events: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(event["event_type"], event["sequence"]) for event in events]


def test_no_messages_are_no_events() -> None:
    assert order(RECORDS.arrow.empty_table()) == []


def test_stored_events_alone_come_back_as_they_are() -> None:
    stored = order_table(read_lines([depth("spot", 1, 2), trade("spot", 1), snapshot("spot", 1)]))
    assert order_table(RECORDS.arrow.empty_table(), stored).equals(stored)


def test_day_and_hour_are_filled_in() -> None:
    (event,) = order_lines(depth("spot", 1, 2))
    assert (str(event["date"]), event["hour"], event["epoch"]) == ("2024-08-09", HOUR_NS, 0)


def test_updates_are_ordered_by_id_and_a_diff_before_a_snapshot_of_its_id() -> None:
    events = order_lines(snapshot("spot", 5), depth("spot", 6, 9), depth("spot", 4, 5), depth("spot", 1, 3))
    assert [(event["sequence"], event["is_snapshot"]) for event in events] == [
        (3, False),
        (5, False),
        (5, True),
        (9, False),
    ]


def test_trades_come_before_updates_of_the_same_time_and_after_earlier_ones() -> None:
    times = {"E": START_MS + 5}
    lines = [
        depth("spot", 1, 1, E=START_MS + 4),
        depth("spot", 2, 2, **times),
        trade("spot", 5),
        trade("spot", 6),
    ]
    assert ids(order_lines(*lines)) == [
        ("book_update", 1),
        ("trade", 5),
        ("book_update", 2),
        ("trade", 6),
    ]


def test_order_time_is_the_running_maximum_of_the_stream() -> None:
    lines = [
        depth("spot", number, number, E=START_MS + at) for number, at in ((1, 5), (2, 3), (3, 9), (4, 8))
    ]
    events = order_lines(*lines, trade("spot", 1, T=START_MS + 4))
    assert ids(events)[0] == ("trade", 1)
    assert [event["order_time"] // MS - START_MS for event in events[1:]] == [5, 5, 9, 9]
    assert [event["timestamp"] // MS - START_MS for event in events[1:]] == [5, 3, 9, 8]


def test_snapshot_without_a_time_takes_its_predecessors() -> None:
    events = order_lines(snapshot("spot", 7), depth("spot", 6, 6, E=START_MS + 3), depth("spot", 8, 9))
    assert [event["timestamp"] // MS - START_MS for event in events] == [3, 3, 9]


def test_first_snapshots_without_a_time_take_their_successors() -> None:
    events = order_lines(snapshot("spot", 1), snapshot("spot", 2), depth("spot", 3, 3), depth("spot", 4, 4))
    assert [event["timestamp"] // MS - START_MS for event in events] == [3, 3, 3, 4]


def test_time_of_a_trade_never_fills_a_snapshot() -> None:
    events = order_lines(trade("spot", 1), snapshot("spot", 1), depth("spot", 2, 50))
    assert [event["timestamp"] // MS - START_MS for event in events if event["is_snapshot"]] == [50]


def snapshot_alone(received: int) -> pa.Table:
    """A snapshot whose depth is of another hour: placed by hand, as no diff shares its file's hour."""
    records = read_lines([f"{received} {snapshot('spot', 1)}" if received >= 0 else snapshot("spot", 1)])
    row = records.to_pylist()[0] | {"record": "book_update", "exchange": "BINANCE", "symbol": "BTC-USDT"}
    row |= {"is_snapshot": True, "sequence": 1, "received": received, "reason": "", "raw": b""}
    return pa.Table.from_pylist([row], schema=RECORDS.arrow)


@pytest.mark.parametrize(("received", "time"), [(HOUR_NS + 17, HOUR_NS + 17), (-1, HOUR_NS)])
def test_hour_without_any_time_takes_the_receive_time_or_its_own_start(received: int, time: int) -> None:
    (event,) = order(snapshot_alone(received))
    assert (event["timestamp"], event["order_time"]) == (time, time)


def test_message_met_twice_is_kept_once_the_one_of_the_lesser_file_and_row() -> None:
    one, two = depth("spot", 1, 2, [("1", "1")]), depth("spot", 1, 2, [("1", "2")])
    files = [read_lines([two, two], "b"), read_lines([trade("spot", 1), one, two], "a")]
    for tables in itertools.permutations(files):
        events = order(pa.concat_tables(tables))
        assert [(event["source_file"], event["source_row"]) for event in events] == [("a", 1), ("a", 2)]


def test_diffs_that_differ_in_an_id_are_both_kept() -> None:
    lines = [depth("usdm", 1, 5), depth("usdm", 2, 5), depth("usdm", 2, 5, pu=0), snapshot("usdm", 5)]
    assert len(order_lines(*lines)) == 4


@pytest.mark.parametrize("files", list(itertools.permutations("abc")))
def test_message_met_twice_is_kept_once_whatever_lies_between(files: tuple[str, ...]) -> None:
    """The second file's diff has another `pu`; the third repeats the first."""
    lines = [depth("usdm", 3, 5, pu=2), depth("usdm", 3, 5, pu=1), depth("usdm", 3, 5, pu=2)]
    events = order(
        pa.concat_tables([read_lines([line], file) for line, file in zip(lines, files, strict=True)])
    )
    assert sorted(event["prev_sequence"] for event in events) == [1, 2]


def test_late_diff_before_a_stored_snapshot_gives_it_its_time() -> None:
    """Stored: a snapshot that took the time of diff 3. A late file brings diff 6, its true predecessor."""
    early = read_lines([depth("spot", 1, 3), snapshot("spot", 7), depth("spot", 8, 9)], "a")
    late = read_lines([depth("spot", 4, 6)], "b")
    merged = order(late, order_table(early))
    assert merged == order(pa.concat_tables([late, early]))
    assert [event["timestamp"] // MS - START_MS for event in merged] == [3, 6, 6, 9]


STEP = st.tuples(
    st.sampled_from(["diff", "diff", "trade", "snapshot"]),
    st.integers(1, 12),
    st.integers(0, 3),
    st.integers(0, 9),
)


def lines_of(market: str, steps: list[tuple[str, int, int, int]]) -> list[str]:
    """Messages with ids that collide and times that wander; a diff of every file names the symbol."""
    lines = [depth(market, 0, 0)]
    for what, number, back, jitter in steps:
        at = START_MS + number + jitter
        if what == "trade":
            lines.append(trade(market, number, size=str(1 + back), T=at))
        elif what == "snapshot":
            lines.append(snapshot(market, number))
        else:
            times = {"E": at} if market == "spot" else {"E": at, "T": at}
            lines.append(depth(market, max(0, number - back), number, [("1", str(1 + jitter))], **times))
    return lines


FILES = st.lists(st.lists(STEP, max_size=8), min_size=1, max_size=4)


def read_steps(market: str, files: list[list[tuple[str, int, int, int]]]) -> list[pa.Table]:
    return [read_lines(lines_of(market, steps), f"file {number}") for number, steps in enumerate(files)]


@pytest.mark.parametrize("market", ["spot", "usdm"])
@cases(100)
@given(files=FILES, seed=st.integers(0, 2**32 - 1))
def test_rows_in_any_order_give_the_same_hour(market: str, files: Any, seed: int) -> None:
    records = pa.concat_tables(read_steps(market, files))
    shuffled = records.take(pa.array(np.random.default_rng(seed).permutation(records.num_rows)))
    assert order_table(shuffled).equals(order_table(records))


@pytest.mark.parametrize("market", ["spot", "usdm"])
@cases(150)
@given(files=FILES, data=st.data())
def test_files_that_come_one_by_one_give_the_same_hour_as_all_at_once(
    market: str, files: Any, data: st.DataObject
) -> None:
    tables = read_steps(market, files)
    stored = NOTHING
    for number in data.draw(st.permutations(range(len(tables)))):
        stored = order_table(tables[number], stored)
    assert stored.to_pylist() == order(pa.concat_tables(tables))


@cases(150)
@given(files=FILES)
def test_no_stream_is_reordered_and_no_message_lost(files: Any) -> None:
    events = order(pa.concat_tables(read_steps("spot", files)))
    lines = [line for steps in files for line in lines_of("spot", steps)]
    capture = parse_lines(lines)
    keys = [(update.sequence, update.is_snapshot) for update in in_feed_order(capture.updates)]
    updates = [event for event in events if event["event_type"] == "book_update"]
    assert [key for key, _ in itertools.groupby(keys)] == [
        key for key, _ in itertools.groupby((event["sequence"], event["is_snapshot"]) for event in updates)
    ]
    assert {(e["first_sequence"], e["sequence"], e["is_snapshot"]) for e in updates} == {
        (update.first_sequence, update.sequence, update.is_snapshot) for update in capture.updates
    }
    trades = [event["sequence"] for event in events if event["event_type"] == "trade"]
    assert trades == sorted({found.sequence for found in capture.trades})
    times = [event["order_time"] for event in events]
    assert times == sorted(times) and all(event["order_time"] >= event["timestamp"] for event in events)
    for one, other in itertools.pairwise(events):
        if one["order_time"] == other["order_time"]:
            assert (one["event_type"], other["event_type"]) != ("book_update", "trade")


def test_of_two_snapshots_with_one_id_the_deepest_is_kept() -> None:
    shallow = snapshot("spot", 5, [("1", "1")], [("2", "1")])
    deep = snapshot("spot", 5, [("1", "1"), ("0.9", "1")], [("2", "1")])
    for snapshots in ([shallow, deep], [deep, shallow]):
        kept = [event for event in order_lines(*snapshots, depth("spot", 6, 6)) if event["is_snapshot"]]
        assert [len(event["bid_prices"]) for event in kept] == [2]


def okx_line(action: str, time: int, bids: str) -> bytes:
    """A line of OKX's archive: it has no id, only a time."""
    return f'{{"instId":"BTC-USDT","action":"{action}","ts":"{time}","asks":[],"bids":{bids}}}\n'.encode()


def order_okx(*files: list[bytes]) -> list[dict[str, Any]]:
    batches = [
        batch
        for number, lines in enumerate(files)
        for batch in OkxSource({}).parse(io.BytesIO(b"".join(lines)), f"file {number}")
    ]
    records = pa.Table.from_batches(batches)
    records = records.append_column("epoch", pa.array(np.zeros(records.num_rows, np.int64)))
    return order_chunk(records, NOTHING, HOUR_NS, FEEDS["okx"]).to_pylist()


def test_messages_of_one_time_without_ids_stay_in_the_order_of_their_file() -> None:
    snapshot_line = okx_line("snapshot", START_MS, '[["1","1","0"]]')
    update = okx_line("update", START_MS, '[["1","2","0"]]')
    events = order_okx([snapshot_line, update])
    assert [event["is_snapshot"] for event in events] == [True, False]
    # A snapshot of another recording has the time of the last change that it includes.
    events = order_okx([snapshot_line], [update])
    assert [event["is_snapshot"] for event in events] == [False, True]
