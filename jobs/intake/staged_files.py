"""Staged records: what a source has yielded, before it goes into the tables."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pyspark.sql import Row

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.warehouse.tasks import Work
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.frames import PARTS, STAGED, STREAM_REFERENCES, SURVEY
from deltabook.schemas.names import EventType
from deltabook.udfs.ordering.staged_records import stage_groups
from deltabook.udfs.sources.common.limits import too_many_symbols
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.spark.ingest_groups import survey_group

_STREAM = ("exchange", "symbol", "record")
STREAM_OF = {"book_update": EventType.BOOK_UPDATE, "trade": EventType.TRADE, "agg_trade": EventType.TRADE}
"""The stream of events that a kind of record belongs to."""

Stream = tuple[str, str, str]
"""Exchange, symbol and event type."""


class Staged:
    """The files of records that a source has yielded, and what came of each raw file.

    Parameters
    ----------
    rows : iterable of Row
        Of `staged`.

    Attributes
    ----------
    files : list of Row
        Those that name a file of records, in the order of the raw files.
    """

    def __init__(self, rows: Iterable[Row]):
        ordered = sorted(rows, key=lambda row: (row.source_file, row.part))
        self.files = [row for row in ordered if row.file]
        self._ends = [row for row in ordered if not row.file]

    def without(self, paths: Iterable[str]) -> Staged:
        """Leave raw files out."""
        out = set(paths)
        return Staged(row for row in (*self.files, *self._ends) if row.source_file not in out)

    def messages(self) -> list[Row]:
        """Return the files that hold parsed records."""
        return [row for row in self.files if row.record != "quarantine"]

    def counted(self) -> dict[str, dict[str, int]]:
        """Count the records of each raw file that has any, by where they go."""
        counted: dict[str, dict[str, int]] = defaultdict(lambda: {"events": 0, "golden": 0, "quarantined": 0})
        column = {"golden": "golden", "quarantine": "quarantined"}
        for row in self.files:
            counted[row.source_file][column.get(row.record, "events")] += row.records
        return dict(counted)

    def failures(self, most_symbols: int) -> dict[str, str]:
        """Name the raw files that are refused whole, and why.

        Parameters
        ----------
        most_symbols : int
            Symbols that a file may name; each of its parts was held to it apart.

        Returns
        -------
        dict
            Reasons by path: it could not be read, or not to its end, or names too many symbols.
        """
        reasons: dict[str, str] = {}
        readable = {row.source_file for row in self.messages()}
        for row in self.files:
            if row.source_file not in readable:
                first = f"no line could be read; line {row.source_row}: {row.reason}"
                reasons.setdefault(row.source_file, first)
        symbols: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for row in self.messages():
            symbols[row.source_file].add((row.exchange, row.symbol))
        for path, named in symbols.items():
            if len(named) > most_symbols:
                reasons[path] = too_many_symbols(len(named), most_symbols)
        return reasons | {row.source_file: row.reason for row in self._ends if row.failed}


def stage(warehouse: Warehouse, run_id: str, source: str, paths: list[Path], progress: Progress) -> Staged:
    """Parse raw files, part by part."""
    limits = warehouse.settings.limits
    reader = SOURCES[source]({"paths": json.dumps([str(path) for path in paths])}).reader(None)
    parts = [
        {"part": number, "source_file": path, "row_groups": list(rows or ())}
        for number, (path, rows) in enumerate(part.value for part in reader.partitions())
    ]
    parse = stage_groups(SOURCES[source], str(warehouse.staging / run_id), limits)
    parts_of = Counter(part["source_file"] for part in parts)
    costs = [Path(part["source_file"]).stat().st_size / parts_of[part["source_file"]] for part in parts]
    with progress.stage("reading", "parts of files", len(parts)) as show:
        return Staged(warehouse.apply(Work(PARTS, parts, ("part",), parse, STAGED, costs), show))


def survey(
    warehouse: Warehouse,
    staged: Staged,
    known: Callable[[Stream], dict[str, Any]],
    progress: Progress,
) -> list[Row]:
    """Survey the staged messages, stream by stream.

    Parameters
    ----------
    warehouse : Warehouse
        Its session is used.
    staged : Staged
        What was parsed.
    known : callable
        ``stream -> columns of `stream_references```: what is known of it.
    progress : Progress
        Where to show what is done.

    Returns
    -------
    list of Row
        Of `survey`.
    """
    files: dict[Stream, list[str]] = defaultdict(list)
    records: Counter[Stream] = Counter()
    for row in staged.messages():
        files[row.exchange, row.symbol, row.record].append(row.file)
        records[row.exchange, row.symbol, row.record] += row.records
    references = [
        {
            **dict(zip(_STREAM, stream, strict=True)),
            "record_files": names,
            **known((*stream[:2], STREAM_OF.get(stream[2], ""))),
        }
        for stream, names in sorted(files.items())
    ]
    costs = [records[stream] for stream in sorted(files)]
    work = Work(STREAM_REFERENCES, references, _STREAM, survey_group, SURVEY, costs)
    with progress.stage("surveying", "streams", len(references)) as show:
        return warehouse.apply(work, show)
