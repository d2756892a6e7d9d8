"""Describe a fault of one file of a warehouse, and compare a file with its recorded hash."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict, cast

from deltabook.udfs.storage.raw_files import hash_file

MISSING = "missing"
"""Problem of a file that does not exist."""
UNKNOWN_FILE = "not written by any run"
"""Problem of a file that no run has recorded."""


class FaultFields(TypedDict):
    """A `Fault` as JSON output and reports show it, with the same fields."""

    table: str
    file: str
    problem: str
    hours: tuple[str, ...]
    remedy: str
    is_copied: bool


@dataclass(frozen=True)
class Fault:
    """One problem of a table: a file that is not as it was written, or rows that do not add up.

    Attributes
    ----------
    table : str
        Name of the table.
    file : str
        Path below the table's folder; empty if the problem concerns rows.
    problem : str
        Description of the problem, without the name of the file.
    hours : tuple of str
        Names of the chunks that are affected, such as `BINANCE BTC-USDT 2024-08-09T00Z`; empty if unknown.
    remedy : str
        What repairs it; empty if the usual remedy for the table does.
    is_copied : bool
        Whether the file or its second copy is intact, so that one can replace the other.
    """

    table: str
    file: str
    problem: str
    hours: tuple[str, ...] = ()
    remedy: str = ""
    is_copied: bool = False

    def to_fields(self) -> FaultFields:
        """Return the fields by name."""
        return cast(FaultFields, asdict(self))


def describe_damage(file: Path, digest: str, size: int = -1) -> str:
    """Return how a file differs from what was written; empty if it does not.

    Parameters
    ----------
    file : Path
        The file.
    digest : str
        SHA-256 of the bytes that were written, in hex.
    size : int
        Number of bytes that were written; -1 if unknown.
    """
    if not file.is_file():
        return MISSING
    actual_size = file.stat().st_size
    if actual_size == 0:
        return "empty"
    if size >= 0 and actual_size != size:
        return f"has {actual_size:,} bytes, but {size:,} were written"
    return "" if hash_file(file) == digest else "its bytes differ from those that were written"
