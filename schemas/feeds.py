"""Feeds: the rules of ids and checksums of each kind of feed, and the best status that its books can have."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import IntEnum

from deltabook.schemas.names import Status


class Continuity(IntEnum):
    """Rule by which the ids of successive book updates connect. Kernels use the number.

    A diff has a first id U, a last id u and, on some venues, the last id pu of the diff before.
    """

    NONE = 0
    """The feed has no ids that prove completeness."""
    FIRST_ID = 1
    """``U == previous u + 1``. After a snapshot with last id L, diffs with ``u <= L`` are dropped. The next
    diff must have ``U <= L + 1 <= u``."""
    PREVIOUS_ID = 2
    """``pu == previous u``. After a snapshot with last id L, diffs with ``u < L`` are dropped. The next diff
    must have ``U <= L <= u`` or ``pu == L``."""
    LINKED = 3
    """`prevSeqId` of a message equals `seqId` of the message before, if the feed gives these ids."""
    RISING = 4
    """Each message has one id u, and ``u == previous u + 1``."""


class Checksum(IntEnum):
    """Rule by which a venue computes its checksum. Kernels use the number."""

    NONE = 0
    KRAKEN = 1
    """CRC-32 over the ten best asks, then the ten best bids, best first. Price and size of each level are
    printed without the decimal point and without leading zeros."""
    OKX = 2
    """CRC-32 over ``bid:size:ask:size:…`` of the 25 best levels per side, printed with as few decimals as
    needed."""
    BITGET = 3
    """As OKX, but all prices, and all sizes, of an instrument have the same number of decimals."""


class Repeats(IntEnum):
    """Rule by which two records are recognized as the same message."""

    BY_IDS = 0
    """Records with equal ids are the same message."""
    BY_CONTENT = 1
    """Records from different files with equal time, checksum and levels are the same message. Recordings that
    overlap in time are merged in this way."""
    JOINED = 2
    """Records with equal id and receive time are parts of one message. The parts are joined."""


@dataclass(frozen=True)
class Feed:
    """One kind of feed.

    Attributes
    ----------
    name
        Name in the table `instruments`.
    source
        Name of the source that reads the feed.
    exchanges
        Names of the exchanges that have this feed; empty: every exchange of the source.
    continuity
        Rule by which the ids of book updates connect.
    checksum
        Rule by which the venue computes its checksum.
    repeats
        Rule by which records of the same message are recognized.
    best_status
        The best status that books of this feed can have.
    own_snapshots
        True: snapshots are messages of the feed, and always replace the book. False: snapshots come from
        separate requests, and their ids connect them to the feed.
    whole_snapshots
        True: a snapshot shows every level that the feed has, and messages keep the book whole to that depth.
        False: a snapshot may be cut. Levels worse than its worst level may exist.
    is_unlinked
        True if the feed has neither ids that connect messages nor snapshots. `udfs.truths` says what supports
        such a book.
    timed_snapshots
        True if snapshots have a time. A snapshot without a time gets the time of a neighboring message.
    trade_ids
        True if each trade id is the previous id plus one. A larger step is then a gap.
    rules
        The document that states the rules.
    """

    name: str
    source: str
    exchanges: tuple[str, ...]
    continuity: Continuity
    checksum: Checksum
    repeats: Repeats
    best_status: Status
    _: KW_ONLY
    own_snapshots: bool
    whole_snapshots: bool
    is_unlinked: bool = False
    timed_snapshots: bool = True
    trade_ids: bool = False
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
            whole_snapshots=False,
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
            whole_snapshots=False,
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
            whole_snapshots=False,
            is_unlinked=True,
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
            whole_snapshots=False,
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
            whole_snapshots=True,
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
            whole_snapshots=True,
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
            whole_snapshots=True,
            rules="Bybit API v5: Orderbook, process snapshot and delta",
        ),
        Feed(
            "coinbase",
            "coinbase",
            ("COINBASE",),
            Continuity.LINKED,
            Checksum.NONE,
            Repeats.BY_IDS,
            Status.VERIFIED,
            own_snapshots=True,
            whole_snapshots=True,
            rules="Coinbase Advanced Trade WebSocket: level2 channel, sequence numbers",
        ),
        Feed(
            "kraken_futures",
            "kraken_futures",
            ("KRAKEN_FUTURES",),
            Continuity.RISING,
            Checksum.NONE,
            Repeats.BY_IDS,
            Status.VERIFIED,
            own_snapshots=True,
            whole_snapshots=True,
            rules="Kraken Futures WebSocket: book",
        ),
        Feed(
            "deribit",
            "deribit",
            ("DERIBIT",),
            Continuity.LINKED,
            Checksum.NONE,
            Repeats.BY_IDS,
            Status.VERIFIED,
            own_snapshots=True,
            whole_snapshots=True,
            trade_ids=True,
            rules="Deribit API: subscription book.(instrument_name).(interval)",
        ),
        Feed(
            "bitget",
            "bitget",
            ("BITGET", "BITGET_FUTURES"),
            Continuity.NONE,
            Checksum.BITGET,
            Repeats.BY_CONTENT,
            Status.CHECKED,
            own_snapshots=True,
            whole_snapshots=False,
            rules="Bitget WebSocket: depth channel, checksum",
        ),
        Feed(
            "gate",
            "gate",
            ("GATEIO", "GATEIO_FUTURES"),
            Continuity.FIRST_ID,
            Checksum.NONE,
            Repeats.BY_IDS,
            Status.VERIFIED,
            own_snapshots=False,
            whole_snapshots=False,
            rules="Gate WebSocket v4: order book update channel",
        ),
        Feed(
            "bitstamp",
            "bitstamp",
            ("BITSTAMP",),
            Continuity.NONE,
            Checksum.NONE,
            Repeats.BY_CONTENT,
            Status.UNVERIFIABLE,
            own_snapshots=False,
            whole_snapshots=True,
            rules="Bitstamp WebSocket v2: live full order book (diff)",
        ),
        Feed(
            "bitmex",
            "bitmex",
            ("BITMEX",),
            Continuity.NONE,
            Checksum.NONE,
            Repeats.JOINED,
            Status.UNVERIFIABLE,
            own_snapshots=True,
            whole_snapshots=True,
            rules="BitMEX WebSocket API: orderBookL2",
        ),
    )
}
"""Every feed by name.

Exchange names are those of data vendors: BINANCE is Binance spot, BINANCE_FUTURES is USD-M futures and
BINANCE_DELIVERY is COIN-M futures.
"""


SOURCE_NAMES = tuple(dict.fromkeys(feed.source for feed in FEEDS.values()))
"""Names of all sources, as users type them."""
AUTO = "auto"
"""Name that stands for the source that the content of each file shows."""


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
