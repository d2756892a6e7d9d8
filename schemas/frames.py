"""Shapes of what passes between jobs and workers: records, references and results, none of them a table."""

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
    "What a source yields: one parsed message, one unreadable record, or the end of one file.",
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
        Column("reason", "STRING", "Why a record is in quarantine, or a file failed; else empty."),
        Column("raw", "BINARY", "The record's bytes if it is in quarantine; else empty."),
    ),
)

STAGED = Table(
    "staged",
    "One file of parsed records of one raw file, or the end of one part of it.",
    (
        Column("part", "BIGINT", "Number of the part of the raw file."),
        SOURCE_FILE,
        Column("record", "STRING", "trade, agg_trade, book_update, golden or quarantine; file: the end."),
        EXCHANGE,
        SYMBOL,
        Column("file", "STRING", "The file of records, in Arrow's file format; empty at the end."),
        Column("records", "BIGINT", "How many it holds."),
        Column("failed", "BOOLEAN", "The part could not be read to its end."),
        Column("source_row", "BIGINT", "Of the first record in quarantine; -1 if there is none."),
        Column("reason", "STRING", "Why that is in quarantine, or why the part failed; else empty."),
    ),
)

PARTS = Table(
    "parts",
    "One part of a raw file to be parsed.",
    (
        Column("part", "BIGINT", "Its number."),
        SOURCE_FILE,
        Column("row_groups", "ARRAY<BIGINT>", "Row groups, from and up to; empty: the whole file."),
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
    "restarts", "ARRAY<BIGINT>", "Each restart of the stream's ids: its time, and the id that parts it."
)

_CHUNK = Column("chunk", "BIGINT", "Length of an hour of this warehouse, ns.")

STREAM_REFERENCES = Table(
    "stream_references",
    "One stream of new messages to be surveyed: the files to read, and what is known of it.",
    (
        EXCHANGE,
        SYMBOL,
        Column("record", "STRING", "trade, agg_trade, book_update or golden."),
        Column("record_files", "ARRAY<STRING>", "Staged files of `records`."),
        _CHUNK,
        Column("known_epochs", "ARRAY<BIGINT>", "Epochs of the first and last message of each hour stored."),
        Column("known_ids", "ARRAY<BIGINT>", "Their ids."),
        Column("known_times", "ARRAY<BIGINT>", "Their times, ns."),
        _RESTARTS,
    ),
)

SURVEY = Table(
    "survey",
    "Messages of one staged file whose times lie in one hour and epoch.",
    (
        EXCHANGE,
        SYMBOL,
        Column("record", "STRING", "trade, agg_trade, book_update or golden."),
        Column("file", "STRING", "The staged file."),
        Column("time", "BIGINT", "Start of the hour of their times, ns; -1 if that is not known."),
        EPOCH,
        Column("first", "BIGINT", "Least id."),
        Column("last", "BIGINT", "Greatest id."),
        Column("first_time", "BIGINT", "Least time, ns; -1 if not known."),
        Column("last_time", "BIGINT", "Greatest time, ns; -1 if not known."),
        RECEIVED,
        Column("messages", "BIGINT", "How many."),
        Column("level_changes", "BIGINT", "Levels of them all."),
        Column("snapshots", "BIGINT", "How many are snapshots."),
        Column("checksums", "BIGINT", "How many carry a checksum."),
        Column("price_decimals", "BIGINT", "Decimals that their prices need."),
        Column("price_digits", "BIGINT", "Digits before the point that their prices need."),
        Column("size_decimals", "BIGINT", "Decimals that their sizes need."),
        Column("size_digits", "BIGINT", "Digits before the point that their sizes need."),
        Column("wide", "BIGINT", "How many have numbers that no int64 holds."),
        _RESTARTS,
    ),
)

EVENT_REFERENCES = Table(
    "event_references",
    "One symbol-hour of raw messages to be put in order: the files to read and the ids to take.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        _CHUNK,
        FEED,
        *SCALES,
        Column("event_files", "ARRAY<STRING>", "Data files of `events` that hold the hour so far."),
        Column("left_out", "ARRAY<STRING>", "Raw files whose events are to be left out."),
        *(
            Column(f"{stream}_{name}", f"ARRAY<{type_of}>", doc)
            for stream in ("update", "trade")
            for name, type_of, doc in (
                ("files", "STRING", "Staged files of `records`."),
                ("range", "BIGINT", "Epoch and least id of the hour, and of the hour after."),
                ("restarts", "BIGINT", _RESTARTS.doc),
            )
        ),
    ),
)

OTHER_REFERENCES = Table(
    "other_references",
    "One instrument's new records, of which what is no event goes into `golden` or `quarantine`.",
    (
        EXCHANGE,
        SYMBOL,
        *SCALES,
        Column("record_files", "ARRAY<STRING>", "Staged files of `records`, of any kind."),
        Column("restarts", "ARRAY<BIGINT>", "As in `stream_references`, of its book updates."),
    ),
)

HOUR_REFERENCES = Table(
    "hour_references",
    "One symbol-hour to be rebuilt: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        FEED,
        *SCALES,
        Column("event_files", "ARRAY<STRING>", "Data files of `events` that hold the hour."),
        Column(
            "checkpoint_file", "STRING", "Data file of `checkpoints` with the hour's opening; empty if none."
        ),
        Column("seed_sequence", "BIGINT", "Id of the vendor's book that seeds the hour's; -1 if none does."),
        *(
            Column(f"seed_{column.name}", "ARRAY<DECIMAL(38,0)>", f"Of that book: {column.doc}")
            for column in SIDES
        ),
        Column("fingerprint", "STRING", "The events and settings that the books are built from."),
        Column("changed", "BOOLEAN", "Its events or settings are others than those of its stored books."),
        Column("chained", "BOOLEAN", "Its checkpoint, gaps and comparisons are to be written."),
        Column("replayed", "BOOLEAN", "Its books are to be written."),
    ),
)

JUDGE_REFERENCES = Table(
    "judge_references",
    "One symbol-hour to be judged: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("event_files", "ARRAY<STRING>", "Data files of `events` that hold the hour."),
        Column("book_files", "ARRAY<STRING>", "Its data file of `books`, if it has rows."),
        Column("files_before", "ARRAY<STRING>", "That of the last hour before it that has rows."),
        Column("golden_files", "ARRAY<STRING>", "Data files of `golden` that hold the symbol."),
        Column("golden_from", "BIGINT", "Least id of the hour before, of the same epoch."),
        *SCALES,
    ),
)

TOTAL_REFERENCES = Table(
    "total_references",
    "One instrument whose hours are to be compared together: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        Column("sample_files", "ARRAY<STRING>", "Data files of `samples` that hold its hours."),
    ),
)

JUDGED = Table(
    "judged",
    "What judging yields: what was counted of one symbol-hour, a metric of `fidelity`, or a data file.",
    (
        *ADDED.columns,
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("counted", "ARRAY<STRING>", "Of table `verdicts`: names of what was counted."),
        Column("counts", "ARRAY<BIGINT>", "How many."),
        *(
            column
            for column in FIDELITY.columns
            if column.name not in ("run_id", *(one.name for one in _KEYS))
        ),
    ),
)

REBUILT = Table(
    "rebuilt",
    "What rebuilding hours yields: a data file of `checkpoints` or `books`, or a row of the table named.",
    (
        *ADDED.columns,
        *(column for column in GAPS.columns if column.name not in ADDED.names),
        *(column for column in CHECKS.columns if column.name not in (*ADDED.names, *GAPS.names)),
        *(column for column in COVERAGE.columns if column.name not in (*ADDED.names, *GAPS.names)),
    ),
)

CARRIED = Table(
    "carried",
    "What a micro-batch of a live feed yields: a data file, or what is to be kept of one symbol.",
    (
        *ADDED.columns,
        EXCHANGE,
        SYMBOL,
        Column("told", "STRING", "What is kept of it for the next micro-batch, as JSON; else empty."),
    ),
)
