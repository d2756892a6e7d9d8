"""A slow oracle: rebuild the book of one symbol from Binance captures with dicts and `Decimal`.

It is read as the specification, so it imports nothing of deltabook and prefers the plain to the fast.
Rules: Binance's "How to manage a local order book correctly" for spot and for USD-M futures.

A snapshot shows every level from its best to its worst price, and says nothing of worse prices. So each side
is known from some price to its better end. At such a price, a level that the book lacks does not exist.
"""

import gzip
import json
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice, takewhile
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

Market = Literal["spot", "usdm"]
Status = Literal["unseeded", "suspect", "unverifiable", "verified"]
GapKind = Literal["unbridgeable_snapshot", "sequence_gap", "new_session", "trade_gap"]
Level = tuple[Decimal, Decimal]
Levels = tuple[Level, ...]
PARTIAL_DEPTH_STREAM = re.compile(r"@depth(5|10|20)")  # not diff depth: `@depth`, `@depth@100ms`
BY_ID = attrgetter("sequence")  # a stable sort on it keeps equal ids in the input's order
INFINITY = Decimal("Infinity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    symbol: str | None = None  # a REST snapshot does not say
    timestamp: int | None = None  # exchange time as printed: `T` where there is one, else `E`
    received: int | None = None  # local time, ns
    position: int = 0  # line number from 0 over all files chained


@dataclass(frozen=True, slots=True)
class Update(Message):
    """One book update: a diff, or a REST snapshot (which has neither a first nor a previous id)."""

    is_snapshot: bool
    sequence: int  # diff: last id `u`; snapshot: `lastUpdateId`
    bids: Levels  # absolute sizes; in a diff 0 deletes
    asks: Levels
    first_sequence: int = -1  # diff: `U`; -1 = not given
    prev_sequence: int = -1  # futures diff: `pu`, the last id of the diff before; -1 = not given


@dataclass(frozen=True, slots=True)
class VendorBook(Message):
    """The exchange's own top of the book (partial depth stream): golden only, never applied."""

    sequence: int
    bids: Levels
    asks: Levels


@dataclass(frozen=True, slots=True)
class Trade(Message):
    sequence: int  # trade id: `t`, or `a` of an aggTrade
    price: Decimal
    size: Decimal
    buyer_is_maker: bool  # so the aggressor sold
    is_aggregate: bool = False


@dataclass(frozen=True, slots=True)
class Ticker(Message):
    """The exchange's best bid and ask at one update id (`bookTicker`)."""

    sequence: int
    bid: Level
    ask: Level


@dataclass(frozen=True, slots=True)
class Capture:
    """All that was read, each list in the feed's own order (by id, never by time)."""

    updates: list[Update]
    trades: list[Trade]  # those of `aggTrade` if there is no `trade`
    tickers: list[Ticker]
    vendor_books: list[VendorBook]
    ignored: int  # lines that are none of the above


@dataclass(frozen=True, slots=True)
class Gap:
    """One break of a chain of ids, found at the message `sequence`."""

    kind: GapKind
    expected: int
    found: int
    sequence: int
    resolved_sequence: int | None = None  # the snapshot that ended it; a trade gap is never resolved


@dataclass(frozen=True, slots=True)
class KnownRange:
    """The prices of one side at which the book lacks no level: from `worst` to the better end.

    `worst` is infinite if all prices are known (the worst price of all), or none (the best of all).
    """

    is_bid: bool
    worst: Decimal

    @classmethod
    def nothing(cls, is_bid: bool) -> "KnownRange":
        return cls(is_bid, INFINITY if is_bid else -INFINITY)

    @classmethod
    def whole(cls, is_bid: bool) -> "KnownRange":
        return cls(is_bid, -INFINITY if is_bid else INFINITY)

    @classmethod
    def of_snapshot(cls, is_bid: bool, levels: Levels) -> "KnownRange":
        """Return what a snapshot shows of a side: the whole side if it has no level."""
        prices = [price for price, size in levels if size != 0]
        if not prices:
            return cls.whole(is_bid)
        return cls(is_bid, min(prices) if is_bid else max(prices))

    @property
    def is_whole(self) -> bool:
        return self == KnownRange.whole(self.is_bid)

    def holds(self, price: Decimal) -> bool:
        return price >= self.worst if self.is_bid else price <= self.worst

    def extended(self, price: Decimal) -> "KnownRange":
        """Return the range that holds a price too, and all better ones."""
        return self if self.holds(price) else KnownRange(self.is_bid, price)

    def count(self, levels: Iterable[Level]) -> int:
        """Return how many levels, best first, lie in the range, up to the first that does not."""
        return sum(1 for _ in takewhile(lambda level: self.holds(level[0]), levels))

    def shows_best(self, levels: Sequence[Level]) -> bool:
        """Return whether the best level of a side is known, or that the side has none."""
        return self.holds(levels[0][0]) if levels else self.is_whole


@dataclass(frozen=True, slots=True)
class State:
    """The book after one message, whether or not the message was applied."""

    sequence: int
    is_snapshot: bool
    applied: bool  # it could have changed the book
    merged: bool  # a snapshot that only added levels where the book was not known
    status: Status
    bids: list[Level]  # best first, at most `depth`
    asks: list[Level]
    bid_levels: int  # at full depth
    ask_levels: int
    bid_known: int  # how many of `bids`, from the best, are known
    ask_known: int
    gaps: tuple[Gap, ...]  # found so far
    position: int


def read_capture(paths: Iterable[str | Path]) -> Capture:
    """Read files, gzip or plain, as one chained capture of one symbol."""
    files = (Path(path).read_bytes() for path in paths)
    plain = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw for raw in files)
    return parse_lines(line.decode() for raw in plain for line in raw.splitlines())


def parse_lines(lines: Iterable[str]) -> Capture:
    """Parse `<receive ns> <json>` or plain JSON lines of one symbol; ValueError if there are several."""
    parsed = [_parse_line(line, position) for position, line in enumerate(lines)]
    messages = [message for message in parsed if message is not None]
    symbols = sorted({message.symbol for message in messages if message.symbol is not None})
    if len(symbols) > 1:
        raise ValueError(f"expected one symbol, found {symbols}: filter the lines first")
    trades = sorted((message for message in messages if isinstance(message, Trade)), key=BY_ID)
    return Capture(
        updates=in_feed_order(message for message in messages if isinstance(message, Update)),
        trades=[trade for trade in trades if not trade.is_aggregate] or trades,
        tickers=sorted((message for message in messages if isinstance(message, Ticker)), key=BY_ID),
        vendor_books=sorted((message for message in messages if isinstance(message, VendorBook)), key=BY_ID),
        ignored=len(parsed) - len(messages),
    )


def in_feed_order(updates: Iterable[Update]) -> list[Update]:
    """Order by id, a diff before a snapshot of the same id, then by position in the input."""
    return sorted(updates, key=lambda update: (update.sequence, update.is_snapshot, update.position))


def _parse_line(line: str, position: int) -> Message | None:
    """Return the line's message, or None for all that the oracle does not know."""
    head, _, payload = line.strip().partition(" ")
    received = int(head) if head.isdecimal() else None
    try:
        data = json.loads(line if received is None else payload, parse_float=Decimal)
    except json.JSONDecodeError:
        return None
    is_wrapped = isinstance(data, dict) and "stream" in data
    stream, data = (data["stream"], data.get("data")) if is_wrapped else (None, data)
    if not isinstance(data, dict):
        return None
    timestamp = data.get("T", data.get("E"))
    origin = {"symbol": data.get("s"), "timestamp": timestamp, "received": received, "position": position}
    return _parse_message(stream, data, origin)


def _parse_message(stream: str | None, data: dict[str, Any], origin: dict[str, Any]) -> Message | None:
    event = data.get("e")
    is_partial = PARTIAL_DEPTH_STREAM.search(stream or "") is not None
    if event == "depthUpdate":
        bids, asks = _levels(data["b"]), _levels(data["a"])
        if is_partial:
            return VendorBook(data["u"], bids, asks, **origin)
        return Update(False, data["u"], bids, asks, data["U"], data.get("pu", -1), **origin)
    if event is None and {"lastUpdateId", "bids", "asks"} <= data.keys():
        bids, asks = _levels(data["bids"]), _levels(data["asks"])
        if is_partial:
            return VendorBook(data["lastUpdateId"], bids, asks, **origin)
        return Update(True, data["lastUpdateId"], bids, asks, **origin) if stream is None else None
    if event in ("trade", "aggTrade"):
        sequence, price, size = data["t" if event == "trade" else "a"], Decimal(data["p"]), Decimal(data["q"])
        return Trade(sequence, price, size, data["m"], event == "aggTrade", **origin)
    if event in (None, "bookTicker") and {"u", "b", "B", "a", "A"} <= data.keys():
        return Ticker(data["u"], *_levels([(data["b"], data["B"]), (data["a"], data["A"])]), **origin)
    return None


def _levels(pairs: Iterable[Sequence[str]]) -> Levels:
    return tuple((Decimal(price), Decimal(size)) for price, size, *_ in pairs)


class Ladder:
    """One side of the book: sizes by price, and the prices in rising order."""

    def __init__(self) -> None:
        self.sizes: dict[Decimal, Decimal] = {}
        self.prices: list[Decimal] = []

    def set(self, price: Decimal, size: Decimal) -> None:
        if size != 0:
            if price not in self.sizes:
                insort(self.prices, price)
            self.sizes[price] = size
        elif price in self.sizes:  # deleting an absent level is normal
            del self.sizes[price]
            del self.prices[bisect_left(self.prices, price)]

    def levels(self, prices: Iterable[Decimal], depth: int | None) -> list[Level]:
        return [(price, self.sizes[price]) for price in islice(prices, depth)]


class Book:
    """The full book of one symbol, its status, and the gaps of its chain of ids."""

    def __init__(self, market: Market, silence: int | None = None) -> None:
        if market not in ("spot", "usdm"):
            raise ValueError(f"expected market 'spot' or 'usdm', found {market!r}")
        self.market = market
        self.silence = silence
        self.time = -1  # timestamp of the last message
        self.proven: Status = "unseeded"  # the status by ids alone
        self._empty()
        self.gaps: list[Gap] = []

    @property
    def status(self) -> Status:
        """The status by ids, unless better levels than the best ones may be missing."""
        if self.proven != "verified":
            return self.proven
        is_known = self.known_bids.shows_best(self.best_bids()) and self.known_asks.shows_best(
            self.best_asks()
        )
        return "verified" if is_known else "unverifiable"

    def best_bids(self, depth: int | None = 1) -> list[Level]:
        return self.bids.levels(reversed(self.bids.prices), depth)

    def best_asks(self, depth: int | None = 1) -> list[Level]:
        return self.asks.levels(self.asks.prices, depth)

    def apply(self, update: Update, coming: Sequence[Update] = ()) -> Literal["", "diff", "merge", "reset"]:
        """Take one message, given those that come; return how it was applied, if it was."""
        if self._begins_session(update, coming):
            found = update.sequence if update.is_snapshot else update.first_sequence
            self.gaps.append(Gap("new_session", self.last, found, update.sequence))
            self.proven = "unseeded"
            self._empty()
        self.time = self.time if update.timestamp is None else update.timestamp
        action = self._seed(update, coming) if update.is_snapshot else self._follow(update)
        if action == "merge":
            # Its id may be ahead of the book. The next diff takes the book there.
            self.waiting.append(update)
        elif action:
            self._know(update, action)
            self.waiting = []
        return action

    def _empty(self) -> None:
        self.bids, self.asks = Ladder(), Ladder()
        self.known_bids, self.known_asks = KnownRange.nothing(True), KnownRange.nothing(False)
        self.last = -1  # id of the last snapshot or diff applied
        self.awaits_bridge = False  # no diff was applied since the snapshot
        self.waiting: list[Update] = []  # snapshots met by the chain since its last diff

    def _begins_session(self, update: Update, coming: Sequence[Update]) -> bool:
        """Return whether the recording had stopped: a long silence, and no id that connects to the book."""
        if None in (self.silence, update.timestamp) or self.time < 0:
            return False
        if update.timestamp - self.time < self.silence:
            return False
        # A snapshot has no id of the message before it. The next diff may have.
        diff = next((one for one in (update, *coming) if not one.is_snapshot), None)
        if diff is None or self.proven == "unseeded":
            return True
        return not self._is_stale(diff) and self._find_break(diff) is not None

    def _seed(self, snapshot: Update, coming: Iterable[Update]) -> Literal["merge", "reset"]:
        L = snapshot.sequence
        if self.proven == "verified" and not self.awaits_bridge:
            # Met by an unbroken chain, unless the next diff breaks the chain and bridges the snapshot.
            diff = next((u for u in coming if not u.is_snapshot and not self._is_stale(u)), None)
            broken = self._find_break(diff) if diff else None
            if not diff or not broken or not self._bridges(snapshot, diff):
                return "merge"
            self.gaps.append(Gap("sequence_gap", *broken, sequence=L))
        self.gaps = [replace(gap, resolved_sequence=gap.resolved_sequence or L) for gap in self.gaps]
        self._empty()
        self._write(snapshot)
        self.proven, self.awaits_bridge = "verified", True
        return "reset"

    def _follow(self, diff: Update) -> Literal["", "diff"]:
        if self.proven == "unseeded" or self._is_stale(diff):
            return ""
        if broken := self._find_break(diff):
            kind: GapKind = "unbridgeable_snapshot" if self.awaits_bridge else "sequence_gap"
            self.gaps.append(Gap(kind, *broken, sequence=diff.sequence))
            self.proven = "suspect"
        elif self.proven == "verified":
            for snapshot in self.waiting:
                self.known_bids = self._take_side(self.bids, snapshot.bids, self.known_bids)
                self.known_asks = self._take_side(self.asks, snapshot.asks, self.known_asks)
        self._write(diff)
        self.awaits_bridge = False
        return "diff"

    def _know(self, update: Update, action: str) -> None:
        """Follow what is known of each side; add levels of a merged snapshot where nothing was known."""
        if self.proven != "verified":
            self.known_bids, self.known_asks = KnownRange.nothing(True), KnownRange.nothing(False)
            return
        if action == "reset":
            self.known_bids = self._take_side(self.bids, update.bids, self.known_bids)
            self.known_asks = self._take_side(self.asks, update.asks, self.known_asks)
        bids, asks = self.best_bids(), self.best_asks()
        if bids and asks and bids[0][0] < asks[0][0]:
            # The exchange's book is never crossed: it has no bid at or above its best ask, nor the reverse.
            self.known_bids = self.known_bids.extended(asks[0][0])
            self.known_asks = self.known_asks.extended(bids[0][0])

    @staticmethod
    def _take_side(ladder: Ladder, levels: Levels, known: KnownRange) -> KnownRange:
        """Add the levels of a snapshot that the book may lack; return what is known then."""
        for price, size in levels:
            if not known.holds(price) and price not in ladder.sizes:
                ladder.set(price, size)
        return known.extended(KnownRange.of_snapshot(known.is_bid, levels).worst)

    def _bridges(self, snapshot: Update, diff: Update) -> bool:
        fresh = Book(self.market)
        fresh.proven, fresh.last, fresh.awaits_bridge = "verified", snapshot.sequence, True
        return not fresh._is_stale(diff) and fresh._find_break(diff) is None

    def _is_stale(self, diff: Update) -> bool:
        if self.market == "usdm" and self.awaits_bridge:
            return diff.sequence < self.last  # u == L bridges
        return diff.sequence <= self.last

    def _find_break(self, diff: Update) -> tuple[int, int] | None:
        """Return (expected, found) if ids are missing before a diff that is not stale; an overlap is none."""
        first, previous, last = diff.first_sequence, diff.prev_sequence, self.last
        if first < 0 or (self.market == "usdm" and previous < 0):
            raise ValueError(f"{self.market} diff {diff.sequence} (row {diff.position}) lacks U or pu")
        if self.market == "spot":  # after a snapshot and after a diff alike
            return (last + 1, first) if first > last + 1 else None
        if self.awaits_bridge:
            return None if first <= last <= diff.sequence or previous == last else (last, previous)
        return (last, previous) if previous > last else None

    def _write(self, update: Update) -> None:
        for ladder, levels in ((self.bids, update.bids), (self.asks, update.asks)):
            for price, size in levels:
                ladder.set(price, size)
        self.last = update.sequence


def rebuild(
    updates: Iterable[Update], market: Market, depth: int | None = None, silence: int | None = None
) -> Iterator[State]:
    """Yield the book after every update, taken in the order given (`in_feed_order` makes it the feed's).

    After `silence`, in the unit of the timestamps, an update that no id connects begins a new session.
    """
    book, ordered = Book(market, silence), list(updates)
    for index, update in enumerate(ordered):
        action = book.apply(update, ordered[index + 1 :])
        bids, asks = book.best_bids(depth), book.best_asks(depth)
        yield State(
            sequence=update.sequence,
            is_snapshot=update.is_snapshot,
            applied=action in ("diff", "reset"),
            merged=action == "merge",
            status=book.status,
            bids=bids,
            asks=asks,
            bid_levels=len(book.bids.prices),
            ask_levels=len(book.asks.prices),
            bid_known=book.known_bids.count(bids),
            ask_known=book.known_asks.count(asks),
            gaps=tuple(book.gaps),
            position=update.position,
        )


def follow_trades(trades: Iterable[Trade]) -> tuple[list[Trade], list[Gap]]:
    """Drop duplicates (an id not above the one before) and return the jumps of the id as gaps."""
    kept: list[Trade] = []
    gaps: list[Gap] = []
    for trade in trades:
        expected = kept[-1].sequence + 1 if kept else trade.sequence
        if trade.sequence > expected:
            gaps.append(Gap("trade_gap", expected, trade.sequence, trade.sequence))
        if trade.sequence >= expected:
            kept.append(trade)
    return kept, gaps


def match_top_of_book(states: Iterable[State], tickers: Iterable[Ticker]) -> tuple[int, int]:
    """Return (compared, matched): applied diffs against the last ticker whose id is not above theirs."""
    ordered = sorted(tickers, key=BY_ID)
    compared = matched = 0
    for state in states:
        index = bisect_right(ordered, state.sequence, key=BY_ID) - 1
        if state.applied and not state.is_snapshot and index >= 0:
            compared += 1
            matched += state.bids[:1] == [ordered[index].bid] and state.asks[:1] == [ordered[index].ask]
    return compared, matched
