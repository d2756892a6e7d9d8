"""What each feed is and can prove."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from deltabook.schemas.names import Status


class Continuity(IntEnum):
    """How the ids of successive book updates connect; the number is what the kernel switches on."""

    NONE = 0
    """No ids that prove completeness."""
    FIRST_ID = 1
    """``U == previous u + 1``; after a snapshot L: drop ``u <= L``, then ``U <= L + 1 <= u``."""
    PREVIOUS_ID = 2
    """``pu == previous u``; after a snapshot L: drop ``u < L``, then ``U <= L <= u`` or ``pu == L``."""


@dataclass(frozen=True)
class Feed:
    """One exchange's feed, as the tables name it.

    Attributes
    ----------
    exchange
        The name in the tables.
    continuity
        The id rule that links book updates.
    best_status
        The best status that this feed's books can have.
    price_scale, size_scale
        Decimal digits that the venue prints at most: what a scaled int64 holds unless the
        instrument's own scales are set.
    timed_snapshots
        Whether its snapshots carry a time; one without takes its neighbour's.
    source
        Where the rules are from.
    """

    exchange: str
    continuity: Continuity
    best_status: Status
    price_scale: int
    size_scale: int
    timed_snapshots: bool
    source: str


_SPOT_DOCS = "binance-spot-api-docs: web-socket-streams, How to manage a local order book correctly"
_FUTURES_DOCS = "Binance derivatives docs: How to manage a local order book correctly"

FEEDS = {
    feed.exchange: feed
    for feed in (
        Feed("BINANCE", Continuity.FIRST_ID, Status.VERIFIED, 8, 8, False, _SPOT_DOCS),
        Feed("BINANCE_FUTURES", Continuity.PREVIOUS_ID, Status.VERIFIED, 8, 8, True, _FUTURES_DOCS),
        Feed("BINANCE_DELIVERY", Continuity.PREVIOUS_ID, Status.VERIFIED, 8, 8, True, _FUTURES_DOCS),
    )
}
"""Spot, USD-M and COIN-M are BINANCE, BINANCE_FUTURES and BINANCE_DELIVERY, as data vendors name them."""
