"""Schemas of the Spark frames that pass between the driver and workers.

There are three kinds of frames. Records are parsed messages. References are rows that name the files which a
worker has to read. Results are rows that workers return. No frame is stored as a table. `schemas.rows`
declares the rows of references and results as Python types.
"""

from __future__ import annotations

from deltabook.schemas.columns import (
    EPOCH,
    EVENT_DATA,
    EVENT_HEAD,
    EXCHANGE,
    FEED,
    HOUR,
    RECEIVED,
    SCALES,
    SEQUENCE,
    SOURCE_FILE,
    SOURCE_ROW,
    SYMBOL,
    TIMESTAMP,
    Column,
    Table,
)
from deltabook.schemas.tables import CHECKS, COVERAGE, GAPS
from deltabook.schemas.validation_tables import FIDELITY

RECORDS = Table(
    "records",
    "One parsed message, one unreadable line, or the end of one raw file, as a source yields them.",
    (
        Column("record", "STRING", "trade, agg_trade, book_update, golden, quarantine or file."),
        Column("kind", "STRING", "Kind of a golden record; outcome (`read`, `failed`) of a file."),
        EXCHANGE,
        SYMBOL,
        TIMESTAMP,
        RECEIVED,
        SEQUENCE,
        SOURCE_FILE,
        SOURCE_ROW,
        *EVENT_DATA,
        Column("level_changes", "BIGINT", "Number of levels of both sides."),
        Column("price_scale", "BIGINT", "Decimal digits of this record's prices."),
        Column("size_scale", "BIGINT", "Decimal digits of this record's sizes."),
        Column("wide", "BINARY", "Prices and sizes as printed, as JSON, if int64 cannot hold them."),
        Column("reason", "STRING", "Why the record is in quarantine or the file failed; else empty."),
        Column("raw", "BINARY", "The record's bytes if it is in quarantine; else empty."),
    ),
)

STAGED = Table(
    "staged",
    "One staged file with records of one raw file, or the end of one part of the raw file.",
    (
        Column("part", "BIGINT", "Number of the part of the raw file."),
        SOURCE_FILE,
        Column("record", "STRING", "trade, agg_trade, book_update, golden or quarantine; file: the end."),
        EXCHANGE,
        SYMBOL,
        Column("file", "STRING", "Path of the staged file (Arrow IPC); empty for the end of a part."),
        Column("records", "BIGINT", "Number of records in the staged file."),
        Column("failed", "BOOLEAN", "True: the part could not be read to its end."),
        Column("source_row", "BIGINT", "Line of the first record in quarantine; -1 if there is none."),
        Column("reason", "STRING", "Why that record is in quarantine, or why the part failed; else empty."),
    ),
)

PARTS = Table(
    "parts",
    "One part of a raw file that a worker has to parse.",
    (
        Column("part", "BIGINT", "Number of the part."),
        SOURCE_FILE,
        Column(
            "row_groups",
            "ARRAY<BIGINT>",
            "First row group of the part, and end (exclusive); empty: the whole file.",
        ),
        Column("source", "STRING", "Name of the source that reads the file."),
    ),
)

ADDED = Table(
    "added",
    "One data file that a worker has written and the driver has to commit to Delta.",
    (
        Column("table", "STRING", "Name of the table."),
        Column("path", "STRING", "Path below the folder of the table."),
        Column("bytes", "BIGINT", "Size of the file."),
        Column("content_hash", "STRING", "SHA-256 of the file's bytes, in hex."),
        Column("partition", "STRING", "Values of the partition columns, as JSON."),
        Column("modified", "BIGINT", "Time at which the file was written, ms since 1970 UTC."),
        Column("statistics", "STRING", "Statistics of the file for the Delta log, as JSON."),
    ),
)

FLAT_EVENTS = Table(
    "flat_events",
    "An event as kernels read and write it: each field of `data` is a column of its own.",
    (*EVENT_HEAD, *EVENT_DATA),
)

_KEYS = (EXCHANGE, SYMBOL, HOUR)
_RESTARTS = Column(
    "restarts",
    "ARRAY<BIGINT>",
    "Two numbers for each restart of the stream's ids: its time, ns, and an id. Near that time, ids below "
    "this one belong to the new epoch.",
)

_CHUNK = Column("chunk", "BIGINT", "Length of a chunk of this warehouse, ns.")

STREAM_REFERENCES = Table(
    "stream_references",
    "One stream of new messages to survey: the staged files to read, and the bounds of its stored chunks.",
    (
        EXCHANGE,
        SYMBOL,
        Column("record", "STRING", "trade, agg_trade, book_update or golden."),
        Column("record_files", "ARRAY<STRING>", "Staged files of `records`."),
        _CHUNK,
        Column("known_epochs", "ARRAY<BIGINT>", "Epochs of the first and last message of each stored chunk."),
        Column("known_ids", "ARRAY<BIGINT>", "Ids of the same messages."),
        Column("known_times", "ARRAY<BIGINT>", "Times of the same messages, ns since 1970 UTC."),
        _RESTARTS,
    ),
)

SURVEY = Table(
    "survey",
    "Ids, times and number formats of those messages of one staged file that lie in one chunk and epoch.",
    (
        EXCHANGE,
        SYMBOL,
        Column("record", "STRING", "trade, agg_trade, book_update or golden."),
        Column("file", "STRING", "The staged file."),
        Column("time", "BIGINT", "Start of the chunk, ns since 1970 UTC; -1 if the times are unknown."),
        EPOCH,
        Column("first", "BIGINT", "Lowest id of the messages."),
        Column("last", "BIGINT", "Highest id of the messages."),
        Column("first_time", "BIGINT", "Earliest time of the messages, ns since 1970 UTC; -1 if unknown."),
        Column("last_time", "BIGINT", "Latest time of the messages, ns since 1970 UTC; -1 if unknown."),
        RECEIVED,
        Column("messages", "BIGINT", "Number of messages."),
        Column("level_changes", "BIGINT", "Number of levels of all messages."),
        Column("snapshots", "BIGINT", "Number of snapshots."),
        Column("checksums", "BIGINT", "Number of messages with a checksum."),
        Column("price_decimals", "BIGINT", "Decimals that the prices need."),
        Column("price_digits", "BIGINT", "Digits before the point that the prices need; 0 if not counted."),
        Column("size_decimals", "BIGINT", "Decimals that the sizes need."),
        Column("size_digits", "BIGINT", "Digits before the point that the sizes need; 0 if not counted."),
        Column("wide", "BIGINT", "Number of messages with numbers that int64 cannot hold."),
        _RESTARTS,
    ),
)

EVENT_REFERENCES = Table(
    "event_references",
    "One chunk of messages to sort: the files to read, and the ids that belong to the chunk.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        _CHUNK,
        FEED,
        *SCALES,
        Column("event_files", "ARRAY<STRING>", "Data files of `events` with stored messages of the chunk."),
        Column("left_out", "ARRAY<STRING>", "Raw files whose stored events are dropped."),
        *(
            Column(f"{stream}_{name}", f"ARRAY<{type_of}>", doc)
            for stream in ("update", "trade")
            for name, type_of, doc in (
                ("files", "STRING", "Staged files of `records`."),
                ("range", "BIGINT", "Epoch and lowest id of the chunk, then of the next chunk."),
                ("restarts", "BIGINT", _RESTARTS.doc),
            )
        ),
    ),
)

OTHER_REFERENCES = Table(
    "other_references",
    "One instrument whose golden rows and quarantined records are to be written: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        *SCALES,
        Column("record_files", "ARRAY<STRING>", "Staged files of `records`, of any kind."),
        Column(
            "restarts", "ARRAY<BIGINT>", "Restarts of the ids of book updates, as in `stream_references`."
        ),
    ),
)

VENDOR_COLUMNS = (
    Column("vendor_files", "ARRAY<STRING>", "Unlinked feed: data files of `golden` with vendor books."),
    Column("vendor_from", "BIGINT", "Least id of the vendor books to read."),
    Column("vendor_to", "BIGINT", "Greatest id of the vendor books to read."),
)

REBUILD_REFERENCES = Table(
    "rebuild_references",
    "One chunk to rebuild: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        FEED,
        *SCALES,
        Column("event_files", "ARRAY<STRING>", "Data files of `events` of the chunk."),
        Column(
            "checkpoint_file",
            "STRING",
            "Data file of `checkpoints` with the opening book; empty if none.",
        ),
        *VENDOR_COLUMNS,
        Column("fingerprint", "STRING", "Hash of the events and settings from which the books are built."),
        Column("changed", "BOOLEAN", "True: the events or settings differ from those of the stored books."),
        Column("chained", "BOOLEAN", "True: write the checkpoint, gaps, checks and coverage."),
        Column("replayed", "BOOLEAN", "True: write the books."),
    ),
)

RECORDING_COLUMNS = (
    Column("recordings", "ARRAY<STRING>", "Name of the recording of each of `recorded_files`."),
    Column("recorded_feeds", "ARRAY<STRING>", "Feed of each of `recorded_files`."),
    Column(
        "recorded_files",
        "ARRAY<STRING>",
        "Data files of `books` of other recordings of the instrument that may belong to the chunk.",
    ),
    Column("ticker_files", "ARRAY<STRING>", "Data files of `golden` of these recordings."),
)
"""Columns of a reference that name the data files of other recordings of an instrument."""

JUDGE_REFERENCES = Table(
    "judge_references",
    "One chunk to judge: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("feed", "STRING", "Feed of the instrument, which says what its books can prove."),
        Column("event_files", "ARRAY<STRING>", "Data files of `events` of the chunk."),
        Column("book_files", "ARRAY<STRING>", "Data file of `books` of the chunk; empty if it has no rows."),
        Column(
            "files_before", "ARRAY<STRING>", "Data file of `books` of the latest earlier chunk with rows."
        ),
        Column("golden_files", "ARRAY<STRING>", "Data files of `golden` that may have ids of the chunk."),
        Column(
            "golden_from",
            "BIGINT",
            "Lowest id of the chunk before, or of the chunk itself if their epochs differ.",
        ),
        *RECORDING_COLUMNS,
        *SCALES,
    ),
)

TOTAL_REFERENCES = Table(
    "total_references",
    "One instrument whose samples of all chunks are compared together: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        Column("sample_files", "ARRAY<STRING>", "Data files of `samples` of all its chunks."),
    ),
)

JUDGED = Table(
    "judged",
    "Result of a suite for one chunk: its counts, a metric of `fidelity`, or a data file.",
    (
        *ADDED.columns,
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column(
            "counted", "ARRAY<STRING>", "Names of the counts, in rows for the table `verdicts`; else empty."
        ),
        Column("counts", "ARRAY<BIGINT>", "The counts, in the order of `counted`."),
        *(
            column
            for column in FIDELITY.columns
            if column.name not in ("run_id", *(one.name for one in _KEYS))
        ),
    ),
)

REBUILT = Table(
    "rebuilt",
    "Result of rebuilding: a data file of `checkpoints` or `books`, or a row of the named table.",
    (
        *ADDED.columns,
        *(column for column in GAPS.columns if column.name not in ADDED.names),
        *(column for column in CHECKS.columns if column.name not in (*ADDED.names, *GAPS.names)),
        *(column for column in COVERAGE.columns if column.name not in (*ADDED.names, *GAPS.names)),
    ),
)

CARRIED = Table(
    "carried",
    "Result of a micro-batch of a live feed: a data file, or the new state of one symbol.",
    (
        *ADDED.columns,
        EXCHANGE,
        SYMBOL,
        Column(
            "symbol_state", "STRING", "State of the symbol for the next micro-batch, as JSON; else empty."
        ),
    ),
)
