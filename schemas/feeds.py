"""Feeds: how their ids connect, what their checksums cover, and the best status of their books."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from deltabook.schemas.names import Status


class Continuity(IntEnum):
    """Rule by which the ids of successive book updates connect. Kernels use the number."""

    NONE = 0
    """No ids that prove completeness."""
    FIRST_ID = 1
    """``U == previous u + 1``; after a snapshot L: drop ``u <= L``, then ``U <= L + 1 <= u``."""
    PREVIOUS_ID = 2
    """``pu == previous u``; after a snapshot L: drop ``u < L``, then ``U <= L <= u`` or ``pu == L``."""
    LINKED = 3
    """``prevSeqId == seqId`` of the message before, if the feed gives ids."""
    RISING = 4
    """``u == previous u + 1``."""


class Checksum(IntEnum):
    """Rule by which a venue computes its checksum. Kernels use the number."""

    NONE = 0
    KRAKEN = 1
    """CRC-32 over the ten best asks, then the ten best bids, best first: price, then size, as printed,
    without the point and without leading zeros."""
    OKX = 2
    """CRC-32 over ``bid:size:ask:size:…`` of the 25 best levels, as printed."""


class Repeats(IntEnum):
    """How two records of one message are distinguished from two messages."""

    BY_IDS = 0
    """The same ids are the same message."""
    BY_CONTENT = 1
    """The same time, checksum and levels are the same message: parallel recordings become one feed."""
    JOINED = 2
    """Records with the same id and receive time are parts of one message and are joined."""


@dataclass(frozen=True)
class Feed:
    """One kind of feed.

    Attributes
    ----------
    name
        Name in the table `instruments`.
    source
        Name of the source that reads it.
    exchanges
        Names of the exchanges that have this feed; empty: every exchange of the source.
    continuity
        The id rule that links book updates.
    checksum
        The checksum rule.
    repeats
        How records of one message are recognised.
    best_status
        The best status that this feed's books can have.
    own_snapshots
        Whether snapshots are messages of the feed, which always replace the book. Otherwise they are
        fetched by request and connected by ids.
    timed_snapshots
        Whether snapshots have a time. One without takes the time of its neighbour.
    trade_ids
        Whether trade ids rise by one, so that a jump is a gap.
    rules
        Source of the rules.
    """

    name: str
    source: str
    exchanges: tuple[str, ...]
    continuity: Continuity
    checksum: Checksum
    repeats: Repeats
    best_status: Status
    own_snapshots: bool
    timed_snapshots: bool
    trade_ids: bool
    rules: str


_SPOT_DOCS = "binance-spot-api-docs: web-socket-streams, How to manage a local order book correctly"
_FUTURES_DOCS = "Binance derivatives docs: How to manage a local order book correctly"

FEEDS = {
    feed.name: feed
    for feed in (
        Feed(
            "binance",
            "binance",
            ("BINANCE",),
            Continuity.FIRST_ID,
            Checksum.NONE,
            Repeats.BY_IDS,
            Status.VERIFIED,
            own_snapshots=False,
            timed_snapshots=False,
            trade_ids=True,
            rules=_SPOT_DOCS,
        ),
        Feed(
            "binance_futures",
            "binance",
            ("BINANCE_FUTURES", "BINANCE_DELIVERY"),
            Continuity.PREVIOUS_ID,
            Checksum.NONE,
            Repeats.BY_IDS,
            Status.VERIFIED,
            own_snapshots=False,
            timed_snapshots=True,
            trade_ids=True,
            rules=_FUTURES_DOCS,
        ),
        Feed(
            "crypto_lake",
            "crypto_lake",
            (),
            Continuity.NONE,
            Checksum.NONE,
            Repeats.JOINED,
            Status.UNVERIFIABLE,
            own_snapshots=True,
            timed_snapshots=True,
            trade_ids=False,
            rules="Crypto Lake documentation: data schema of book_delta_v2, book and trades",
        ),
        Feed(
            "tardis",
            "tardis",
            (),
            Continuity.NONE,
            Checksum.NONE,
            Repeats.JOINED,
            Status.UNVERIFIABLE,
            own_snapshots=True,
            timed_snapshots=True,
            trade_ids=False,
            rules="docs.tardis.dev: downloadable CSV files, incremental_book_L2",
        ),
        Feed(
            "kraken",
            "kraken",
            ("KRAKEN",),
            Continuity.NONE,
            Checksum.KRAKEN,
            Repeats.BY_CONTENT,
            Status.CHECKED,
            own_snapshots=True,
            timed_snapshots=True,
            trade_ids=False,
            rules="Kraken WebSocket API v1: book, and How to calculate the checksum",
        ),
        Feed(
            "okx",
            "okx",
            ("OKX", "OKCOIN"),
            Continuity.LINKED,
            Checksum.OKX,
            Repeats.BY_CONTENT,
            Status.VERIFIED,
            own_snapshots=True,
            timed_snapshots=True,
            trade_ids=False,
            rules="OKX API v5: Order book channel, checksum and sequence ids; OKCoin API v3: depth_l2_tbt",
        ),
        Feed(
            "bybit",
            "bybit",
            ("BYBIT",),
            Continuity.RISING,
            Checksum.NONE,
            Repeats.BY_IDS,
            Status.VERIFIED,
            own_snapshots=True,
            timed_snapshots=True,
            trade_ids=False,
            rules="Bybit API v5: Orderbook, process snapshot and delta",
        ),
    )
}
"""Every feed by name. Binance's spot, USD-M and COIN-M are the exchanges BINANCE, BINANCE_FUTURES and
BINANCE_DELIVERY, as data vendors name them."""


def feed_of(source: str, exchange: str) -> Feed:
    """Return the feed that a source reads for an exchange.

    Raises
    ------
    KeyError
        If the source has no feed of that exchange.
    """
    for feed in FEEDS.values():
        if feed.source == source and (not feed.exchanges or exchange in feed.exchanges):
            return feed
    raise KeyError(f"{source} has no feed of {exchange}")
