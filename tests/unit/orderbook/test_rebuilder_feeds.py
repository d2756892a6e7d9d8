"""For feeds with their own snapshots, rebuilt books equal the oracle's books after every message."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from events import HOUR_NS, in_first_epoch
from hypothesis import given
from hypothesis import strategies as st
from naive_feeds import Book as NaiveBook
from naive_feeds import Message, State, VendorBook, kraken_checksum, okx_checksum, rebuild
from properties import cases

from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import HOUR, NOT_GIVEN, Cadence, GoldenKind, RowPolicy
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.orderbook.checkpoints import BookState
from deltabook.udfs.orderbook.rebuilder import Rebuilder
from deltabook.udfs.orderbook.vendor_seed import insert_seed
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.sources.registry import SOURCES

pytestmark = pytest.mark.usefixtures("narrow_bitmaps")

SCALE, DEPTH = 8, 200
RULES = {
    "kraken": ("none", "kraken"),
    "okx": ("linked", "okx"),
    "bybit": ("rising", "none"),
    "tardis": ("none", "none"),
}
KINDS = ["diff", "diff", "diff", "diff", "snapshot", "hole", "again", "damaged", "wrong", "damaged snapshot"]
LEVELS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5)), max_size=6)
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), LEVELS, LEVELS, st.booleans()), min_size=1, max_size=30)


def levels(pairs: list[tuple[int, int]], shift: int) -> tuple[tuple[Decimal, Decimal], ...]:
    return tuple((Decimal(price + shift) / 10, Decimal(size) / 100) for price, size in pairs)


def feed_of(name: str, steps: Any, kept: int, with_ids: bool) -> list[Message]:
    """Messages whose checksums are right unless the step says wrong."""
    ids, checksum = RULES[name]
    book = NaiveBook(ids, "none", 20)
    found: list[Message] = []
    sequence = 10
    for kind, bids, asks, with_checksum in steps:
        previous = sequence
        sequence += {"hole": 3, "again": 0}.get(kind, 1)
        is_snapshot = kind.endswith("snapshot")
        # A snapshot tells each price once.
        if is_snapshot:
            bids, asks = list(dict(bids).items()), list(dict(asks).items())
        message = Message(
            is_snapshot=is_snapshot,
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
                "timestamp": hour + place if message.has_ids else message.sequence,
                "order_time": hour + place if message.has_ids else message.sequence,
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
    return row["status"], *(
        dict(zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True)) for side in ("bid", "ask")
    )


def truth(state: State) -> tuple[Any, ...]:
    sides = (
        {int(price.scaleb(SCALE)): int(size.scaleb(SCALE)) for price, size in side.items()}
        for side in (state.bids, state.asks)
    )
    return state.status, *sides


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
    messages = feed_of(name, steps, kept, with_ids)
    ids, checksum = RULES[name]
    states = list(rebuild(messages, ids, checksum))
    jumps = data.draw(st.lists(st.integers(0, 1), min_size=len(messages), max_size=len(messages)))
    cuts = data.draw(st.lists(st.integers(1, 30), max_size=4))
    rows, gaps, compared = run(name, events_of(messages, np.cumsum(jumps).tolist()), cuts)
    shown = [state for state in states if state.applied and state.status != "unseeded"]
    assert [told(row) for row in rows if row["status"] != "unseeded"] == [truth(state) for state in shown]
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


@pytest.mark.kernel
@cases(150)
@given(
    steps=st.lists(st.tuples(st.just("diff"), LEVELS, LEVELS, st.just(False)), min_size=1, max_size=15),
    at=st.integers(5, 30),
    seed=st.tuples(LEVELS, LEVELS),
    cuts=st.lists(st.integers(1, 14), max_size=3),
)
def test_a_vendors_book_seeds_a_feed_without_snapshots_as_the_oracle_does(
    steps: Any, at: int, seed: Any, cuts: list[int]
) -> None:
    messages = feed_of("tardis", steps, NOT_GIVEN, False)
    bids, asks = ([(price, size) for price, size in dict(side).items() if size] for side in seed)
    vendor = VendorBook(at, levels(bids, 0), levels(asks, 6))
    shown = max(len(vendor.bids), len(vendor.asks), 1)
    states = list(rebuild(messages, vendor_books=[vendor], vendor_levels=shown))
    reference = SimpleNamespace(seed_sequence=at, is_decimal=False)
    columns = {
        f"seed_{side}_{what}": [int(level[place].scaleb(SCALE)) for level in getattr(vendor, f"{side}s")]
        for side in ("bid", "ask")
        for place, what in enumerate(("prices", "sizes"))
    }
    reference.__dict__.update(columns)
    batches = list(insert_seed(iter(events_of(messages, [0] * len(messages))), reference))
    rows, gaps, _ = run("crypto_lake", batches, cuts)
    expected = [truth(state) for state in states if state.applied and state.status != "unseeded"]
    assert [told(row) for row in rows if row["status"] != "unseeded"] == expected
    assert gaps_of(gaps) == []


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
