"""Typed rows of the references that the driver sends to workers: which files a worker reads, and how.

Each class has those columns of one frame that workers use. `schemas.frames` documents the columns.
`udfs.storage.arrow_frames` makes the rows from pandas frames.
"""

from __future__ import annotations

from typing import NamedTuple


class StreamToSurvey(NamedTuple):
    """Row of `stream_references`: the new messages of one stream."""

    record_files: list[str]
    chunk: int
    known_epochs: list[int]
    known_ids: list[int]
    known_times: list[int]
    restarts: list[int]


class StreamFiles(NamedTuple):
    """New messages of one stream for one chunk.

    Attributes
    ----------
    files : list of str
        Staged files of `records`.
    range : list of int
        Epoch and lowest id of the chunk, then epoch and lowest id of the next chunk.
    restarts : list of int
        Restarts of the stream's ids, as `flatten_restarts` returns them.
    """

    files: list[str]
    range: list[int]
    restarts: list[int]


class ChunkToOrder(NamedTuple):
    """Row of `event_references`: one chunk of messages to sort."""

    chunk: int
    feed: str
    price_scale: int
    size_scale: int
    is_decimal: bool
    event_files: list[str]
    left_out: list[str]
    update_files: list[str]
    update_range: list[int]
    update_restarts: list[int]
    trade_files: list[str]
    trade_range: list[int]
    trade_restarts: list[int]

    @property
    def updates(self) -> StreamFiles:
        """New book updates of the chunk."""
        return StreamFiles(self.update_files, self.update_range, self.update_restarts)

    @property
    def trades(self) -> StreamFiles:
        """New trades of the chunk."""
        return StreamFiles(self.trade_files, self.trade_range, self.trade_restarts)


class RecordsToExtract(NamedTuple):
    """Row of `other_references`: one instrument's new records, of which some are not events."""

    price_scale: int
    size_scale: int
    is_decimal: bool
    record_files: list[str]
    restarts: list[int]


class ChunkToRebuild(NamedTuple):
    """Row of `rebuild_references`: one chunk whose books are rebuilt."""

    exchange: str
    hour: int
    feed: str
    price_scale: int
    size_scale: int
    is_decimal: bool
    event_files: list[str]
    checkpoint_file: str
    vendor_files: list[str]
    vendor_from: int
    vendor_to: int
    fingerprint: str
    changed: bool
    chained: bool
    replayed: bool


class ChunkToJudge(NamedTuple):
    """Row of `judge_references`: one chunk whose books are compared with golden rows."""

    exchange: str
    hour: int
    feed: str
    price_scale: int
    size_scale: int
    is_decimal: bool
    event_files: list[str]
    book_files: list[str]
    files_before: list[str]
    golden_files: list[str]
    golden_from: int
    recordings: list[str]
    recorded_feeds: list[str]
    recorded_files: list[str]
    ticker_files: list[str]


class EventsToInspect(NamedTuple):
    """Row of `judge_references`: one chunk whose events are checked for faults."""

    exchange: str
    hour: int
    event_files: list[str]


class BooksToInspect(NamedTuple):
    """Row of `judge_references`: one chunk whose rows of `books` are checked for faults."""

    exchange: str
    hour: int
    book_files: list[str]


class SamplesToPool(NamedTuple):
    """Row of `total_references`: the samples of all chunks of one instrument."""

    exchange: str
    symbol: str
    sample_files: list[str]
