"""Describe the faults of a warehouse, and compare a file with its recorded hash."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict, cast

from deltabook.udfs.storage.raw_files import hash_file

MISSING = "missing"
"""Value of `Fault.problem` for a file that does not exist."""
UNKNOWN_FILE = "not written by any run"
"""Value of `Fault.problem` for an existing file that no run has recorded."""


class FaultFields(TypedDict):
    """Fields of a `Fault` by name, for JSON output and reports."""

    table: str
    file: str
    problem: str
    hours: tuple[str, ...]
    remedy: str
    is_copied: bool


@dataclass(frozen=True)
class Fault:
    """One problem of a table: a damaged file, or rows that contradict the rows of another table.

    Attributes
    ----------
    table : str
        Name of the table.
    file : str
        Path of the damaged file below the table's folder; empty if the problem concerns rows.
    problem : str
        Description of the problem, without the name of the file.
    hours : tuple of str
        Names of the affected chunks, such as `BINANCE BTC-USDT 2024-08-09T00Z`; empty if unknown.
    remedy : str
        Command or instruction that repairs the fault. An empty text stands for the usual remedy of the table,
        which `jobs.integrity.audit.choose_remedy` returns.
    is_copied : bool
        Whether the file belongs to a small table, and either the file or its second copy is intact. The
        intact one of the two can then replace the damaged or missing one.
    """

    table: str
    file: str
    problem: str
    hours: tuple[str, ...] = ()
    remedy: str = ""
    is_copied: bool = False

    def to_fields(self) -> FaultFields:
        """Return the fields of the fault by name."""
        return cast(FaultFields, asdict(self))


def describe_damage(file: Path, digest: str, size: int = -1) -> str:
    """Return a text that says how a file differs from its recorded size and hash; empty if both match.

    Parameters
    ----------
    file : Path
        File to check.
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
    return "" if hash_file(file) == digest else "its bytes differ from the bytes that were written"
