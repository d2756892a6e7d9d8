"""Enums, sentinels and units that tables and kernels share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from deltabook.schemas.errors import InputError

NOT_GIVEN = -1
"""Value of an id, time, price or size that the source does not give. Integers in UDFs are never null."""

INT64_MAX = 2**63 - 1
"""Greatest value of an int64."""

NANOSECONDS_PER_SECOND = 1_000_000_000
HOUR = 3600 * NANOSECONDS_PER_SECOND
"""Default length of a chunk, ns. The column `hour` is a chunk's start, ns since 1970 UTC."""
DAY = 24 * HOUR

ALL_HOURS = -1
"""Value of `hour` for a metric over all chunks of a symbol."""
FULL_DEPTH = 2**31 - 1
"""Value of a depth setting that stands for all levels."""

SESSION_SILENCES = 10
"""A new recording session may begin after this many times the setting `silence_seconds`."""
CLOCK_TOLERANCE = 10 * NANOSECONDS_PER_SECOND
"""Largest difference, ns, between a timestamp and neighboring timestamps in the feed's order.

A timestamp that differs by more is a clock jump.
"""

NAME_PATTERN = re.compile(r"(?!-|__)(?=[._-]*[A-Z0-9])[A-Z0-9._-]{1,40}")
"""Pattern of names of exchanges and symbols, checked before a name reaches a path, SQL text or command line.

A name must have a letter or a digit, because `.` and `..` are folders. A name must not begin with a hyphen,
which begins a command-line option. A name must not begin with two underscores: Spark's folder name for a null
begins with these.
"""


class EventType(StrEnum):
    """Kind of an event: one trade, or one book update with all its level changes."""

    TRADE = "trade"
    BOOK_UPDATE = "book_update"


class Status(IntEnum):
    """How far a book is proven to be right, worst first.

    Kernels use the number, tables the lower-case name.
    """

    UNSEEDED = 0
    """There was no snapshot yet. The written book is empty."""
    WARMING = 1
    """The feed sends no snapshot. The book holds the levels that messages have set so far, and is not stable
    yet."""
    SUSPECT = 2
    """Since the last snapshot, there was a gap, a quarantined row or a failed checksum; or the book of an
    unlinked feed is contradicted at its best level."""
    UNVERIFIABLE = 3
    """Neither ids nor a checksum prove the book, or a better level than its best one may be missing."""
    CHECKED = 4
    """No ids prove the book, but the exchange's checksum after this message matched."""
    VERIFIED = 5
    """Ids prove an unbroken chain of messages since a snapshot, which shows at least the best level."""

    @property
    def label(self) -> str:
        """Lower-case name, as in the tables."""
        return self.name.lower()

    @property
    def is_sound(self) -> bool:
        """Whether nothing is known that makes the book wrong or incomplete at its best levels."""
        return self >= Status.UNVERIFIABLE


STATUS_LABELS = tuple(status.label for status in Status)
UNSOUND_LABELS = tuple(status.label for status in Status if not status.is_sound)
"""Labels of the statuses that say that a book may be wrong or is not complete yet."""

KNOWN_DEPTHS = {"known_1": 1, "known_5": 5, "known_20": 20}
"""Columns of `coverage` for the time during which so many levels per side were known."""


class GapKind(IntEnum):
    """Kind of a gap. Kernels use the number, the table `gaps` the lower-case name."""

    SEQUENCE_GAP = 0
    """Update ids do not connect: at least one book update is missing, or the venue restarted its ids."""
    UNBRIDGEABLE_SNAPSHOT = 1
    """The first diff after a snapshot does not connect to the snapshot."""
    TRADE_GAP = 2
    """Trade ids are missing. The book is not affected."""
    MISSING_SNAPSHOT = 3
    """The feed has diffs but no snapshot, so that no book was built."""
    CHECKSUM_FAILURE = 4
    """The venue's checksum does not match the book."""
    QUARANTINED_ROW = 5
    """A message, or a part of a message, could not be read."""
    CLOCK_JUMP = 6
    """A timestamp contradicts neighboring timestamps. Ids order the feed, so the book is not affected."""
    CROSSED_BOOK = 7
    """The best bid is above the best ask without a known gap. The gap ends when the book is uncrossed."""
    SILENCE = 8
    """There was no book update for longer than the setting `silence_seconds`. A feed may be silent because of
    a fault, or because the market is quiet."""
    NEW_SESSION = 9
    """The recording stopped and was started again. The book begins anew."""
    STRANDED_LEVEL = 10
    """A level stayed in the book although the exchange had removed it, because a delete is missing. The level
    was removed."""
    RESEED = 11
    """A vendor's book replaced a book that was crossed, or to which data were missing."""
    RESTORED_LEVEL = 12
    """A level that was removed as stranded was put back, because a vendor's book shows it."""

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


SKIPPED = (
    "unsound",
    "impossible",
    "unknown",
    "outdated",
    "unpaired",
    "recording unsound",
    "recording unknown",
    "recording wrong",
)
"""Why a book is not compared with a golden row.

unsound: the status says that the book may be wrong. impossible: no exchange has such a book as the golden
row. unknown: no level of the book is known, on either side. outdated: a ticker is older than a snapshot at
or before the diff, so changes of the best prices in between may be missing. The other reasons concern another
recording. unpaired: it has no message at this id or time. recording unsound, recording unknown: its book may
be wrong, or one of its sides is not known. recording wrong: the exchange's own best bid and ask equal those
of the book and not those of the recording.
"""


class Seed(StrEnum):
    """Setting: how to start the book of a feed that sends no snapshot."""

    AUTO = "auto"
    """Start with the levels that messages set; use the vendor's books from the first valid one on."""
    GOLDEN = "golden"
    """Wait for the vendor's first valid book: the book is unseeded until then."""
    NONE = "none"
    """Start with the levels that messages set, and use no vendor's book."""


class Repair(StrEnum):
    """Setting: what happens to the older of two levels that cross, in a feed without linked ids."""

    OLDER = "older"
    """Remove it, with a row of `gaps`: the exchange's book never crosses, so a delete is missing."""
    NONE = "none"
    """Keep it. The book is suspect while it is crossed."""


class Cadence(StrEnum):
    """When the kernel writes a row of `books`.

    A cadence may also be a time step such as 1s. Then the last `CHANGE` row of each step is stored.
    """

    CHANGE = "change"
    """When the top `depth` levels or the status change."""
    MESSAGE = "message"
    """After every book update that is applied."""


class OnGap(StrEnum):
    """What happens to the rows of a suspect book."""

    FLAG = "flag"
    """The rows are written, with the status `suspect`."""
    WAIT = "wait"
    """The rows are left out, until a snapshot replaces the book."""
    RAISE = "raise"
    """The run ends at the first gap and publishes nothing."""


_STEP = re.compile(r"([1-9][0-9]{0,9})(ms|s|m|h|d)")
_NANOSECONDS = {"ms": 1_000_000, "s": NANOSECONDS_PER_SECOND, "m": 60 * NANOSECONDS_PER_SECOND}
_NANOSECONDS |= {"h": HOUR, "d": DAY}


@dataclass(frozen=True)
class RowPolicy:
    """Settings that say which rows of rebuilt books are written.

    Attributes
    ----------
    depth
        Number of levels per side in each row; `FULL_DEPTH`: all levels.
    cadence
        Cadence of `books`: change, message, or a time step such as 100ms, 1s, 5m, 1h.
    grids
        Time steps of the table `grids`.
    on_gap
        What happens to the rows of a suspect book.
    silence
        Longest time without a book update before a feed counts as silent, ns.
    ofi_levels
        Number of levels for which each row has an order flow imbalance; at most `depth` levels are used.
    checkpoint_every
        Number of level changes between two checkpoints within a chunk.
    seed, repair
        How the book of a feed without linked ids starts, and what happens to levels that cross.
    reseed_after
        Time, ns, after which a vendor's book replaces a crossed book of such a feed.
    """

    depth: int = 20
    cadence: str = Cadence.CHANGE
    grids: tuple[str, ...] = ()
    on_gap: OnGap = OnGap.FLAG
    silence: int = HOUR
    ofi_levels: int = 5
    checkpoint_every: int = 500_000
    seed: Seed = Seed.AUTO
    repair: Repair = Repair.OLDER
    reseed_after: int = 2 * NANOSECONDS_PER_SECOND

    @property
    def session_break(self) -> int:
        """Time without a message, ns, after which messages that no id connects begin a new session."""
        return SESSION_SILENCES * self.silence

    @property
    def of_kernel(self) -> Cadence:
        """Cadence at which the kernel writes rows, before the last row of each time step is selected."""
        return Cadence.MESSAGE if self.cadence == Cadence.MESSAGE else Cadence.CHANGE

    def label(self, cadence: str) -> str:
        """Return the value of the column `cadence` for rows of one cadence under this policy."""
        return f"{cadence}, no suspect" if self.on_gap is OnGap.WAIT else cadence


def step_of(text: str) -> int:
    """Return the length in ns of a time step such as ``100ms``.

    Raises
    ------
    ValueError
        If the text is not a length of time, or if the length exceeds one day.
    """
    found = _STEP.fullmatch(text)
    step = int(found[1]) * _NANOSECONDS[found[2]] if found else 0
    if not 0 < step <= DAY:
        raise ValueError(f"{text!r} is not a length of time up to 1d, such as 100ms, 1s or 5m")
    return step


def valid_name(name: str, what: str) -> str:
    """Return `name` unchanged if it is a valid name of an exchange or symbol.

    Parameters
    ----------
    name : str
        Name from an input.
    what : str
        "symbol" or "exchange", for the error message.

    Raises
    ------
    InputError
        If the name does not match `NAME_PATTERN`.
    """
    if NAME_PATTERN.fullmatch(name) is None:
        raise InputError(
            f"{what} {name[:80]!r} is refused: a name is 1 to 40 of A-Z 0-9 . _ -, with a letter or a "
            "digit, that does not begin with - or __"
        )
    return name
