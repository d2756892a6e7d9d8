"""Limits of what one file and one message may hold, so that no input fills the memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MOST_EXPANSION = 200
"""Decompressed bytes for each stored byte: captures grow 3 to 30 times, what grows more is a bomb."""
SMALL_BYTES = 16 << 20
"""Decompressed bytes that any file may have, however small it is."""
LONGEST_LINE = 64 << 20
"""Bytes of one line, or of the rows of one message of a CSV table."""


@dataclass(frozen=True)
class Limits:
    """What the settings let one file hold; a source gets it as options of the same names.

    Attributes
    ----------
    most_symbols : int
        Symbols of one file (setting `most_symbols`).
    most_levels : int
        Level changes of one message (setting `most_levels`).
    """

    most_symbols: int = 100_000
    most_levels: int = 1_000_000

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Limits:
        """Read the limits from a source's options; what is not among them has its default."""
        return cls(**{name: int(options[name]) for name in asdict(cls()) if name in options})

    def options(self) -> dict[str, str]:
        """Return the limits as options of a source."""
        return {name: str(value) for name, value in asdict(self).items()}


def too_many_symbols(found: int, most: int) -> str:
    """Return the reason why a file with more than `most` symbols is refused."""
    return (
        f"it names at least {found:,} symbols, and a file may name {most:,} (setting most_symbols): "
        "split it, or raise the setting"
    )


def check_levels(record: Mapping[str, Any], most: int) -> None:
    """Refuse a record of `records`, as a dict, that has too many levels.

    Raises
    ------
    ValueError
        If it has more than `most`.
    """
    found = sum(len(record.get(f"{side}_prices", ())) for side in ("bid", "ask"))
    if found > most:
        raise ValueError(too_many_levels(found, most))


def too_many_levels(found: int, most: int) -> str:
    """Return the reason why a message with more than `most` level changes is refused."""
    return (
        f"a message has at least {found:,} level changes, and one may have {most:,} (setting most_levels): "
        "raise the setting if that is right"
    )
