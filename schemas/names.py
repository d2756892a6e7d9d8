"""Enums, sentinels and units that tables and kernels share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from deltabook.schemas.errors import InputError

NOT_GIVEN = -1
"""Value of an id, time, price or size that the source does not give. No integer in a UDF is null."""

NANOSECONDS_PER_SECOND = 1_000_000_000
HOUR = 3600 * NANOSECONDS_PER_SECOND
"""Default length of a chunk, ns. The column `hour` is a chunk's start, ns since 1970 UTC."""
DAY = 24 * HOUR

ALL_HOURS = -1
"""Value of `hour` for a metric of all chunks of a symbol together."""
FULL_DEPTH = 2**31 - 1
"""Depth that shows all levels."""

CLOCK_TOLERANCE = 10 * NANOSECONDS_PER_SECOND
"""A timestamp further than this, ns, from its neighbours in the feed's order is a clock jump."""

NAME_PATTERN = re.compile(r"(?!-|__)(?=[._-]*[A-Z0-9])[A-Z0-9._-]{1,40}")
"""Pattern of names of exchanges and symbols, checked before a name reaches a path, SQL text or command line.

It has a letter or a digit: `.` and `..` are folders. A hyphen begins an option, and two underscores begin the
folder name that Spark reads back as null.
"""


class EventType(StrEnum):
    """Kind of an event: one trade, or one book update with all its level changes."""

    TRADE = "trade"
    BOOK_UPDATE = "book_update"


class Status(IntEnum):
    """How far a book is proven, worst first. Kernels use the number, tables the lower-case name."""

    UNSEEDED = 0
    """No snapshot yet: the book is empty, nothing is invented."""
    SUSPECT = 1
    """A gap, a quarantined row or a failed checksum since the last snapshot."""
    UNVERIFIABLE = 2
    """The feed has neither ids nor checksums that could prove the book."""
    CHECKED = 3
    """No ids, but the exchange's checksum matched."""
    VERIFIED = 4
    """Ids prove an unbroken chain from a snapshot."""

    @property
    def label(self) -> str:
        """Lower-case name, as in the tables."""
        return self.name.lower()


STATUS_LABELS = tuple(status.label for status in Status)


class GapKind(IntEnum):
    """Kind of a gap. Kernels use the number, the table `gaps` the lower-case name."""

    SEQUENCE_GAP = 0
    """Update ids jump: at least one depth message is missing."""
    UNBRIDGEABLE_SNAPSHOT = 1
    """The first diff after a snapshot does not connect to it."""
    TRADE_GAP = 2
    """Trade ids jump. The book is not affected."""
    MISSING_SNAPSHOT = 3
    """A feed of diffs without any snapshot: no book was ever built."""
    CHECKSUM_FAILURE = 4
    """The venue's checksum is not that of the book."""
    QUARANTINED_ROW = 5
    """A message, or a part of one, could not be read."""
    CLOCK_JUMP = 6
    """A timestamp that its neighbours contradict. Ids order the feed, so the book is not affected."""
    CROSSED_BOOK = 7
    """Best bid above best ask without a known gap; lasts until the book is uncrossed."""
    SILENCE = 8
    """No book update for longer than the setting `silence_seconds`: not the same as a quiet market."""

    @property
    def label(self) -> str:
        """Lower-case name, as in the tables."""
        return self.name.lower()


GAP_LABELS = tuple(kind.label for kind in GapKind)


class GoldenKind(StrEnum):
    """Kind of a golden row."""

    BOOK_TICKER = "book_ticker"
    """The exchange's own best bid and ask at an update id."""
    SNAPSHOT = "snapshot"
    """A full book at an update id."""
    VENDOR_BOOK = "vendor_book"
    """The top levels at an update id as the exchange or vendor publishes them."""
    CHECKSUM = "checksum"
    """The venue's checksum of the best levels after a message."""


class Seed(StrEnum):
    """What starts the book of a feed that sends no snapshot."""

    NONE = "none"
    """Nothing: such a book stays unseeded."""
    GOLDEN = "golden"
    """The vendor's first published book."""


class Cadence(StrEnum):
    """When the kernel writes a row of `books`; a time grid has the last `CHANGE` row of each step."""

    CHANGE = "change"
    """When the top `depth` levels or the status change."""
    MESSAGE = "message"
    """At every book update."""


class OnGap(StrEnum):
    """What happens to the rows of a suspect book."""

    FLAG = "flag"
    """They are written, with their status."""
    WAIT = "wait"
    """They are left out, until a snapshot."""
    RAISE = "raise"
    """The run ends at the first gap, with nothing published."""


_STEP = re.compile(r"([1-9][0-9]{0,9})(ms|s|m|h|d)")
_NANOSECONDS = {"ms": 1_000_000, "s": NANOSECONDS_PER_SECOND, "m": 60 * NANOSECONDS_PER_SECOND}
_NANOSECONDS |= {"h": HOUR, "d": DAY}


@dataclass(frozen=True)
class RowPolicy:
    """Which rows of rebuilt books are written.

    Attributes
    ----------
    depth
        Levels a side in each row; `FULL_DEPTH`: all.
    cadence
        Cadence of `books`: change, message, or a time step such as 100ms, 1s, 5m, 1h.
    grids
        Time steps of the table `grids`.
    on_gap
        What happens to the rows of a suspect book.
    silence
        Time without a book update from which on a feed counts as silent, ns.
    ofi_levels
        Number of levels for which each row has an order flow imbalance; at most `depth`.
    checkpoint_every
        Number of level changes of a chunk between two checkpoints.
    """

    depth: int = 20
    cadence: str = Cadence.CHANGE
    grids: tuple[str, ...] = ()
    on_gap: OnGap = OnGap.FLAG
    silence: int = HOUR
    ofi_levels: int = 5
    checkpoint_every: int = 500_000

    @property
    def of_kernel(self) -> Cadence:
        """Cadence at which the kernel writes rows, before time steps are chosen from them."""
        return Cadence.MESSAGE if self.cadence == Cadence.MESSAGE else Cadence.CHANGE

    def label(self, cadence: str) -> str:
        """Return the text of the column `cadence` for one cadence."""
        return f"{cadence}, no suspect" if self.on_gap is OnGap.WAIT else cadence


def step_of(text: str) -> int:
    """Return a length of time, such as 100ms, in ns.

    Raises
    ------
    ValueError
        If the text is not a length of time, or longer than a day.
    """
    found = _STEP.fullmatch(text)
    step = int(found[1]) * _NANOSECONDS[found[2]] if found else 0
    if not 0 < step <= DAY:
        raise ValueError(f"{text!r} is no length of time up to 1d, such as 100ms, 1s or 5m")
    return step


def valid_name(name: str, what: str) -> str:
    """Return `name` if it may be an exchange or symbol, else raise.

    Parameters
    ----------
    name : str
        The candidate.
    what : str
        What it is, for the message: "symbol" or "exchange".

    Raises
    ------
    InputError
        If it does not match `NAME_PATTERN`.
    """
    if NAME_PATTERN.fullmatch(name) is None:
        raise InputError(
            f"{what} {name[:80]!r} is refused: a name is 1 to 40 of A-Z 0-9 . _ -, with a letter or a "
            "digit, that does not begin with - or __"
        )
    return name
