"""The command `sources`: describe the files that each source reads, and the best book status of its feeds."""

from __future__ import annotations

import inspect
import sys

from deltabook.schemas.errors import SettingsError
from deltabook.schemas.feeds import FEEDS, Checksum, Continuity, Feed
from deltabook.schemas.names import Status
from deltabook.udfs.sources.registry import SOURCES

_IDS = {
    Continuity.NONE: "none that prove completeness",
    Continuity.FIRST_ID: "first id follows the last",
    Continuity.PREVIOUS_ID: "name the previous id",
    Continuity.LINKED: "name the previous id",
    Continuity.RISING: "rise by one",
}
"""Maps the rule of a feed's ids to a short text."""
_PROOFS = {
    Status.VERIFIED: "the ids of messages prove an unbroken chain from a snapshot",
    Status.CHECKED: "no ids, but the venue's checksum is compared after every message",
    Status.UNVERIFIABLE: "neither ids nor checksums: missing data cannot be detected",
}
"""Maps the best status that a feed can reach to the reason why the feed reaches this status."""


def describe_sources(name: str | None) -> str:
    """Return the description of one source, or a table of all sources.

    Parameters
    ----------
    name : str or None
        Name of a source, such as `binance`; None: a table of all sources.

    Raises
    ------
    SettingsError
        If there is no such source.
    """
    if name is not None and name not in SOURCES:
        raise SettingsError(f"source {name!r}: expected one of {', '.join(SOURCES)}")
    return describe_source(name) if name else _make_table()


def _make_table() -> str:
    """Return one line for each feed: source, exchanges, ids, best status of books."""
    rows = [("SOURCE", "EXCHANGES", "IDS", "CHECKSUM", "BOOKS AT BEST")]
    for feed in FEEDS.values():
        checksum = "-" if feed.checksum is Checksum.NONE else "yes"
        exchanges = ", ".join(feed.exchanges) or "any"
        rows.append((feed.source, exchanges, _IDS[feed.continuity], checksum, feed.best_status.label))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    more = "deltabook sources SOURCE prints the page of one source: its format, its rules, what is skipped."
    return "\n".join([*lines, "", more])


def describe_source(name: str) -> str:
    """Return the docstring of a source's module, followed by the best book status of each of its feeds.

    Parameters
    ----------
    name : str
        Name of a source.
    """
    text = inspect.getdoc(sys.modules[SOURCES[name].__module__]) or ""
    feeds = [feed for feed in FEEDS.values() if feed.source == name]
    return "\n".join([name.upper(), "", text, "", *(_describe_proof(feed) for feed in feeds)])


def _describe_proof(feed: Feed) -> str:
    """Return one line about a feed: exchanges, best book status with its reason, and what starts a book."""
    exchanges = ", ".join(feed.exchanges) or "any exchange"
    also = ""
    if feed.checksum is not Checksum.NONE and feed.continuity is not Continuity.NONE:
        also = "; the checksum of a message without an id makes the book checked"
    if not feed.own_snapshots or feed.best_status is Status.VERIFIED:
        seeded = "a snapshot starts a book"
    elif feed.is_unlinked:
        seeded = "no snapshots: the book starts from its messages, and the vendor's books support it"
    else:
        seeded = "the feed's own snapshot starts a book"
    return f"  {exchanges}: {feed.best_status.label} at best ({_PROOFS[feed.best_status]}{also}); {seeded}."
