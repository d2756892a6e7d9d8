"""Find the source that reads each new raw file, and say why a file has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from deltabook.jobs.intake.ledger import RefusedFile
from deltabook.schemas.feeds import AUTO
from deltabook.udfs.sources.common.file_source import BLANK, CONNECTION, HEADER, QUARANTINED, LineCounts
from deltabook.udfs.sources.recognition import recognize_file
from deltabook.udfs.storage.raw_files import has_name_of_document

_WITHOUT_MESSAGE = (BLANK, CONNECTION, HEADER)
_MOST_KINDS = 6


class Assignment(NamedTuple):
    """The sources of raw files.

    Attributes
    ----------
    sources : dict
        {path: name of the source that reads the file}.
    refused : list of RefusedFile
        Files whose source is not known.
    passed_over : list of RefusedFile
        Files that are no data, such as a README or a picture.
    """

    sources: dict[str, str]
    refused: list[RefusedFile]
    passed_over: list[RefusedFile]


def assign_sources(files: Iterable[Path], source: str) -> Assignment:
    """Return the source that reads each raw file.

    Parameters
    ----------
    files : iterable of Path
        Raw files.
    source : str
        Name of the source that reads all files, or `AUTO`.
    """
    assigned = Assignment({}, [], [])
    for path in map(str, files):
        if source != AUTO and not has_name_of_document(path):
            assigned.sources[path] = source
            continue
        found = recognize_file(path)
        if found.is_document:
            assigned.passed_over.append(RefusedFile(path, found.reason))
        elif source != AUTO or found.source or found.is_empty:
            assigned.sources[path] = source if source != AUTO else found.source or "binance"
        else:
            assigned.refused.append(RefusedFile(path, found.reason))
    return assigned


def explain_nothing_taken(path: str, source: str, lines: LineCounts) -> str:
    """Return why a file of which no line was taken is refused; empty if the file has no message at all.

    Parameters
    ----------
    path : str
        The raw file.
    source : str
        Name of the source that read the file.
    lines : LineCounts
        Number of lines of the file, by kind.
    """
    kinds = Counter({kind: count for kind, count in lines.items() if kind not in _WITHOUT_MESSAGE})
    if not kinds:
        return ""
    seen = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(_MOST_KINDS))
    text = f"0 of {lines.total():,} lines are messages that source {source} reads ({seen})"
    found = recognize_file(path)
    if found.source and found.source != source:
        return f"{text}; the file looks like {found.source}"
    return f"{text}; {found.reason}" if QUARANTINED in kinds and found.reason else text
