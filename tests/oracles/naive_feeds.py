"""A slow oracle for feeds that send their own snapshots, each of which replaces the book.

It is read as the specification, so it imports nothing of deltabook and prefers the plain to the fast.
Rules: Kraken v1 `book`, OKX v5 and OKCoin v3 `books`, Bybit v5 `orderbook`, Tardis `incremental_book_L2`.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import chain, zip_longest
from typing import Literal

from naive import KnownRange, Level, Levels

IdRule = Literal["none", "linked", "rising"]  # Kraken, Tardis; OKX, OKCoin; Bybit
ChecksumRule = Literal["none", "kraken", "okx"]
Status = Literal["unseeded", "suspect", "unverifiable", "checked", "verified"]
GapKind = Literal["sequence_gap", "new_session", "quarantined_row", "checksum_failure"]
Side = dict[Decimal, Decimal]  # size by price
NOT_GIVEN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A snapshot (its levels are the book from now on) or a diff (absolute sizes; 0 deletes)."""

    is_snapshot: bool = False
    time: int = 0  # in the unit of the silence that ends a recording session
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


@dataclass(slots=True)
class Gap:
    """What made the book suspect or unseeded, found at the message `sequence`."""

    kind: GapKind
    sequence: int
    expected: int
    found: int
    resolved_sequence: int | None = None  # the snapshot that ended it; None while it is open
    updates_affected: int = 0  # messages applied while open: with the one that shows it, without the snapshot


@dataclass(frozen=True, slots=True)
class State:
    """The book after one message, whether or not the message was applied."""

    message: Message
    applied: bool
    status: Status
    bids: Side  # at full depth
    asks: Side
    bid_known: int  # how many of the bids, from the best, are known
    ask_known: int
    gaps: tuple[Gap, ...]  # found so far
    checksum_verdict: bool | None = None  # this message's checksum, if it gives one
    snapshot_verdict: bool | None = None  # this snapshot, against the unbroken book just before it


def rebuild(
    messages: Iterable[Message],
    ids: IdRule = "none",
    checksum: ChecksumRule = "none",
    has_whole_snapshots: bool = True,
    silence: int | None = None,
) -> Iterator[State]:
    """Yield the book after every message in the order given.

    Without `has_whole_snapshots`, levels worse than those of a snapshot may exist. After `silence`, a message
    that no id connects to the one before it begins a new session.
    """
    book = Book(ids, checksum, has_whole_snapshots, silence)
    for message in messages:
        yield book.apply(message)


class Book:
    """The full book of one instrument, its status and its gaps."""

    def __init__(
        self,
        ids: IdRule,
        checksum: ChecksumRule,
        has_whole_snapshots: bool = True,
        silence: int | None = None,
    ) -> None:
        self.ids, self.checksum = ids, checksum
        self.has_whole_snapshots, self.silence = has_whole_snapshots, silence
        self.last: int | None = None  # sequence of the last message that was not stale, applied or not
        self.time = 0  # of the last message
        self.gaps: list[Gap] = []
        self._empty()

    def _empty(self) -> None:
        self.is_seeded = False
        self.bids: Side = {}
        self.asks: Side = {}
        self.known_bids, self.known_asks = KnownRange.nothing(True), KnownRange.nothing(False)
        self.all_have_ids = False  # every message since the snapshot, and the snapshot

    def apply(self, message: Message) -> State:
        connects = self.last is None or self._connects(message)
        is_long_after = self.silence is not None and message.time - self.time >= self.silence
        if not connects and is_long_after:
            self._open("new_session", message, self.last, message.sequence)
            self._empty()
        elif not connects and message.is_snapshot and self.ids == "rising":
            # The snapshot ends this gap at once.
            self._open("sequence_gap", message, self.last + 1, message.sequence)
        before, self.time = self.last, message.time
        if not message.is_snapshot and self.is_seeded and self.ids == "rising" and message.sequence <= before:
            return self._state(message, applied=False)  # stale
        self.last = message.sequence
        if not message.is_snapshot and not self.is_seeded:
            return self._state(message, applied=False)
        same = None
        if message.is_snapshot:
            same = self._replace(message)
        else:
            self._link(message, before, connects)
        self._write(message)
        if message.damaged:
            self._open("quarantined_row", message, NOT_GIVEN, NOT_GIVEN)
        matched = self._check(message)
        for gap in self._open_gaps():
            gap.updates_affected += 1
        self._know(message)
        return self._state(message, True, matched, same)

    def _connects(self, message: Message) -> bool:
        """Return whether ids show that no message is missing since the last one."""
        if self.ids == "rising":
            return message.sequence <= self.last + 1
        return self.ids == "linked" and message.has_ids and message.prev_sequence == self.last

    def _replace(self, snapshot: Message) -> bool | None:
        """Empty the book, end all gaps; return whether the book, if it was sound, equals the snapshot."""
        is_sound = self.is_seeded and not self._open_gaps()
        before = self.bids, self.asks
        for gap in self._open_gaps():
            gap.resolved_sequence = snapshot.sequence
        self._empty()
        self.is_seeded, self.all_have_ids = True, snapshot.has_ids
        return before == (write({}, snapshot.bids), write({}, snapshot.asks)) if is_sound else None

    def _know(self, message: Message) -> None:
        """Follow what is known of each side: nothing of a suspect book."""
        if self._open_gaps():
            self.known_bids, self.known_asks = KnownRange.nothing(True), KnownRange.nothing(False)
            return
        if message.is_snapshot and self.has_whole_snapshots:
            self.known_bids, self.known_asks = KnownRange.whole(True), KnownRange.whole(False)
        elif message.is_snapshot:
            self.known_bids = KnownRange.of_snapshot(True, message.bids)
            self.known_asks = KnownRange.of_snapshot(False, message.asks)
        if self.bids and self.asks and max(self.bids) < min(self.asks):
            # The exchange's book is never crossed: it has no bid at or above its best ask, nor the reverse.
            self.known_bids = self.known_bids.extended(min(self.asks))
            self.known_asks = self.known_asks.extended(max(self.bids))

    def _link(self, diff: Message, before: int, connects: bool) -> None:
        self.all_have_ids = self.all_have_ids and diff.has_ids
        if self.ids == "linked" and diff.has_ids and not connects:
            self._open("sequence_gap", diff, before, diff.prev_sequence)
        if self.ids == "rising" and not connects:
            self._open("sequence_gap", diff, before + 1, diff.sequence)

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
        bids, asks = best_bids(self.bids, 1), best_asks(self.asks, 1)
        if not (self.known_bids.shows_best(bids) and self.known_asks.shows_best(asks)):
            return "unverifiable"
        if self.ids == "rising" or (self.ids == "linked" and self.all_have_ids):
            return "verified"
        return "checked" if matched else "unverifiable"

    def _state(
        self, message: Message, applied: bool, matched: bool | None = None, same: bool | None = None
    ) -> State:
        return State(
            message,
            applied,
            self._status(matched),
            dict(self.bids),
            dict(self.asks),
            self.known_bids.count(best_bids(self.bids)),
            self.known_asks.count(best_asks(self.asks)),
            tuple(replace(gap) for gap in self.gaps),
            matched,
            same,
        )


def write(side: Side, levels: Levels) -> Side:
    for price, size in levels:
        if size == 0:
            side.pop(price, None)  # deleting an absent level is normal
        else:
            side[price] = size
    return side


def best_bids(bids: Side, depth: int | None = None) -> list[Level]:
    return sorted(bids.items(), reverse=True)[:depth]


def best_asks(asks: Side, depth: int | None = None) -> list[Level]:
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
