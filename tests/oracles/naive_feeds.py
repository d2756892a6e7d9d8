"""A slow oracle for feeds that send their own snapshots, each of which replaces the book.

This file serves as the specification. It therefore imports nothing of deltabook, and prefers plain code to
fast code. Its rules are those of Kraken v1 `book`, OKX v5 and OKCoin v3 `books`, Bybit v5 `orderbook`, Tardis
`incremental_book_L2` and Crypto Lake `book_delta_v2`. Crypto Lake sends no snapshot: its book starts from the
vendor's own book.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import chain, zip_longest
from typing import Literal

from naive import Level, Levels

IdRule = Literal["none", "linked", "rising"]  # Kraken, Crypto Lake, Tardis; OKX, OKCoin; Bybit
ChecksumRule = Literal["none", "kraken", "okx"]
Status = Literal["unseeded", "suspect", "unverifiable", "checked", "verified"]
GapKind = Literal["sequence_gap", "quarantined_row", "checksum_failure"]
Side = dict[Decimal, Decimal]  # size by price
NOT_GIVEN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A snapshot (its levels are the whole book) or a diff (absolute sizes; 0 deletes)."""

    is_snapshot: bool = False
    sequence: int = NOT_GIVEN
    prev_sequence: int = NOT_GIVEN
    has_ids: bool = False  # linked feeds: `sequence`, and in a diff `prev_sequence`, are the venue's ids
    checksum: int = NOT_GIVEN  # unsigned CRC-32 of the book after this message
    damaged: bool = False  # a part of it, or a message before it, could not be read
    kept_levels: int = NOT_GIVEN  # levels a side that the venue keeps after it
    price_digits: int = NOT_GIVEN  # decimals in Kraken's checksum text; not given: as few as needed
    size_digits: int = NOT_GIVEN
    bids: Levels = ()
    asks: Levels = ()


@dataclass(frozen=True, slots=True)
class VendorBook:
    """The vendor's own top of the book, which holds all messages up to `sequence`."""

    sequence: int
    bids: Levels
    asks: Levels


@dataclass(slots=True)
class Gap:
    """What made the book suspect, found at the message `sequence`."""

    kind: GapKind
    sequence: int
    expected: int
    found: int
    resolved_sequence: int | None = None  # the snapshot that ended it; None while it is open
    updates_affected: int = 0  # messages applied while open: with the one that shows it, without the snapshot


@dataclass(frozen=True, slots=True)
class State:
    """The book after one message, whether or not the message was applied."""

    message: Message | VendorBook
    applied: bool
    status: Status
    bids: Side  # at full depth
    asks: Side
    gaps: tuple[Gap, ...]  # found so far
    checksum_verdict: bool | None = None  # this message's checksum, if it gives one
    snapshot_verdict: bool | None = None  # this snapshot, against the unbroken book just before it


def rebuild(
    messages: Iterable[Message],
    ids: IdRule = "none",
    checksum: ChecksumRule = "none",
    vendor_books: Iterable[VendorBook] = (),
    vendor_levels: int = 20,
) -> Iterator[State]:
    """Yield the book after every message in the order given, and after every vendor book in its place."""
    book = Book(ids, checksum, vendor_levels)
    for item in in_turn(list(messages), list(vendor_books)):
        yield book.seed(item) if isinstance(item, VendorBook) else book.apply(item)


def in_turn(messages: list[Message], vendor_books: list[VendorBook]) -> Iterator[Message | VendorBook]:
    """Put each vendor book after the last message whose sequence is not above its own."""
    turns: list[tuple[int, Message | VendorBook]] = list(enumerate(messages))
    for book in vendor_books:
        held = [turn for turn, message in enumerate(messages) if message.sequence <= book.sequence]
        turns.append((max(held, default=-1), book))
    return (item for _, item in sorted(turns, key=lambda turn: turn[0]))  # stable: the message comes first


class Book:
    """The full book of one instrument, its status and its gaps."""

    def __init__(self, ids: IdRule, checksum: ChecksumRule, vendor_levels: int) -> None:
        self.ids, self.checksum, self.vendor_levels = ids, checksum, vendor_levels
        self.is_seeded = False  # until then the book is hidden
        self.bids: Side = {}
        self.asks: Side = {}
        self.last = NOT_GIVEN  # sequence of the last message applied
        self.all_have_ids = False  # every message since the snapshot, and the snapshot
        self.gaps: list[Gap] = []

    def apply(self, message: Message) -> State:
        if not message.is_snapshot and not self.is_seeded:
            self._write(message)
            return self._state(message, applied=False)
        if not message.is_snapshot and self.ids == "rising" and message.sequence <= self.last:
            return self._state(message, applied=False)  # stale
        same = None
        if message.is_snapshot:
            same = self._replace(message)
        else:
            self._link(message)
        self._write(message)
        self.last = message.sequence
        if message.damaged:
            self._open("quarantined_row", message, NOT_GIVEN, NOT_GIVEN)
        matched = self._check(message)
        for gap in self._open_gaps():
            gap.updates_affected += 1
        return self._state(message, True, matched, same)

    def seed(self, vendor: VendorBook) -> State:
        """Put the vendor's top levels into the hidden book and show it; of no effect on a seeded book."""
        if self.ids != "none":
            raise ValueError(f"a vendor book seeds only a feed without ids, not one with ids {self.ids!r}")
        if self.is_seeded:
            return self._state(vendor, applied=False)
        self.is_seeded = True
        for side, levels, sign in ((self.bids, vendor.bids, 1), (self.asks, vendor.asks, -1)):
            is_whole = len(levels) < self.vendor_levels
            covered = None if is_whole else min(sign * price for price, _ in levels)
            for price in list(side):
                if covered is None or sign * price >= covered:
                    del side[price]
            write(side, levels)
        return self._state(vendor, applied=True)

    def _replace(self, snapshot: Message) -> bool | None:
        """Empty the book, end all gaps; return whether the book, if it was sound, equals the snapshot."""
        is_sound = self.is_seeded and not self._open_gaps()
        before = self.bids, self.asks
        for gap in self._open_gaps():
            gap.resolved_sequence = snapshot.sequence
        self.is_seeded, self.all_have_ids = True, snapshot.has_ids
        self.bids, self.asks = {}, {}
        return before == (write({}, snapshot.bids), write({}, snapshot.asks)) if is_sound else None

    def _link(self, diff: Message) -> None:
        self.all_have_ids = self.all_have_ids and diff.has_ids
        if self.ids == "linked" and diff.has_ids and diff.prev_sequence != self.last:
            self._open("sequence_gap", diff, self.last, diff.prev_sequence)
        if self.ids == "rising" and diff.sequence != self.last + 1:
            self._open("sequence_gap", diff, self.last + 1, diff.sequence)

    def _write(self, message: Message) -> None:
        write(self.bids, message.bids)
        write(self.asks, message.asks)
        if message.kept_levels > 0:
            self.bids = dict(best_bids(self.bids, message.kept_levels))
            self.asks = dict(best_asks(self.asks, message.kept_levels))

    def _check(self, message: Message) -> bool | None:
        """Compare the checksum, if there is one; a mismatch is a gap unless the book is suspect anyway."""
        if self.checksum == "none" or message.checksum == NOT_GIVEN:
            return None
        if self.checksum == "kraken":
            found = kraken_checksum(self.bids, self.asks, message.price_digits, message.size_digits)
        else:
            found = okx_checksum(self.bids, self.asks)
        if found != message.checksum and not self._open_gaps():
            self._open("checksum_failure", message, message.checksum, found)
        return found == message.checksum

    def _open(self, kind: GapKind, message: Message, expected: int, found: int) -> None:
        self.gaps.append(Gap(kind, message.sequence, expected, found))

    def _open_gaps(self) -> list[Gap]:
        return [gap for gap in self.gaps if gap.resolved_sequence is None]

    def _status(self, matched: bool | None) -> Status:
        if not self.is_seeded:
            return "unseeded"
        if self._open_gaps():
            return "suspect"
        if self.ids == "rising" or (self.ids == "linked" and self.all_have_ids):
            return "verified"
        return "checked" if matched else "unverifiable"

    def _state(
        self,
        message: Message | VendorBook,
        applied: bool,
        matched: bool | None = None,
        same: bool | None = None,
    ) -> State:
        bids, asks = (dict(self.bids), dict(self.asks)) if self.is_seeded else ({}, {})
        gaps = tuple(replace(gap) for gap in self.gaps)
        return State(message, applied, self._status(matched), bids, asks, gaps, matched, same)


def write(side: Side, levels: Levels) -> Side:
    for price, size in levels:
        if size == 0:
            side.pop(price, None)  # deleting an absent level is normal
        else:
            side[price] = size
    return side


def best_bids(bids: Side, depth: int) -> list[Level]:
    return sorted(bids.items(), reverse=True)[:depth]


def best_asks(asks: Side, depth: int) -> list[Level]:
    return sorted(asks.items())[:depth]


def kraken_checksum(bids: Side, asks: Side, price_digits: int, size_digits: int) -> int:
    """CRC-32 of the ten best asks, then bids: price and size without point and leading zeros."""
    text = ""
    for price, size in best_asks(asks, 10) + best_bids(bids, 10):
        for number, digits in ((price, price_digits), (size, size_digits)):
            text += printed(number, digits).replace(".", "").lstrip("0")
    return zlib.crc32(text.encode())


def okx_checksum(bids: Side, asks: Side) -> int:
    """CRC-32 of the 25 best bids and asks by turns; where one side ends the other goes on alone."""
    turns = chain.from_iterable(zip_longest(best_bids(bids, 25), best_asks(asks, 25)))
    levels: Sequence[Level] = [level for level in turns if level is not None]
    return zlib.crc32(":".join(printed(number) for level in levels for number in level).encode())


def printed(number: Decimal, digits: int = NOT_GIVEN) -> str:
    """Print with so many decimals, or as few as needed; never with an exponent."""
    return f"{number.normalize():f}" if digits == NOT_GIVEN else f"{number:.{digits}f}"
