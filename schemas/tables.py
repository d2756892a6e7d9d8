"""Schemas of all tables of a warehouse."""

from __future__ import annotations

from dataclasses import replace

from deltabook.schemas.columns import (
    DATE,
    EPOCH,
    EVENT_DATA,
    EVENT_HEAD,
    EXCHANGE,
    FEED,
    HOUR,
    ORDER_TIME,
    RECEIVED,
    SCALES,
    SIDES,
    SOURCE_FILE,
    SOURCE_ROW,
    SYMBOL,
    TIMESTAMP,
    Column,
    Table,
    scaled,
    struct,
)
from deltabook.schemas.names import KNOWN_DEPTHS, Status
from deltabook.schemas.validation_tables import FIDELITY, MISMATCHES, SAMPLES, VALIDATIONS, VERDICTS

SCHEMA_VERSION = "8"
"""Version of these schemas, stored in the table property `deltabook.schema_version`."""

EVENTS = Table(
    "events",
    "One message of one feed: a trade, or a book update with all its level changes, in feed order.",
    (
        *EVENT_HEAD,
        struct("data", EVENT_DATA, "The message: levels of a book update, or price and size of a trade."),
    ),
    partition_by=("symbol", "date"),
    statistics=("exchange", "hour", "event_type", "timestamp", "order_time", "sequence"),
)

BOOKS = Table(
    "books",
    "The top of the book at one time: on each change, per message, or per time step (see `cadence`).",
    (
        EXCHANGE,
        SYMBOL,
        DATE,
        HOUR,
        Column(
            "cadence",
            "STRING",
            "change, message, or a step such as 100ms; with `, no suspect` if suspect rows are left out.",
        ),
        TIMESTAMP,
        RECEIVED,
        ORDER_TIME,
        EPOCH,
        Column("sequence", "BIGINT", "Last update id that the book contains."),
        *SIDES,
        Column("bid_levels", "BIGINT", "Bid levels of the full book."),
        Column("ask_levels", "BIGINT", "Ask levels of the full book."),
        Column(
            "bid_known_levels",
            "INT",
            "How many of this row's bids, from the best, are known: none is missing.",
        ),
        Column(
            "ask_known_levels",
            "INT",
            "How many of this row's asks, from the best, are known: none is missing.",
        ),
        Column("trade_count", "BIGINT", "Trades in the book since the row before."),
        scaled("buy_volume", "Buying aggressors' volume since the row before", "size_scale"),
        scaled("sell_volume", "Selling aggressors' volume since the row before", "size_scale"),
        scaled("ofi", "Order flow imbalance by level since the row before", "size_scale", "ARRAY<BIGINT>"),
        Column("status", "STRING", "verified, checked, unverifiable, suspect, warming or unseeded."),
        Column(
            "crossed", "BOOLEAN", "True: the best bid is above the best ask. Equal prices (locked) are valid."
        ),
    ),
    partition_by=("symbol", "date"),
    statistics=("exchange", "hour", "timestamp", "order_time", "sequence", "status"),
    alike=True,
    layout=8,
)

GRIDS = replace(
    BOOKS,
    name="grids",
    doc="The last row of books in each step of a time grid, with sums over the rows since the step before.",
    statistics=(*BOOKS.statistics, "cadence"),
)

CHECKPOINTS = Table(
    "checkpoints",
    "The full book and all other state of the rebuild before one event: a chunk's first, or a later one.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column(
            "event", "BIGINT", "Number of events of the chunk before the checkpoint; 0 at the chunk's start."
        ),
        EPOCH,
        Column("sequence", "BIGINT", "Last update id that the book contains; -1 if none."),
        Column("trade_sequence", "BIGINT", "Last trade id seen; -1 if none."),
        ORDER_TIME,
        Column("update_time", "BIGINT", "order_time of the last book update, ns; -1 if none."),
        Column("status", "INT", "Code of `schemas.names.Status`, from 0 unseeded to 5 verified."),
        Column(
            "proven_status",
            "INT",
            "The same, by ids alone: without checksums, known range and vendor's books.",
        ),
        Column("bridge_due", "BOOLEAN", "True: a snapshot was applied, and no diff has connected to it yet."),
        Column(
            "updates_seen", "BOOLEAN", "True: a book update was seen, whether or not a book could be built."
        ),
        *SIDES,
        Column("bids_whole", "BOOLEAN", "True: no bid is missing at any price."),
        Column("asks_whole", "BOOLEAN", "True: no ask is missing at any price."),
        *(
            scaled(name, doc, "price_scale", "ARRAY<BIGINT>")
            for name, doc in (
                (
                    "bids_known_from",
                    "One price, down to which no bid is missing; empty: whole, or nothing known",
                ),
                (
                    "asks_known_from",
                    "One price, up to which no ask is missing; empty: whole, or nothing known",
                ),
                ("disputed_bids", "Bids that the last vendor book contradicts, twice if the last two do"),
                ("disputed_asks", "Asks that the last vendor book contradicts, twice if the last two do"),
                ("removed_bids", "Bids that were removed as stranded, and not set since"),
                ("removed_asks", "Asks that were removed as stranded, and not set since"),
            )
        ),
        Column(
            "crossed_since",
            "BIGINT",
            "Unlinked feed: order_time since which the book is crossed, ns; -1 if not.",
        ),
        Column(
            "warm_since", "BIGINT", "Unlinked feed: order_time since which the book is stable, ns; -1 if not."
        ),
        Column("unsettled", "BOOLEAN", "Unlinked feed: a stranded level was removed at the last message."),
        Column(
            "row_due", "BOOLEAN", "Unlinked feed: a vendor book has changed the book since the last message."
        ),
        Column(
            "rules", "STRING", "Unlinked feed: settings seed, repair and reseed-after (ns); empty otherwise."
        ),
        Column("silence", "BIGINT", "Setting silence_seconds, in ns."),
        Column("trade_count", "BIGINT", "Trades since the last row of `books`."),
        scaled("buy_volume", "Buying volume since the last row of `books`", "size_scale"),
        scaled("sell_volume", "Selling volume since the last row of `books`", "size_scale"),
        Column("held", "BINARY", "Events since a snapshot to which no diff has connected yet; Arrow stream."),
        Column(
            "fingerprint",
            "STRING",
            "Hash of the events and settings from which the chunk's books were built.",
        ),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour", "event", "sequence"),
    layout=8,
)

GAPS = Table(
    "gaps",
    "One discontinuity of one feed.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("kind", "STRING", "A name of `schemas.names.GapKind`, in lower case."),
        EPOCH,
        Column("sequence", "BIGINT", "Id of the message that shows the gap."),
        Column("expected", "BIGINT", "Expected id, checksum or time (ns); -1 if none."),
        Column("found", "BIGINT", "Id, checksum or time (ns) that came instead; -1 if none."),
        Column("from_time", "BIGINT", "order_time of the message that shows the gap, ns since 1970 UTC."),
        Column("resolved_sequence", "BIGINT", "Id of the message that resolved the gap; -1 while open."),
        Column("resolved_time", "BIGINT", "order_time of that message, ns since 1970 UTC; -1 while open."),
        Column("resolved_by", "STRING", "snapshot, vendor_book or book_update; empty while open."),
        Column("updates_affected", "BIGINT", "Number of book updates applied while the book was suspect."),
        Column("levels", "ARRAY<STRING>", "Levels that were corrected: side, price, size before and after."),
        SOURCE_FILE,
        SOURCE_ROW,
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour", "sequence"),
    layout=8,
)

GOLDEN = Table(
    "golden",
    "One independent truth about one book.",
    (
        EXCHANGE,
        SYMBOL,
        Column("kind", "STRING", "book_ticker, snapshot, vendor_book or checksum."),
        EPOCH,
        Column("sequence", "BIGINT", "Update id after which the book must equal this row."),
        TIMESTAMP,
        RECEIVED,
        *SIDES,
        Column("checksum", "BIGINT", "Unsigned CRC-32 of the best levels; -1 for other kinds than checksum."),
        SOURCE_FILE,
        SOURCE_ROW,
    ),
    partition_by=("symbol",),
    statistics=("exchange", "kind", "sequence"),
)

CHECKS = Table(
    "checks",
    "Full-depth books of one symbol-hour compared with the feed's own checksums and snapshots.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("kind", "STRING", "checksum or snapshot."),
        Column("compared", "BIGINT", "Books compared."),
        Column("matched", "BIGINT", "Books equal."),
        Column("first_divergence", "BIGINT", "Least sequence that did not match; -1 if none."),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour"),
)

COVERAGE = Table(
    "coverage",
    "How long the book of one symbol-hour had each status. Time before an update counts in its chunk.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("from_time", "BIGINT", "order_time of the first book update, ns since 1970 UTC."),
        Column("to_time", "BIGINT", "order_time of the last book update, ns since 1970 UTC."),
        *(
            Column(status.label, "BIGINT", f"Time during which the book was {status.label}, ns.")
            for status in sorted(Status, reverse=True)
        ),
        Column("silent", "BIGINT", "Time without any book update, ns; it has no status."),
        *(
            Column(name, "BIGINT", f"Time during which the {count} best levels of both sides were known, ns.")
            for name, count in KNOWN_DEPTHS.items()
        ),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour"),
    layout=8,
)

INSTRUMENTS = Table(
    "instruments",
    "One instrument: its scales and the feed from which its books are built, fixed once.",
    (
        EXCHANGE,
        SYMBOL,
        FEED,
        *SCALES,
        Column(
            "trade_stream",
            "STRING",
            "Stream whose ids order the trades: trade or agg_trade; empty if there were none.",
        ),
    ),
)

HOURS = Table(
    "hours",
    "The range of ids of one stream that belongs to one chunk.",
    (
        EXCHANGE,
        SYMBOL,
        Column("event_type", "STRING", "trade or book_update."),
        HOUR,
        Column("first_epoch", "BIGINT", "Epoch of `first_sequence`."),
        Column("first_sequence", "BIGINT", "Least id of the chunk; fixed once later ids are stored."),
        Column("last_epoch", "BIGINT", "Epoch of `last_sequence`."),
        Column("last_sequence", "BIGINT", "Greatest id stored so far."),
        Column(
            "first_time", "BIGINT", "Earliest message time that no neighbour contradicts, ns since 1970 UTC."
        ),
        Column("last_time", "BIGINT", "Latest such time, ns since 1970 UTC."),
    ),
)

EPOCHS = Table(
    "epochs",
    "One restart of a stream's ids.",
    (
        EXCHANGE,
        SYMBOL,
        Column("event_type", "STRING", "trade or book_update."),
        EPOCH,
        Column("from_time", "BIGINT", "Time of the epoch's first message, ns since 1970 UTC."),
        Column("below_sequence", "BIGINT", "Near `from_time`, ids below this one belong to this epoch."),
    ),
)

FILES = Table(
    "files",
    "The ledger: one raw file, identified by the hash of its content.",
    (
        Column("content_hash", "STRING", "SHA-256 of the file's bytes."),
        Column("path", "STRING", "Path from which the file was read."),
        Column("bytes", "BIGINT", "Size of the file."),
        Column("source", "STRING", "Name of the source that read the file."),
        Column(
            "archived", "STRING", "Path of the copy made by `--archive`, in the warehouse; empty if none."
        ),
        Column("state", "STRING", "ingested, or failed."),
        Column("reason", "STRING", "Why the file was not ingested; else empty."),
        Column("events", "BIGINT", "Messages read, before duplicates were dropped."),
        Column("golden", "BIGINT", "Golden rows read, without snapshots."),
        Column("quarantined", "BIGINT", "Records in `quarantine`."),
        Column("run_id", "STRING", "The run that read the file."),
    ),
)

FILE_LINES = Table(
    "file_lines",
    "How many lines of one raw file are of one kind. The sum over all kinds is the number of lines.",
    (
        SOURCE_FILE,
        Column("content_hash", "STRING", "SHA-256 of the file's bytes."),
        Column(
            "kind",
            "STRING",
            "taken, quarantined, blank, connection, header, `other: NAME` (a channel or kind of message that "
            "the source does not read) or `dropped: RULE`. For a table, rows are counted.",
        ),
        Column("lines", "BIGINT", "Number of lines."),
    ),
)

QUARANTINE = Table(
    "quarantine",
    "One record that could not be read.",
    (
        SOURCE_FILE,
        SOURCE_ROW,
        Column("reason", "STRING", "What was expected and what was found."),
        Column("raw", "BINARY", "The record's bytes."),
    ),
)

RUNS = Table(
    "runs",
    "One finished run; readers use the table versions that the newest row names.",
    (
        Column("run_id", "STRING", "UTC start time and a random part."),
        Column("command", "STRING", "ingest, reconstruct, validate, restore or maintain."),
        Column("started", "BIGINT", "Time, ns since 1970 UTC."),
        Column("finished", "BIGINT", "Time, ns since 1970 UTC."),
        Column("code_version", "STRING", "Version of deltabook."),
        Column("settings_hash", "STRING", "SHA-256 of the settings, 16 hex digits."),
        Column("versions", "MAP<STRING, BIGINT>", "Delta version of every table, as published by this run."),
        Column("summary", "STRING", "Counts, rates and verdicts as JSON."),
        Column("version", "BIGINT", "Delta version of `runs` that added this row."),
        Column("proofs", "STRING", "Files that the run added to `written`, with their SHA-256, as JSON."),
        Column("seal", "STRING", "SHA-256 of the other columns, which shows whether the row is damaged."),
    ),
)

WRITTEN = Table(
    "written",
    "One data file or log file as a run wrote it. `deltabook verify` compares files with these rows.",
    (
        Column("run_id", "STRING", "The run that recorded it."),
        Column("table", "STRING", "Name of the table."),
        Column("path", "STRING", "Path below the folder of the table."),
        Column("bytes", "BIGINT", "Size of the file."),
        Column("content_hash", "STRING", "SHA-256 of the file's bytes, in hex."),
        Column(
            "content",
            "BINARY",
            "Bytes of a log file with a commit, so that it can be restored; empty for other files.",
        ),
    ),
)

EVENTS_DECIMAL, BOOKS_DECIMAL = EVENTS.decimal(), BOOKS.decimal()
GRIDS_DECIMAL = GRIDS.decimal()
CHECKPOINTS_DECIMAL, GOLDEN_DECIMAL = CHECKPOINTS.decimal(), GOLDEN.decimal()
MISMATCHES_DECIMAL = MISMATCHES.decimal()

TABLES = {
    table.name: table
    for table in (
        EVENTS,
        EVENTS_DECIMAL,
        BOOKS,
        BOOKS_DECIMAL,
        GRIDS,
        GRIDS_DECIMAL,
        CHECKPOINTS,
        CHECKPOINTS_DECIMAL,
        GAPS,
        CHECKS,
        COVERAGE,
        GOLDEN,
        GOLDEN_DECIMAL,
        FIDELITY,
        SAMPLES,
        MISMATCHES,
        MISMATCHES_DECIMAL,
        VERDICTS,
        VALIDATIONS,
        INSTRUMENTS,
        HOURS,
        EPOCHS,
        FILES,
        FILE_LINES,
        QUARANTINE,
        WRITTEN,
        RUNS,
    )
}
"""The tables of a warehouse, by name."""


def both(table: Table) -> tuple[Table, Table]:
    """Return a table and its counterpart with prices and sizes in DECIMAL(38,18)."""
    return table, TABLES[f"{table.name}_decimal"]


def form_of(table: Table, is_decimal: bool) -> Table:
    """Return the table that holds an instrument's rows: DECIMAL(38,18) if `is_decimal`, else integers."""
    return both(table)[int(is_decimal)]
