"""A fault of one file of a warehouse, and the comparison of a file with its SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deltabook.udfs.storage.raw_files import content_hash

LOST = "it is lost"


@dataclass(frozen=True)
class Fault:
    """One file of a table that is not as it should be.

    Attributes
    ----------
    table : str
        Name of the table.
    file : str
        Path below its folder.
    problem : str
        What is wrong.
    hours : tuple of str
        Symbol-hours that it holds, where that is known.
    remedy : str
        What mends it, if not what usually mends that table.
    is_copied : bool
        Whether the file, or else its second copy, is as it was written: the one is put back from the other.
    """

    table: str
    file: str
    problem: str
    hours: tuple[str, ...] = ()
    remedy: str = ""
    is_copied: bool = False


def damage(file: Path, proof: str, size: int = -1) -> str:
    """Return what is wrong with a file; empty if it is as it was written.

    Parameters
    ----------
    file : Path
        The file.
    proof : str
        SHA-256 of its bytes as they were written.
    size : int
        How many bytes were written; -1: not known.
    """
    if not file.is_file():
        return LOST
    found = file.stat().st_size
    if found == 0:
        return "it is empty"
    if size >= 0 and found != size:
        return f"it has {found:,} bytes, {size:,} were written"
    return "" if content_hash(file) == proof else "its bytes are not those that were written"
