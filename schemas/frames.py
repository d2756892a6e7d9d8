"""Schemas of the frames that pass between the driver and workers.

A frame holds records (parsed messages), references (the work of a worker: which files to read) or results. No
frame is stored as a table. `schemas.rows` declares the rows of references and results as Python types.
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
    SIDES,
    SOURCE_FILE,
    SOURCE_ROW,
    SYMBOL,
    TIMESTAMP,
    Column,
    Table,
)
from deltabook.schemas.tables import CHECKS, COVERAGE, FIDELITY, GAPS

RECORDS = Table(
    "records",
    "One parsed message, one unreadable record, or the end of one file: the rows that a source yields.",
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
        Column("level_changes", "BIGINT", "Levels of both sides."),
        Column("price_scale", "BIGINT", "Decimal digits of this record's prices."),
        Column("size_scale", "BIGINT", "Decimal digits of this record's sizes."),
        Column("wide", "BINARY", "Its numbers as printed, as JSON, if no int64 holds them; else empty."),
        Column("reason", "STRING", "Why the record is in quarantine or the file failed; else empty."),
        Column("raw", "BINARY", "The record's bytes if it is in quarantine; else empty."),
    ),
)

STAGED = Table(
    "staged",
    "One file of parsed records of one raw file, or the end of one part of that.",
    (
        Column("part", "BIGINT", "Number of the part of the raw file."),
        SOURCE_FILE,
        Column("record", "STRING", "trade, agg_trade, book_update, golden or quarantine; file: the end."),
        EXCHANGE,
        SYMBOL,
        Column("file", "STRING", "The file of records, in Arrow's file format; empty at the end."),
        Column("records", "BIGINT", "Number of records in the file."),
        Column("failed", "BOOLEAN", "The part could not be read to its end."),
        Column("source_row", "BIGINT", "Line of the first record in quarantine; -1 if there is none."),
        Column("reason", "STRING", "Why that record is in quarantine, or why the part failed; else empty."),
    ),
)

PARTS = Table(
    "parts",
    "One part of a raw file to be parsed.",
    (
        Column("part", "BIGINT", "Number of the part."),
        SOURCE_FILE,
        Column(
            "row_groups",
            "ARRAY<BIGINT>",
            "First row group and end, exclusive; empty: the whole file.",
        ),
    ),
)

ADDED = Table(
    "added",
    "One data file that a worker has written, to be committed.",
    (
        Column("table", "STRING", "Name of the table."),
        Column("path", "STRING", "Path below the folder of the table."),
        Column("bytes", "BIGINT", "Its size."),
        Column("content_hash", "STRING", "SHA-256 of its bytes, in hex."),
        Column("partition", "STRING", "Values of the partition columns, as JSON."),
        Column("modified", "BIGINT", "When it was written, ms since 1970 UTC."),
        Column("statistics", "STRING", "Delta's statistics of it, as JSON."),
    ),
)

FLAT_EVENTS = Table(
    "flat_events",
    "An event with the fields of `data` beside the others, as kernels read and write it.",
    (*EVENT_HEAD, *EVENT_DATA),
)

_KEYS = (EXCHANGE, SYMBOL, HOUR)
_RESTARTS = Column(
    "restarts",
    "ARRAY<BIGINT>",
    "Restarts of the stream's ids: time, ns, and separating id of each.",
)

_CHUNK = Column("chunk", "BIGINT", "Length of a chunk of this warehouse, ns.")

STREAM_REFERENCES = Table(
    "stream_references",
    "One stream of new messages to survey: the files to read, and the stored bounds of its chunks.",
    (
        EXCHANGE,
        SYMBOL,
        Column("record", "STRING", "trade, agg_trade, book_update or golden."),
        Column("record_files", "ARRAY<STRING>", "Staged files of `records`."),
        _CHUNK,
        Column("known_epochs", "ARRAY<BIGINT>", "Epochs of the first and last message of each stored chunk."),
        Column("known_ids", "ARRAY<BIGINT>", "Ids of these messages."),
        Column("known_times", "ARRAY<BIGINT>", "Times of these messages, ns since 1970 UTC."),
        _RESTARTS,
    ),
)

SURVEY = Table(
    "survey",
    "Messages of one staged file whose times lie in one chunk and epoch.",
    (
        EXCHANGE,
        SYMBOL,
        Column("record", "STRING", "trade, agg_trade, book_update or golden."),
        Column("file", "STRING", "The staged file."),
        Column("time", "BIGINT", "Start of the chunk of their times, ns since 1970 UTC; -1 if unknown."),
        EPOCH,
        Column("first", "BIGINT", "Least id."),
        Column("last", "BIGINT", "Greatest id."),
        Column("first_time", "BIGINT", "Least time, ns since 1970 UTC; -1 if unknown."),
        Column("last_time", "BIGINT", "Greatest time, ns since 1970 UTC; -1 if unknown."),
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
                ("range", "BIGINT", "Epoch and least id of the chunk, then of the next chunk."),
                ("restarts", "BIGINT", _RESTARTS.doc),
            )
        ),
    ),
)

OTHER_REFERENCES = Table(
    "other_references",
    "One instrument's new records: those that are not events go into `golden` or `quarantine`.",
    (
        EXCHANGE,
        SYMBOL,
        *SCALES,
        Column("record_files", "ARRAY<STRING>", "Staged files of `records`, of any kind."),
        Column("restarts", "ARRAY<BIGINT>", "As in `stream_references`, of its book updates."),
    ),
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
        Column("seed_sequence", "BIGINT", "Id of the vendor's book that seeds the chunk; -1 if none does."),
        *(
            Column(f"seed_{column.name}", "ARRAY<DECIMAL(38,0)>", f"Of that book: {column.doc}")
            for column in SIDES
        ),
        Column("fingerprint", "STRING", "The events and settings that the books are built from."),
        Column("changed", "BOOLEAN", "The events or settings differ from those of the stored books."),
        Column("chained", "BOOLEAN", "The checkpoint, gaps and comparisons are to be written."),
        Column("replayed", "BOOLEAN", "The books are to be written."),
    ),
)

JUDGE_REFERENCES = Table(
    "judge_references",
    "One chunk to judge: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("event_files", "ARRAY<STRING>", "Data files of `events` of the chunk."),
        Column("book_files", "ARRAY<STRING>", "Data file of `books` of the chunk; empty if it has no rows."),
        Column(
            "files_before", "ARRAY<STRING>", "Data file of `books` of the last chunk before that has rows."
        ),
        Column("golden_files", "ARRAY<STRING>", "Data files of `golden` that may have ids of the chunk."),
        Column(
            "golden_from",
            "BIGINT",
            "Least id of the chunk before, or of the chunk if epochs differ.",
        ),
        *SCALES,
    ),
)

TOTAL_REFERENCES = Table(
    "total_references",
    "One instrument whose chunks are compared together: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        Column("sample_files", "ARRAY<STRING>", "Data files of `samples` of all its chunks."),
    ),
)

JUDGED = Table(
    "judged",
    "Result of judging: counts of one chunk, a metric of `fidelity`, or a data file.",
    (
        *ADDED.columns,
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("counted", "ARRAY<STRING>", "For the table `verdicts`: names of the counts."),
        Column("counts", "ARRAY<BIGINT>", "The counts, in the order of their names."),
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
