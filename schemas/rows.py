"""Python types for the rows of tables and of the frames between the driver and workers.

Each class has the columns of one table or frame. `schemas.tables`, `schemas.frames` and `schemas.exports`
document these columns. References, which the driver sends to workers, are dictionaries, because Arrow makes
frames from dictionaries. Results, which workers return, are named tuples, because Spark returns rows in the
order of the columns: `SurveyRow._make(row)`.
"""

from __future__ import annotations

import builtins
from typing import NamedTuple, TypedDict


class ScaleFields(TypedDict):
    """The columns `schemas.columns.SCALES`, which say how an instrument's numbers are stored."""

    price_scale: int
    size_scale: int
    is_decimal: bool


class VendorFields(TypedDict):
    """The columns `vendor_*` of `rebuild_references`: where the vendor books of a chunk are."""

    vendor_files: list[str]
    vendor_from: int
    vendor_to: int


class PartReference(TypedDict):
    """Row of the frame `parts`."""

    part: int
    source_file: str
    row_groups: list[int]
    source: str


class StreamReference(TypedDict):
    """Row of the frame `stream_references`."""

    exchange: str
    symbol: str
    record: str
    record_files: list[str]
    chunk: int
    known_epochs: list[int]
    known_ids: list[int]
    known_times: list[int]
    restarts: list[int]


class EventReference(ScaleFields):
    """Row of the frame `event_references`."""

    exchange: str
    symbol: str
    hour: int
    chunk: int
    feed: str
    event_files: list[str]
    left_out: list[str]
    update_files: list[str]
    update_range: list[int]
    update_restarts: list[int]
    trade_files: list[str]
    trade_range: list[int]
    trade_restarts: list[int]


class OtherReference(ScaleFields):
    """Row of the frame `other_references`."""

    exchange: str
    symbol: str
    record_files: list[str]
    restarts: list[int]


class RebuildReference(ScaleFields, VendorFields):
    """Row of the frame `rebuild_references`."""

    exchange: str
    symbol: str
    hour: int
    feed: str
    event_files: list[str]
    checkpoint_file: str
    fingerprint: str
    changed: bool
    chained: bool
    replayed: bool


class RecordingFields(TypedDict):
    """Columns of a reference that name the data files of other recordings of an instrument."""

    recordings: list[str]
    recorded_feeds: list[str]
    recorded_files: list[str]
    ticker_files: list[str]


class JudgeReference(ScaleFields, RecordingFields):
    """Row of the frame `judge_references`."""

    exchange: str
    symbol: str
    hour: int
    feed: str
    event_files: list[str]
    book_files: list[str]
    files_before: list[str]
    golden_files: list[str]
    golden_from: int


class TotalReference(TypedDict):
    """Row of the frame `total_references`."""

    exchange: str
    symbol: str
    sample_files: list[str]


class ExportReference(ScaleFields, VendorFields):
    """Row of the frame `export_references`."""

    exchange: str
    symbol: str
    date: str
    hour: int
    feed: str
    data_files: list[str]
    book_files: list[str]
    checkpoint_file: str
    follows: bool
    is_last: bool


class StagedRow(NamedTuple):
    """Row of the frame `staged`."""

    part: int
    source_file: str
    record: str
    exchange: str
    symbol: str
    file: str
    records: int
    failed: bool
    source_row: int
    reason: str


class SurveyRow(NamedTuple):
    """Row of the frame `survey`."""

    exchange: str
    symbol: str
    record: str
    file: str
    time: int
    epoch: int
    first: int
    last: int
    first_time: int
    last_time: int
    received: int
    messages: int
    level_changes: int
    snapshots: int
    checksums: int
    price_decimals: int
    price_digits: int
    size_decimals: int
    size_digits: int
    wide: int
    restarts: list[int]


class RebuiltRow(NamedTuple):
    """Row of the frame `rebuilt`."""

    table: str
    path: str
    bytes: int
    content_hash: str
    partition: str
    modified: int
    statistics: str
    exchange: str
    symbol: str
    hour: int
    kind: str
    epoch: int
    sequence: int
    expected: int
    found: int
    from_time: int
    resolved_sequence: int
    resolved_time: int
    resolved_by: str
    updates_affected: int
    levels: list[str]
    source_file: str
    source_row: int
    compared: int
    matched: int
    first_divergence: int
    to_time: int
    verified: int
    checked: int
    unverifiable: int
    suspect: int
    warming: int
    unseeded: int
    silent: int
    known_1: int
    known_5: int
    known_20: int


class JudgedRow(NamedTuple):
    """Row of the frame `judged`."""

    table: str
    path: str
    bytes: int
    content_hash: str
    partition: str
    modified: int
    statistics: str
    exchange: str
    symbol: str
    hour: int
    counted: list[str]
    counts: list[int]
    kind: str
    metric: str
    level: int
    compared: int
    matched: int
    value: float
    golden_value: float
    statistic: float
    p_value: float
    adjusted_p: float
    distance: float
    low: float
    high: float
    verdict: str
    unverifiable: int
    first_divergence: int


class CarriedRow(NamedTuple):
    """Row of the frame `carried`."""

    table: str
    path: str
    bytes: int
    content_hash: str
    partition: str
    modified: int
    statistics: str
    exchange: str
    symbol: str
    symbol_state: str


class ExportedRow(NamedTuple):
    """Row of the frame `exported`."""

    exchange: str
    symbol: str
    date: str
    path: str
    rows: int
    bytes: int
    sha256: str
    first_time: int
    last_time: int
    statuses: dict[str, int]
    left_out: dict[str, int]
    shift: int


class InstrumentRow(ScaleFields):
    """Row of the table `instruments`."""

    exchange: str
    symbol: str
    feed: str
    trade_stream: str


class ChunkRow(TypedDict):
    """Row of the table `hours`: the range of ids of one chunk of a stream."""

    exchange: str
    symbol: str
    event_type: str
    hour: int
    first_epoch: int
    first_sequence: int
    last_epoch: int
    last_sequence: int
    first_time: int
    last_time: int


class EpochRow(TypedDict):
    """Row of the table `epochs`: one restart of a stream's ids."""

    exchange: str
    symbol: str
    event_type: str
    epoch: int
    from_time: int
    below_sequence: int


class LedgerRow(TypedDict):
    """Row of the table `files`, the ledger of raw files."""

    content_hash: str
    path: str
    bytes: int
    source: str
    archived: str
    state: str
    reason: str
    events: int
    golden: int
    quarantined: int
    run_id: str


class CheckRow(TypedDict):
    """Row of the table `checks`."""

    exchange: str
    symbol: str
    hour: int
    kind: str
    compared: int
    matched: int
    first_divergence: int


class VerdictRow(TypedDict):
    """Row of the table `verdicts`."""

    exchange: str
    symbol: str
    hour: int
    suite: str
    verdict: str
    reasons: str
    hides: bool
    counts: dict[str, int]
    fingerprint: str
    run_id: str


class PublishedVersions(TypedDict):
    """The columns `versions` and `version` of `runs`.

    `versions` has the Delta version of every table that a run published. `version` is the Delta version of
    `runs` in which the row was added.
    """

    versions: dict[str, int]
    version: int


class UnsealedRun(PublishedVersions):
    """Row of the table `runs` without the column `seal`."""

    run_id: str
    command: str
    started: int
    finished: int
    code_version: str
    settings_hash: str
    summary: str
    proofs: str


class RunRow(UnsealedRun):
    """Row of the table `runs`."""

    seal: str


class FileRecord(TypedDict):
    """The columns of `written` that describe one file; the column `run_id` is left out."""

    table: str
    path: str
    bytes: int
    content_hash: str
    content: builtins.bytes


class WrittenRow(FileRecord):
    """Row of the table `written`."""

    run_id: str
