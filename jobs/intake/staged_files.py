"""Parse raw files into staged files, and survey the messages in the staged files.

A staged file is a temporary file of records, which are parsed messages. A later step sorts the records into
chunks and tables. The survey returns the ranges of the messages' ids and times, and how many digits the
prices and sizes need.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.intake.streams import EVENT_TYPES, Stream
from deltabook.jobs.warehouse.tasks import GroupedWork
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.frames import PARTS, STAGED, STREAM_REFERENCES, SURVEY
from deltabook.schemas.rows import PartReference, StagedRow, StreamReference, SurveyRow
from deltabook.udfs.ordering.staged_records import stage_groups
from deltabook.udfs.sources.common.file_source import LineCounts
from deltabook.udfs.sources.common.limits import too_many_symbols
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.spark.ingest_groups import survey_group
from deltabook.udfs.storage.raw_files import get_stored_file


class StoredBounds(NamedTuple):
    """Epoch, id and time of the first and last message of each stored chunk of a stream.

    `epochs`, `ids` and `times` have two items for each chunk: for the first message, then for the last.

    Attributes
    ----------
    epochs : list of int
        Epoch of each message.
    ids : list of int
        Id of each message.
    times : list of int
        Time of each message, ns since 1970 UTC.
    restarts : list of int
        Restarts of the stream's ids, in the format of `udfs.ordering.id_resets.flatten_restarts`.
    chunk : int
        Length of a chunk, ns.
    """

    epochs: list[int]
    ids: list[int]
    times: list[int]
    restarts: list[int]
    chunk: int


class RecordCounts(NamedTuple):
    """How many records of one raw file go to the table `events`, to `golden`, and to `quarantine`."""

    events: int = 0
    golden: int = 0
    quarantined: int = 0


class StagedFiles:
    """The staged files of a run of `ingest`, and whether each raw file was parsed to the end of the file.

    Parameters
    ----------
    rows : iterable of StagedRow
        Rows of the frame `staged`. A row with an empty `file` stands for the end of one part of a raw file;
        the column `failed` of this row says whether the part could not be parsed.

    Attributes
    ----------
    files : list of StagedRow
        The rows with a staged file, sorted by the path of the raw file and the number of the part.
    """

    def __init__(self, rows: Iterable[StagedRow]):
        ordered = sorted(rows, key=lambda row: (row.source_file, row.part))
        self.files = [row for row in ordered if row.file]
        self._part_ends = [row for row in ordered if not row.file]

    def without(self, paths: Iterable[str]) -> StagedFiles:
        """Return a copy that lacks the staged files of some raw files.

        Parameters
        ----------
        paths : iterable of str
            Paths of raw files to leave out.
        """
        left_out = set(paths)
        rows = (*self.files, *self._part_ends)
        return StagedFiles(row for row in rows if row.source_file not in left_out)

    def list_message_files(self) -> list[StagedRow]:
        """Return the staged files of parsed messages, without the files of quarantined lines."""
        return [row for row in self.files if row.record != "quarantine"]

    def count_records(self) -> dict[str, RecordCounts]:
        """Return a dict that maps the path of each raw file with records to the counts of its records."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        table = {"golden": "golden", "quarantine": "quarantined"}
        for row in self.files:
            counts[row.source_file][table.get(row.record, "events")] += row.records
        return {path: RecordCounts(**numbers) for path, numbers in counts.items()}

    def count_lines(self) -> dict[str, LineCounts]:
        """Return {path of a raw file: number of its lines by kind}; a file that failed has no counts."""
        lines: dict[str, LineCounts] = defaultdict(Counter)
        for row in self._part_ends:
            if not row.failed:
                lines[row.source_file].update(json.loads(row.reason))
        return lines

    def find_failures(self, most_symbols: int) -> dict[str, str]:
        """Return the raw files to refuse as a whole, each with the reason.

        Parameters
        ----------
        most_symbols : int
            Largest number of symbols that a raw file may have. Workers have checked this limit for each part
            of a file; this method checks it for the whole file.

        Returns
        -------
        dict
            Maps the path of each refused raw file to the reason. A file is refused if no line of the file
            could be parsed, if reading stopped before the end of the file, or if there are too many symbols.
        """
        reasons: dict[str, str] = {}
        readable = {row.source_file for row in self.list_message_files()}
        for row in self.files:
            if row.source_file not in readable:
                first = f"no line could be read; line {row.source_row}: {row.reason}"
                reasons.setdefault(row.source_file, first)
        symbols: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for row in self.list_message_files():
            symbols[row.source_file].add((row.exchange, row.symbol))
        for path, named in symbols.items():
            if len(named) > most_symbols:
                reasons[path] = too_many_symbols(len(named), most_symbols)
        return reasons | {row.source_file: row.reason for row in self._part_ends if row.failed}


def stage_files(
    warehouse: Warehouse, run_id: str, sources: Mapping[str, str], progress: Progress
) -> StagedFiles:
    """Parse raw files into staged files. Spark workers parse parts of the files in parallel.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse, with the Spark session, the limits of input and the staging folder.
    run_id : str
        Id of the run. The staged files are written to a folder with this name in the staging folder.
    sources : mapping
        {path of a raw file: name of the source that parses the file}.
    progress : Progress
        Display that shows how many parts are done.

    Returns
    -------
    StagedFiles
        The staged files, and whether each raw file could be parsed to the end of the file.
    """
    planned = [
        (source, *part.value)
        for path, source in sources.items()
        for part in SOURCES[source]({"path": path}).reader(None).partitions()
    ]
    parts: list[PartReference] = [
        {"part": number, "source_file": path, "row_groups": list(row_groups or ()), "source": source}
        for number, (source, path, row_groups) in enumerate(planned)
    ]
    parse = stage_groups(SOURCES, str(warehouse.staging / run_id), warehouse.settings.limits)
    parts_of_file = Counter(part["source_file"] for part in parts)
    sizes = {path: get_stored_file(Path(path)).stat().st_size for path in sources}
    costs = [sizes[part["source_file"]] / parts_of_file[part["source_file"]] for part in parts]
    with progress.stage("reading", "parts of files", len(parts)) as show:
        rows = warehouse.apply(GroupedWork(PARTS, parts, ("part",), parse, STAGED, costs), show)
    return StagedFiles(map(StagedRow._make, rows))


def survey_streams(
    warehouse: Warehouse,
    staged: StagedFiles,
    get_bounds: Callable[[Stream], StoredBounds],
    progress: Progress,
) -> list[SurveyRow]:
    """Find the ranges of ids and times of all staged messages, and the digits that prices and sizes need.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse, with the Spark session.
    staged : StagedFiles
        Staged files whose messages are surveyed.
    get_bounds : callable
        Function that returns the bounds of the stored chunks of a stream, such as
        `ChunkAssignment.get_bounds`.
    progress : Progress
        Display that shows how many streams are done.

    Returns
    -------
    list of SurveyRow
        Rows of the frame `survey`: one for each staged file, chunk and epoch.
    """
    files: dict[Stream, list[str]] = defaultdict(list)
    records: Counter[Stream] = Counter()
    for row in staged.list_message_files():
        files[row.exchange, row.symbol, row.record].append(row.file)
        records[row.exchange, row.symbol, row.record] += row.records
    references = []
    for (exchange, symbol, record), names in sorted(files.items()):
        bounds = get_bounds((exchange, symbol, EVENT_TYPES.get(record, "")))
        reference: StreamReference = {
            "exchange": exchange,
            "symbol": symbol,
            "record": record,
            "record_files": names,
            "chunk": bounds.chunk,
            "known_epochs": bounds.epochs,
            "known_ids": bounds.ids,
            "known_times": bounds.times,
            "restarts": bounds.restarts,
        }
        references.append(reference)
    costs = [records[key] for key in sorted(files)]
    keys = ("exchange", "symbol", "record")
    work = GroupedWork(STREAM_REFERENCES, references, keys, survey_group, SURVEY, costs)
    with progress.stage("surveying", "streams", len(references)) as show:
        return [SurveyRow._make(row) for row in warehouse.apply(work, show)]
