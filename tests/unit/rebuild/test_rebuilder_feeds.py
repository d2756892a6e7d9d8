"""For feeds with their own snapshots, rebuilt books equal the oracle's books after every message."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from events import HOUR_NS, in_first_epoch
from hypothesis import given
from hypothesis import strategies as st
from naive_feeds import Book as NaiveBook
from naive_feeds import Message, State, kraken_checksum, okx_checksum, rebuild
from properties import cases
from test_known_range import WALK, best_first, check_sound, walk
from venue import UNITS, Venue

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import HOUR, NOT_GIVEN, Cadence, GoldenKind, RowPolicy, Seed
from deltabook.schemas.tables import GOLDEN
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.rebuild.checkpoints import BookState
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.truths.vendor_books import VendorBookQueue, queue_vendor_books

pytestmark = pytest.mark.usefixtures("narrow_bitmaps")

SCALE, DEPTH = 8, 200
RULES = {
    "kraken": ("none", "kraken", True),
    "okx": ("linked", "okx", True),
    "bybit": ("rising", "none", True),
    "tardis": ("none", "none", False),
}
"""Rule of the ids and of the checksum, and whether snapshots are whole."""
KINDS = ["diff", "diff", "diff", "diff", "snapshot", "hole", "again", "damaged", "wrong"]
KINDS += ["damaged snapshot", "hole snapshot"]
BREAK = RowPolicy().session_break
LEVELS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5)), max_size=6)
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), LEVELS, LEVELS, st.booleans()), min_size=1, max_size=30)


def levels(pairs: list[tuple[int, int]], shift: int) -> tuple[tuple[Decimal, Decimal], ...]:
    return tuple((Decimal(price + shift) / 10, Decimal(size) / 100) for price, size in pairs)


def feed_of(
    name: str, steps: Any, kept: int, with_ids: bool, pauses: dict[int, int] | None = None
) -> list[Message]:
    """Messages whose checksums are right unless the step says wrong; some of them after a pause."""
    ids, checksum, _ = RULES[name]
    book = NaiveBook(ids, "none", silence=BREAK)
    found: list[Message] = []
    sequence, time = 10, HOUR_NS
    for place, (kind, bids, asks, with_checksum) in enumerate(steps):
        previous = sequence
        sequence += 3 if kind.startswith("hole") else 0 if kind == "again" else 1
        time += 1 + (pauses or {}).get(place, 0)
        is_snapshot = kind.endswith("snapshot")
        # A snapshot tells each price once.
        if is_snapshot:
            bids, asks = list(dict(bids).items()), list(dict(asks).items())
        message = Message(
            is_snapshot=is_snapshot,
            time=time,
            sequence=sequence,
            prev_sequence=NOT_GIVEN
            if is_snapshot or not with_ids
            else previous - (2 if kind == "hole" else 0),
            has_ids=with_ids,
            damaged=kind.startswith("damaged"),
            kept_levels=kept,
            price_digits=1 if checksum == "kraken" else NOT_GIVEN,
            size_digits=8 if checksum == "kraken" else NOT_GIVEN,
            bids=levels(bids, 0),
            asks=levels(asks, 6),
        )
        state = book.apply(message)
        if checksum != "none" and with_checksum:
            told = (
                kraken_checksum(book.bids, book.asks, 1, 8)
                if checksum == "kraken"
                else okx_checksum(book.bids, book.asks)
            )
            message = replace(message, checksum=told ^ (kind == "wrong"))
        found.append(message)
        assert state is not None
    return found


def events_of(messages: list[Message], hours: list[int]) -> list[pa.RecordBatch]:
    """Rows of `flat_events`; each message in the hour of that number."""
    rows = []
    for place, message in enumerate(messages):
        sides = {
            f"{side}_{what}": [int(level[at].scaleb(SCALE)) for level in getattr(message, f"{side}s")]
            for side in ("bid", "ask")
            for at, what in enumerate(("prices", "sizes"))
        }
        names = ("is_snapshot", "prev_sequence", "damaged", "checksum", "sequence")
        names += ("kept_levels", "price_digits", "size_digits")
        hour = HOUR_NS + hours[place] * HOUR
        rows.append(
            {
                column.name: {"BIGINT": NOT_GIVEN, "STRING": ""}.get(column.type)
                for column in FLAT_EVENTS.columns
            }
            | {name: getattr(message, name) for name in names}
            | sides
            | {
                "event_type": "book_update",
                "date": None,
                "hour": hour,
                "epoch": 0,
                # A message without ids has its time as its sequence.
                "timestamp": message.time if message.has_ids else message.sequence,
                "order_time": message.time,
                "source_row": place + 1,
            }
        )
    schema = FLAT_EVENTS.arrow
    return [pa.RecordBatch.from_pylist([row], schema=schema) for row in rows]


def run(
    name: str, batches: list[pa.RecordBatch], cuts: list[int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Counter]:
    """Rebuild in batches that end at `cuts`, a new rebuilder for each hour; rows, gaps and comparisons."""
    rows: list[dict[str, Any]] = []
    compared: Counter = Counter()
    opening, chain = BookState(), None
    for hour, found in itertools.groupby(batches, key=lambda batch: batch["hour"][0].as_py()):
        arguments = (
            "X",
            "Y",
            FEEDS[name],
            RowPolicy(DEPTH, Cadence.MESSAGE),
            Scaled(SCALE, SCALE),
        )
        replayed = Rebuilder(*arguments, opening)
        chain = chain or Rebuilder(*arguments, BookState())
        events = pa.concat_batches(list(found))
        bounds = sorted({0, events.num_rows, *(cut for cut in cuts if cut < events.num_rows)})
        for start, end in itertools.pairwise(bounds):
            part = events.slice(start, end - start)
            rows += replayed.apply_events(part).to_pylist()
            chain.apply_events(part)
        for kind, comparison in replayed.take_comparisons().items():
            compared[kind, "compared"] += comparison.compared
            compared[kind, "matched"] += comparison.matched
        opening = chain.capture_state()
        assert hour is not None
    assert chain is not None
    return rows, chain.finish(), compared


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    sides = (dict(zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True)) for side in ("bid", "ask"))
    return row["status"], *sides, row["bid_known_levels"], row["ask_known_levels"]


def truth(state: State) -> tuple[Any, ...]:
    sides = (
        {int(price.scaleb(SCALE)): int(size.scaleb(SCALE)) for price, size in side.items()}
        for side in (state.bids, state.asks)
    )
    return state.status, *sides, state.bid_known, state.ask_known


def gaps_of(gaps: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(
        (
            gap["kind"],
            gap["sequence"],
            gap["expected"],
            gap["found"],
            gap["resolved_sequence"],
            gap["updates_affected"],
        )
        for gap in gaps
        if gap["kind"] not in ("missing_snapshot", "clock_jump", "crossed_book", "silence")
    )


def true_gaps(states: list[State]) -> list[tuple[Any, ...]]:
    """The oracle's gaps; of two that one message shows, the kernel keeps the first."""
    seen, kept = set(), []
    shown_at = [id(gap) for gap in states[-1].gaps]
    assert len(shown_at) == len(states[-1].gaps)
    before: tuple[Any, ...] = ()
    for state in states:
        fresh = state.gaps[len(before) :]
        seen |= {len(before) + place for place in range(1, len(fresh))}
        before = state.gaps
    for place, gap in enumerate(states[-1].gaps):
        if place not in seen:
            resolved = NOT_GIVEN if gap.resolved_sequence is None else gap.resolved_sequence
            kept.append((gap.kind, gap.sequence, gap.expected, gap.found, resolved, gap.updates_affected))
    return sorted(kept)


@pytest.mark.kernel
@pytest.mark.parametrize("name", RULES)
@cases(200)
@given(steps=STEPS, data=st.data())
def test_every_feed_is_rebuilt_as_the_oracle_does_however_it_is_cut(name: str, steps: Any, data: Any) -> None:
    with_ids = name == "bybit" or (name == "okx" and data.draw(st.booleans()))
    kept = data.draw(st.sampled_from([NOT_GIVEN, 3])) if name == "kraken" else NOT_GIVEN
    pauses = st.dictionaries(st.integers(0, 29), st.sampled_from([BREAK // 2, BREAK]), max_size=2)
    messages = feed_of(name, steps, kept, with_ids, data.draw(pauses))
    ids, checksum, has_whole_snapshots = RULES[name]
    states = list(rebuild(messages, ids, checksum, has_whole_snapshots, BREAK))
    jumps = data.draw(st.lists(st.integers(0, 1), min_size=len(messages), max_size=len(messages)))
    cuts = data.draw(st.lists(st.integers(1, 30), max_size=4))
    rows, gaps, compared = run(name, events_of(messages, np.cumsum(jumps).tolist()), cuts)
    shown = [state for state in states if state.applied and state.status != "unseeded"]
    assert [told(row) for row in rows if row["status"] != "unseeded"] == [truth(state) for state in shown]
    hidden = [told(row)[1:] for row in rows if row["status"] == "unseeded"]
    assert hidden == [({}, {}, 0, 0)] * len(hidden)
    assert gaps_of(gaps) == true_gaps(states)
    for kind, verdicts in (
        (GoldenKind.CHECKSUM, [state.checksum_verdict for state in states if state.status != "unseeded"]),
        (GoldenKind.SNAPSHOT, [state.snapshot_verdict for state in states]),
    ):
        assert compared[kind, "compared"] == sum(verdict is not None for verdict in verdicts)
        assert compared[kind, "matched"] == sum(verdict is True for verdict in verdicts)


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["kraken", "okx"])
def test_a_wrong_checksum_is_a_gap_until_the_next_snapshot(name: str) -> None:
    kinds = ["snapshot", "diff", "wrong", "diff", "wrong", "snapshot", "diff"]
    steps = [(kind, [(1, place + 1)], [(2, place + 1)], True) for place, kind in enumerate(kinds)]
    messages = feed_of(name, steps, NOT_GIVEN, False)
    rows, gaps, compared = run(name, events_of(messages, [0] * len(messages)), [])
    assert [row["status"] for row in rows] == ["checked"] * 2 + ["suspect"] * 3 + ["checked"] * 2
    wrong = messages[2].checksum
    assert gaps_of(gaps) == [("checksum_failure", 13, wrong, wrong ^ 1, 16, 3)]
    assert (compared[GoldenKind.CHECKSUM, "compared"], compared[GoldenKind.CHECKSUM, "matched"]) == (7, 5)


def lake_of(venue: Venue, is_timed: bool) -> list[dict[str, Any]]:
    """The diffs of a venue as Crypto Lake records them; with ids of their own unless they are only timed."""
    found = []
    for place, event in enumerate(event for event in venue.events if not event["is_snapshot"]):
        time = event["order_time"]
        found.append(event | {"received": time, "sequence": time if is_timed else place + 1})
    return found


def vendor_books(venue: Venue, events: list[dict[str, Any]], places: set[int], shown: int) -> VendorBookQueue:
    """The venue's true book at some messages, cut to so many levels."""
    rows = []
    for place in sorted(places):
        event = events[place]
        bids, asks = best_first(venue.truth[event["order_time"]])
        sides = [
            [level[part] * UNITS[part] for level in side[:shown]] for side in (bids, asks) for part in (0, 1)
        ]
        columns = dict(zip(SIDE_NAMES, sides, strict=True))
        rows.append({"epoch": 0, "sequence": event["sequence"], "received": event["received"]} | columns)
    names = ["epoch", "sequence", "received", *SIDE_NAMES]
    schema = pa.schema([GOLDEN.arrow.field(name) for name in names])
    return queue_vendor_books(pa.Table.from_pylist(rows, schema=schema), Scaled(SCALE, SCALE))


@pytest.mark.kernel
@cases(150)
@given(
    steps=WALK,
    start=st.integers(0, 6),
    places=st.sets(st.integers(0, 15), max_size=5),
    shown=st.integers(1, 4),
    seed=st.sampled_from(list(Seed)),
    is_timed=st.booleans(),
    size=st.sampled_from([1, 3, 10_000]),
)
def test_true_vendor_books_of_a_feed_without_losses_make_known_what_is_true(
    steps: Any, start: int, places: set[int], shown: int, seed: Seed, is_timed: bool, size: int
) -> None:
    """The recording begins in the midst, so that levels are missing until a vendor's book shows them."""
    venue = walk("crypto_lake", steps)
    events = lake_of(venue, is_timed)
    start = min(start, len(events) - 1)
    queue = vendor_books(venue, events, {place for place in places if place < len(events)}, shown)
    policy = RowPolicy(DEPTH, Cadence.MESSAGE, seed=seed)
    building = Rebuilder("X", "Y", FEEDS["crypto_lake"], policy, Scaled(SCALE, SCALE), BookState())
    building.use_vendor_books(queue)
    rows = []
    for begin in range(start, len(events), size):
        batch = pa.RecordBatch.from_pylist(events[begin : begin + size], schema=FLAT_EVENTS.arrow)
        rows += building.apply_events(batch).to_pylist()
    for row in rows:
        check_sound(row, venue.truth[row["order_time"]])
    # A vendor's book needs both sides, a message before it, and one after it.
    used = [
        place
        for place in sorted(places)
        if start <= place < len(events) - 1 and all(venue.truth[events[place]["order_time"]])
    ]
    is_vendor_used = seed is not Seed.NONE and bool(used)
    from_time = events[used[0]]["order_time"] if is_vendor_used else events[-1]["order_time"]
    after = [row["status"] for row in rows if row["order_time"] > from_time]
    assert set(after) <= {"unverifiable"}
    before = {row["status"] for row in rows[: len(rows) - len(after)]}
    assert before == {"unseeded" if seed is Seed.GOLDEN else "warming"}
    is_missing = seed is Seed.GOLDEN and not after
    assert [gap["kind"] for gap in building.finish()] == ["missing_snapshot"] * is_missing


@pytest.mark.kernel
@pytest.mark.parametrize("size", [1, 10_000])
def test_levels_that_an_emptied_side_had_cross_nothing(size: int) -> None:
    venue = Venue("crypto_lake")
    venue.step(1, [(9, 1)], [(1, 1)])  # asks are counted from 12
    venue.step(1, [], [(1, 0)])
    venue.step(1, [(14, 1)], [])
    venue.step(1, [], [(3, 2)])
    policy = RowPolicy(DEPTH, Cadence.MESSAGE)
    building = Rebuilder("X", "Y", FEEDS["crypto_lake"], policy, Scaled(SCALE, SCALE), BookState())
    events = lake_of(venue, False)
    rows = []
    for begin in range(0, len(events), size):
        batch = pa.RecordBatch.from_pylist(events[begin : begin + size], schema=FLAT_EVENTS.arrow)
        rows += building.apply_events(batch).to_pylist()
    assert [(row["status"], row["bid_levels"], row["ask_levels"]) for row in rows] == [
        ("warming", 1, 1),
        ("warming", 1, 0),
        ("warming", 2, 0),
        ("warming", 2, 1),
    ]
    assert building.finish() == []


def rebuilt(source: str, paths: list[str]) -> dict[tuple[str, str], tuple[Counter, Counter, list[Any]]]:
    """Statuses, comparisons and gaps of every book of real captures, merged in the files' order."""
    batches = []
    for path in paths:
        reader = SOURCES[source]({"path": path}).reader(None)
        batches += [batch for part in reader.partitions() for batch in reader.read(part)]
    records = pa.Table.from_batches(batches)
    records = in_first_epoch(records.filter(pc.equal(records["record"], "book_update")))
    found = {}
    for key in sorted(set(zip(records["exchange"].to_pylist(), records["symbol"].to_pylist(), strict=True))):
        ours = records.filter(pc.equal(records["symbol"], key[1]))
        feed = FEEDS[source]
        hour = pc.max(ours["timestamp"]).as_py() // HOUR * HOUR
        events = order_chunk(ours, FLAT_EVENTS.arrow.empty_table(), hour, feed).combine_chunks()
        building = Rebuilder(*key, feed, RowPolicy(20, Cadence.MESSAGE), Scaled(SCALE, SCALE), BookState())
        statuses = Counter(
            status
            for batch in events.to_batches()
            for status in building.apply_events(batch)["status"].to_pylist()
        )
        compared: Counter = Counter()
        for kind, comparison in building.take_comparisons().items():
            compared[kind, "compared"] += comparison.compared
            compared[kind, "matched"] += comparison.matched
        found[key] = statuses, compared, [gap for gap in building.finish() if gap["kind"] != "clock_jump"]
    return found


def totals(found: dict[tuple[str, str], Any]) -> tuple[Counter, Counter, list[Any]]:
    statuses, compared, gaps = Counter(), Counter(), []
    for one, other, more in found.values():
        statuses, compared, gaps = statuses + one, compared + other, gaps + more
    return statuses, compared, gaps


@pytest.mark.real_data
def test_kraken_matches_every_checksum(real_data) -> None:
    statuses, compared, gaps = totals(rebuilt("kraken", [str(real_data / "kraken" / "KRAKEN.ws.50.0")]))
    assert compared == {("checksum", "compared"): 4269, ("checksum", "matched"): 4269}
    assert (statuses, gaps) == ({"checked": 4269, "unverifiable": 10}, [])


@pytest.mark.real_data
def test_okx_matches_every_checksum(real_data) -> None:
    statuses, compared, gaps = totals(rebuilt("okx", [str(real_data / "okx" / "OKX.ws.1.0")]))
    assert compared == {("checksum", "compared"): 290, ("checksum", "matched"): 290}
    assert (statuses, gaps) == ({"checked": 290}, [])


@pytest.mark.real_data
def test_okcoins_connections_are_one_feed_in_any_order_of_the_files(real_data) -> None:
    paths = [str(real_data / "okcoin" / f"OKCOIN.ws.{number}.0") for number in (1, 2, 3)]
    results = [totals(rebuilt("okx", list(order))) for order in itertools.permutations(paths)]
    assert all(result == results[0] for result in results)
    statuses, compared, gaps = results[0]
    assert (
        compared["checksum", "compared"] == compared["checksum", "matched"] == sum(statuses.values()) == 1106
    )
    assert compared["snapshot", "compared"] == compared["snapshot", "matched"] == 7
    assert gaps == []


@pytest.mark.real_data
def test_bybit_is_verified_from_its_snapshot_on(real_data) -> None:
    statuses, _, gaps = totals(rebuilt("bybit", [str(next((real_data / "bybit").glob("*.zip")))]))
    assert (statuses, gaps) == ({"verified": 50}, [])
