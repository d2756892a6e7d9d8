"""Read the data files and table rows that suites check, and compute a fingerprint of them for each chunk."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, cast

from deltabook.expectations import suites
from deltabook.jobs.intake.instruments import Instrument, get_scales, read_instruments
from deltabook.jobs.intake.streams import read_chunks
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.recordings import Recordings, read_update_times
from deltabook.jobs.tables.stored import CHUNK_KEY_COLUMNS, ChunkKey, IdRangeFile, TableReader
from deltabook.schemas.fingerprints import make_fingerprint
from deltabook.schemas.names import EventType
from deltabook.schemas.rows import CheckRow, JudgeReference
from deltabook.schemas.tables import BOOKS, CHECKS, EVENTS, GAPS, GOLDEN, both


class _IdBounds(NamedTuple):
    """Epoch and id of the first and of the last book update of a chunk.

    An epoch is a range of ids between two restarts of a venue's ids.
    """

    first_epoch: int
    first_sequence: int
    last_epoch: int
    last_sequence: int


@dataclass
class VerdictInputs:
    """The data files and table rows that the suites check, for every chunk that has events.

    Attributes
    ----------
    references : dict
        Rows of `judge_references`, which name the data files of a chunk, by (exchange, symbol, chunk).
    gaps : dict
        Number of gaps of each kind by (exchange, symbol, chunk).
    checks : dict
        Rows of `checks` by (exchange, symbol, chunk).
    """

    references: dict[ChunkKey, JudgeReference] = field(default_factory=dict)
    gaps: dict[ChunkKey, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    checks: dict[ChunkKey, list[CheckRow]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, tables: TableReader) -> VerdictInputs:
        """Read the inputs of every chunk from the tables and return them.

        Parameters
        ----------
        tables : TableReader
            The warehouse's tables.
        """
        inputs = cls()
        for row in tables.rows(GAPS, *CHUNK_KEY_COLUMNS, "kind"):
            inputs.gaps[row["exchange"], row["symbol"], row["hour"]][row["kind"]] += 1
        for check in cast(list[CheckRow], tables.rows(CHECKS)):
            inputs.checks[check["exchange"], check["symbol"], check["hour"]].append(check)
        inputs._add_references(tables)
        return inputs

    def make_fingerprint(self, suite: str, key: ChunkKey, settings: Settings) -> str:
        """Return a fingerprint of all data and settings that decide a suite's verdict on one chunk.

        It covers the names of data files and not their content, because data files never change.

        Parameters
        ----------
        suite : str
            One of `suites.SUITES`.
        key : tuple
            Exchange, symbol and start of the chunk (ns since 1970 UTC).
        settings : Settings
            Settings with the limits of the suites.

        Returns
        -------
        str
            The fingerprint. It changes whenever the verdict could change.
        """
        reference = self.references[key]
        events, books, golden = reference["event_files"], reference["book_files"], reference["golden_files"]
        files: dict[str, list[str]]
        limits: Sequence[object]
        if suite == suites.RAW:
            files, limits = {"event_files": events}, (settings.most_late, settings.most_untimed)
        elif suite == suites.EVENTS:
            files, limits = {"event_files": events}, sorted(self.gaps[key].items())
        elif suite == suites.BOOKS:
            files, limits = {"book_files": books}, ()
        else:
            files = {"event_files": events, "book_files": books}
            files |= {"files_before": reference["files_before"], "golden_files": golden}
            files |= {"recorded": reference["recorded_files"], "tickers": reference["ticker_files"]}
            limits = (settings.depth, settings.minimum_match, self.checks[key])
        names = {column: [file.rsplit("/", 1)[-1] for file in paths] for column, paths in files.items()}
        code = version("deltabook")
        return make_fingerprint(suite, {"code": code, "limits": limits, "files": names})

    def _add_references(self, tables: TableReader) -> None:
        """Add a row of `judge_references` to `references` for each chunk that has events."""
        events, books = tables.files_of_both(EVENTS), tables.files_of_both(BOOKS)
        golden: dict[str, list[IdRangeFile]] = defaultdict(list)
        for table in both(GOLDEN):
            for symbol, files in tables.files_by_symbol(table).items():
                golden[symbol] += files
        instruments = read_instruments(tables)
        bounds = _read_id_bounds(tables)
        recordings, times = Recordings(tables.root), dict(read_update_times(tables))
        instrument: Instrument
        for instrument, keys in groupby(events, itemgetter(0, 1)):
            files_before: list[str] = []  # data files of the latest earlier chunk that has books
            bounds_before: _IdBounds | None = None
            for key in keys:
                exchange, symbol, chunk = key
                bounds_of_chunk = bounds.get(key, bounds_before)
                golden_files, golden_from = _choose_golden_files(
                    golden[symbol], bounds_of_chunk, bounds_before
                )
                self.references[key] = {
                    "exchange": exchange,
                    "symbol": symbol,
                    "hour": chunk,
                    "feed": instruments[instrument]["feed"],
                    "event_files": events[key],
                    "book_files": books.get(key, []),
                    "files_before": files_before,
                    "golden_files": golden_files,
                    "golden_from": golden_from,
                    **recordings.find_files(instruments[instrument], times.get(key, (0, 0))),
                    **get_scales(instruments[instrument]),
                }
                files_before = books.get(key) or files_before
                bounds_before = bounds_of_chunk


def _read_id_bounds(tables: TableReader) -> dict[ChunkKey, _IdBounds]:
    """Return the first and last id of the book updates of every chunk that has book updates."""
    return {
        (row["exchange"], row["symbol"], row["hour"]): _IdBounds(
            row["first_epoch"], row["first_sequence"], row["last_epoch"], row["last_sequence"]
        )
        for row in read_chunks(tables)
        if row["event_type"] == EventType.BOOK_UPDATE
    }


def _choose_golden_files(
    files: Sequence[IdRangeFile], bounds: _IdBounds | None, bounds_before: _IdBounds | None
) -> tuple[list[str], int]:
    """Return the data files of `golden` that may have rows for a chunk, and the lowest id to read from them.

    The ids of a chunk that spans several epochs cannot be compared with the id range of a file. For such a
    chunk, all files are returned.
    """
    if bounds is None:
        return [], 0
    since = bounds.first_sequence
    if bounds_before and bounds_before.first_epoch == bounds.first_epoch:
        since = bounds_before.first_sequence
    is_one_epoch = bounds.last_epoch == bounds.first_epoch
    least, most = (since, bounds.last_sequence) if is_one_epoch else (0, sys.maxsize)
    return [file for file, low, high in files if low <= most and high >= least], since
