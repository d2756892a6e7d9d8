"""Limits on the size of one file and of one message, so that no input file can fill the memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from deltabook.udfs.numbers.record import Record

MAX_EXPANSION = 200
"""Largest ratio of decompressed bytes to stored bytes.

A decompressed capture is 3 to 30 times as large as the stored file; a decompression bomb is far larger.
"""
ALWAYS_ALLOWED_BYTES = 16 << 20
"""Decompressed size that is allowed for every file, bytes, even if `MAX_EXPANSION` is exceeded."""
MAX_LINE_BYTES = 64 << 20
"""Largest size of one line, or of the rows of one message of a CSV table, bytes."""


@dataclass(frozen=True)
class Limits:
    """Limits that the settings can change; a source receives each limit as the option of the same name.

    Attributes
    ----------
    most_symbols : int
        Largest number of symbols in one file (setting `most_symbols`).
    most_levels : int
        Largest number of level changes in one message (setting `most_levels`).
    """

    most_symbols: int = 100_000
    most_levels: int = 1_000_000

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Limits:
        """Return the limits from a source's options, {name: decimal text}; absent options have defaults."""
        return cls(**{name: int(options[name]) for name in asdict(cls()) if name in options})

    def to_options(self) -> dict[str, str]:
        """Return the limits as options of a source, {name: decimal text}."""
        return {name: str(value) for name, value in asdict(self).items()}


def too_many_symbols(count: int, limit: int) -> str:
    """Return the error message for a file with at least `count` symbols, which is above `limit`."""
    return (
        f"the file has at least {count:,} symbols; the limit is {limit:,} (setting most_symbols). "
        "Split the file, or raise the setting"
    )


def check_levels(record: Record, limit: int) -> None:
    """Raise ValueError if a record has more levels than a limit allows.

    Parameters
    ----------
    record : Record
        One record; it may lack the level columns.
    limit : int
        Largest number of levels on both sides together.

    Raises
    ------
    ValueError
        If the record has more than `limit` levels.
    """
    count = len(record.get("bid_prices", ())) + len(record.get("ask_prices", ()))
    if count > limit:
        raise ValueError(too_many_levels(count, limit))


def too_many_levels(count: int, limit: int) -> str:
    """Return the error message for a message with at least `count` level changes, which is above `limit`."""
    return (
        f"a message has at least {count:,} level changes; the limit is {limit:,} (setting most_levels). "
        "Raise the setting if the message is right"
    )
