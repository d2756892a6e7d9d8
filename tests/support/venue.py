"""Simulate a venue: make its messages as events of any feed, and the true book after each message."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pyarrow as pa
from events import HOUR_NS
from hypothesis import strategies as st
from naive_feeds import kraken_checksum, okx_checksum

from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import NOT_GIVEN, Cadence, RowPolicy
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.rebuild.checkpoints import BookState
from deltabook.udfs.rebuild.rebuilder import Rebuilder

FETCHED = ("binance", "binance_futures")
"""Their snapshots are fetched apart; the others' are messages of the feed."""
WITH_IDS = (*FETCHED, "okx", "bybit")
UNITS = (10**7, 10**6)
"""A tenth in price, a hundredth in size, at scale 8."""

Event = dict[str, Any]
Levels = Iterable[tuple[int, int]]
Sides = tuple[dict[int, int], dict[int, int]]

_SIDE = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5)), max_size=4)
STEPS = st.lists(
    st.tuples(st.integers(1, 3), _SIDE, _SIDE, st.sampled_from(["", "", "", "after", "inside"])),
    min_size=3,
    max_size=14,
)
"""Ids that a diff spans, its bids and asks (prices in ticks, asks counted from above the bids), and whether a
snapshot stands behind it or is of the midst of it."""


class Venue:
    """Tells each step as a diff, and snapshots where the steps or the caller say."""

    def __init__(self, name: str, with_ids: bool = True) -> None:
        self.name, self.with_ids = name, with_ids and name in WITH_IDS
        self.last = 10
        self.book: Sides = ({}, {})
        self.events: list[Event] = []
        self.truth: dict[int, Sides] = {}

    def step(self, length: int, bids: Levels, asks: Levels, snapshot: str = "") -> None:
        before, first = self.last, self.last + 1
        sides = list(bids), [(price + 12, size) for price, size in asks]
        self.last += 1 if self.name == "bybit" else length
        inside = snapshot == "inside" and self.name in FETCHED and length > 1
        if inside:
            self._change(sides[0], ())
            self.snapshot(first)
        self._change(*sides)
        ids = {"first_sequence": first} if self.name in FETCHED else {}
        if self.with_ids and self.name in ("binance_futures", "okx"):
            ids["prev_sequence"] = before
        self._tell(self.last, sides, ids)
        if snapshot and not inside:
            self.snapshot(self.last)

    def snapshot(self, sequence: int) -> None:
        self._tell(sequence, [side.items() for side in self.book], {"is_snapshot": True})

    def _change(self, *sides: Levels) -> None:
        for book, levels in zip(self.book, sides, strict=True):
            for price, size in levels:
                book.pop(price, None)
                if size:
                    book[price] = size

    def _tell(self, sequence: int, sides: Iterable[Levels], more: Event) -> None:
        time = HOUR_NS + sequence * 1_000_000
        event = {c.name: {"BIGINT": NOT_GIVEN, "STRING": ""}.get(c.type) for c in FLAT_EVENTS.columns}
        event |= {"event_type": "book_update", "hour": HOUR_NS, "epoch": 0, "damaged": False}
        event |= {"is_snapshot": False, "timestamp": time, "order_time": time}
        event |= {"sequence": sequence if self.with_ids else time, "source_row": len(self.events) + 1} | more
        for side, levels in zip(("bid", "ask"), map(list, sides), strict=True):
            for place, what in enumerate(("prices", "sizes")):
                event[f"{side}_{what}"] = [level[place] * UNITS[place] for level in levels]
        self.events.append(event | self._checksum())
        self.truth[event["sequence"]] = (dict(self.book[0]), dict(self.book[1]))

    def _checksum(self) -> Event:
        bids, asks = (
            {Decimal(price) / 10: Decimal(size) / 100 for price, size in side.items()} for side in self.book
        )
        if self.name == "kraken":
            return {"checksum": kraken_checksum(bids, asks, 1, 8), "price_digits": 1, "size_digits": 8}
        return {"checksum": okx_checksum(bids, asks)} if self.name == "okx" and not self.with_ids else {}


def told_by(name: str, steps: Iterable[Any], with_ids: bool = True) -> Venue:
    """A venue that has told these steps."""
    venue = Venue(name, with_ids)
    for step in steps:
        venue.step(*step)
    return venue


def rebuilt(
    name: str, events: list[Event], cadence: Cadence = Cadence.MESSAGE
) -> tuple[list[Event], list[Event]]:
    """Rows of `books` at full depth, and of `gaps`."""
    writing = RowPolicy(100, cadence)
    building = Rebuilder("X", "Y", FEEDS[name], writing, Scaled(8, 8), BookState())
    rows = building.apply_events(pa.RecordBatch.from_pylist(events, schema=FLAT_EVENTS.arrow)).to_pylist()
    return rows, building.finish()


def book_of(row: Event) -> Sides:
    """The sides of a row of `books`, as `Venue.truth` has them."""
    bids, asks = (
        {
            price // UNITS[0]: size // UNITS[1]
            for price, size in zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True)
        }
        for side in ("bid", "ask")
    )
    return bids, asks
