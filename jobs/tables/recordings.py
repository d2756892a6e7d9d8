"""Recordings: warehouses of their own, whose books the warehouse's books are compared with.

`deltabook golden` reads another recording of instruments into the folder `recordings/NAME` of a warehouse. No
event of a recording becomes part of the warehouse's events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import ChunkKey, TableReader
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.names import CLOCK_TOLERANCE, EventType
from deltabook.schemas.rows import ChunkRow, InstrumentRow, RecordingFields
from deltabook.schemas.tables import BOOKS, GOLDEN, HOURS, INSTRUMENTS, both
from deltabook.udfs.storage.object_store import list_subfolder_names

RECORDINGS_FOLDER = "recordings"
"""Folder of a warehouse that holds its recordings."""


class _RecordedChunk(NamedTuple):
    """The books of one chunk of a recording."""

    name: str
    feed: str
    first_time: int
    last_time: int
    files: list[str]


class Recordings:
    """The recordings of a warehouse.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    """

    def __init__(self, warehouse: Path):
        self.chunks: dict[tuple[str, str], list[_RecordedChunk]] = defaultdict(list)
        self.golden_files: dict[str, list[str]] = defaultdict(list)
        self.instruments: dict[tuple[str, str], dict[str, InstrumentRow]] = defaultdict(dict)
        folder = warehouse / RECORDINGS_FOLDER
        for name in list_subfolder_names(folder):
            versions = published_versions(folder / name)
            if versions:
                self._add(name, TableReader(folder / name, versions))

    def find_files(self, instrument: InstrumentRow, times: tuple[int, int]) -> RecordingFields:
        """Return the data files of all recordings that may have books of a chunk.

        Parameters
        ----------
        instrument : InstrumentRow
            The instrument of the warehouse.
        times : (int, int)
            Times of the first and the last message of the chunk, ns since 1970 UTC.

        Raises
        ------
        WarehouseError
            If a recording stores the numbers of the instrument at other scales.
        """
        key = (instrument["exchange"], instrument["symbol"])
        for name, recorded in self.instruments[key].items():
            if _get_scales(recorded) != _get_scales(instrument):
                raise WarehouseError(
                    f"recording {name} stores {' '.join(key)} at other scales than the warehouse: remove the "
                    f"folder {RECORDINGS_FOLDER}/{name} and run `deltabook golden` again"
                )
        first, last = times[0] - CLOCK_TOLERANCE, times[1] + CLOCK_TOLERANCE
        found = [
            (chunk.name, chunk.feed, file)
            for chunk in self.chunks[key]
            if chunk.first_time <= last and chunk.last_time >= first
            for file in chunk.files
        ]
        return {
            "recordings": [name for name, _, _ in found],
            "recorded_feeds": [feed for _, feed, _ in found],
            "recorded_files": [file for _, _, file in found],
            "ticker_files": self.golden_files[instrument["symbol"]] if found else [],
        }

    def _add(self, name: str, tables: TableReader) -> None:
        for row in cast(list[InstrumentRow], tables.rows(INSTRUMENTS)):
            self.instruments[row["exchange"], row["symbol"]][name] = row
        for golden in both(GOLDEN):
            for symbol, ranges in tables.files_by_symbol(golden).items():
                self.golden_files[symbol] += [file for file, _, _ in ranges]
        times = dict(read_update_times(tables))
        for key, files in tables.files_of_both(BOOKS).items():
            if key in times:
                feed = self.instruments[key[:2]][name]["feed"]
                self.chunks[key[:2]].append(_RecordedChunk(name, feed, *times[key], files))


def read_update_times(tables: TableReader) -> Iterator[tuple[ChunkKey, tuple[int, int]]]:
    """Yield the key of each chunk that has book updates, with the times of the first and the last update.

    Parameters
    ----------
    tables : TableReader
        Tables of a warehouse or a recording.
    """
    for row in cast(list[ChunkRow], tables.rows(HOURS)):
        if row["event_type"] == EventType.BOOK_UPDATE:
            yield (row["exchange"], row["symbol"], row["hour"]), (row["first_time"], row["last_time"])


def _get_scales(row: InstrumentRow) -> tuple[int, int, bool]:
    return row["price_scale"], row["size_scale"], row["is_decimal"]
