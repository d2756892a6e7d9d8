"""Every table of a warehouse."""

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
from deltabook.schemas.names import Status

SCHEMA_VERSION = "7"
"""Value of the table property `deltabook.schema_version`."""

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
    "One row each time the top levels or the status change, per message, or per step (see `cadence`).",
    (
        EXCHANGE,
        SYMBOL,
        DATE,
        HOUR,
        Column(
            "cadence",
            "STRING",
            "change, message or a step, such as 100ms; with `, no suspect` if those rows are left out.",
        ),
        TIMESTAMP,
        RECEIVED,
        ORDER_TIME,
        EPOCH,
        Column("sequence", "BIGINT", "Last update id that the book contains."),
        *SIDES,
        Column("bid_levels", "BIGINT", "Bid levels of the full book."),
        Column("ask_levels", "BIGINT", "Ask levels of the full book."),
        Column("trade_count", "BIGINT", "Trades in the book since the row before."),
        scaled("buy_volume", "Buying aggressors' volume since the row before", "size_scale"),
        scaled("sell_volume", "Selling aggressors' volume since the row before", "size_scale"),
        scaled("ofi", "Order flow imbalance by level since the row before", "size_scale", "ARRAY<BIGINT>"),
        Column("status", "STRING", "verified, checked, unverifiable, suspect or unseeded."),
        Column("crossed", "BOOLEAN", "Best bid above best ask. Equal (locked) is valid."),
    ),
    partition_by=("symbol", "date"),
    statistics=("exchange", "hour", "timestamp", "order_time", "sequence", "status"),
    alike=True,
)

GRIDS = replace(
    BOOKS,
    name="grids",
    doc="The last row of books of each step of a grid of time, with the sums over the rows since the last.",
    statistics=(*BOOKS.statistics, "cadence"),
)

CHECKPOINTS = Table(
    "checkpoints",
    "The full book and all state before one event: the first of an hour, and others within it.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("event", "BIGINT", "Events of the hour before it: 0 is the hour's opening."),
        EPOCH,
        Column("sequence", "BIGINT", "Last update id that the book contains; -1 if none."),
        Column("trade_sequence", "BIGINT", "Last trade id seen; -1 if none."),
        ORDER_TIME,
        Column("update_time", "BIGINT", "order_time of the last book update, ns; -1 if none."),
        Column("status", "INT", "Status code: 0 unseeded, 1 suspect, 2 unverifiable, 3 checked, 4 verified."),
        Column("bridge_due", "BOOLEAN", "A snapshot was taken and no diff has connected to it yet."),
        Column("updates_seen", "BOOLEAN", "A book update was met, whether or not a book could be built."),
        *SIDES,
        Column("trade_count", "BIGINT", "Trades since the last row of `books`."),
        scaled("buy_volume", "Buying volume since the last row of `books`", "size_scale"),
        scaled("sell_volume", "Selling volume since the last row of `books`", "size_scale"),
        Column(
            "held", "BINARY", "Last events before the hour, from a snapshot that awaits a diff; Arrow stream."
        ),
        Column("fingerprint", "STRING", "The events and settings that this hour's books are built from."),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour", "event", "sequence"),
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
        Column("expected", "BIGINT", "The id, checksum or time (ns) that should have come; -1 if none."),
        Column("found", "BIGINT", "What came instead; -1 if nothing."),
        Column("from_time", "BIGINT", "order_time of the message that shows the gap, ns since 1970 UTC."),
        Column("resolved_sequence", "BIGINT", "Id of the message that ended it; -1 while open."),
        Column("resolved_time", "BIGINT", "order_time of that message, ns since 1970 UTC; -1 while open."),
        Column("resolved_by", "STRING", "snapshot, vendor_book or book_update; empty while open."),
        Column("updates_affected", "BIGINT", "Book updates applied to the suspect book until then."),
        SOURCE_FILE,
        SOURCE_ROW,
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour", "sequence"),
)

GOLDEN = Table(
    "golden",
    "One independent truth about one book.",
    (
        EXCHANGE,
        SYMBOL,
        Column("kind", "STRING", "book_ticker, snapshot, vendor_book or checksum."),
        EPOCH,
        Column("sequence", "BIGINT", "Update id at which it is true."),
        TIMESTAMP,
        RECEIVED,
        *SIDES,
        Column("checksum", "BIGINT", "Unsigned CRC-32 of the best levels; -1 if the kind is another."),
        SOURCE_FILE,
        SOURCE_ROW,
    ),
    partition_by=("symbol",),
    statistics=("exchange", "kind", "sequence"),
)

CHECKS = Table(
    "checks",
    "One symbol-hour's books against what the feed itself says of them, at full depth, as they are rebuilt.",
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
    "How long one symbol-hour's book had each status. Time up to a book update counts in that update's hour.",
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
        Column("silent", "BIGINT", "Time of silence, ns: it has no status."),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour"),
)

_OF_GOLDEN = (
    EXCHANGE,
    SYMBOL,
    Column("hour", "BIGINT", "Start of the chunk, ns since 1970 UTC; -1: of all of the symbol's together."),
    Column("kind", "STRING", "Kind of golden row compared with."),
    Column("metric", "STRING", "What is compared: match, price_match, spread, mid_return, …."),
    Column("level", "BIGINT", "Level of the book, from 1; 0: of no one level."),
)

FIDELITY = Table(
    "fidelity",
    "One metric of one symbol-hour, or of all of a symbol's: rebuilt books against golden samples.",
    (
        Column("run_id", "STRING", "The run that measured it."),
        *_OF_GOLDEN,
        Column("compared", "BIGINT", "Books compared, or samples a side."),
        Column(
            "matched", "BIGINT", "Of those, equal in every price and size compared; -1 of a distribution."
        ),
        Column("value", "DOUBLE", "Of rebuilt books: share that match, mean, or parameter; NaN if none."),
        Column("golden_value", "DOUBLE", "The same of the golden samples; NaN if none."),
        Column("statistic", "DOUBLE", "Kolmogorov-Smirnov's D; NaN if not tested."),
        Column("p_value", "DOUBLE", "Its p; NaN if not tested."),
        Column(
            "adjusted_p", "DOUBLE", "p after Holm's correction among the symbol-hour's tests; NaN if none."
        ),
        Column("distance", "DOUBLE", "Wasserstein-1, in the metric's unit; NaN if not measured."),
        Column("low", "DOUBLE", "Lower end of the 95 % interval of value - golden_value; NaN if none."),
        Column("high", "DOUBLE", "Upper end of it, by block bootstrap; NaN if none."),
        Column("verdict", "STRING", "passed, failed, none (no golden), or reported (judges nothing)."),
        Column("unverifiable", "BIGINT", "Books compared whose status is `unverifiable`."),
        Column("first_divergence", "BIGINT", "Least sequence that did not match; -1 if none."),
    ),
)

SAMPLES = Table(
    "samples",
    "What one distribution of `fidelity` was measured from: samples so far apart that they are independent.",
    (
        *_OF_GOLDEN,
        Column("rebuilt", "ARRAY<DOUBLE>", "Samples of rebuilt books, in the metric's unit, in time."),
        Column("golden", "ARRAY<DOUBLE>", "Samples of golden books at the same times."),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour"),
)

MISMATCHES = Table(
    "mismatches",
    "One rebuilt book that is not its golden row: both, to the depth compared.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("kind", "STRING", "Kind of golden row."),
        EPOCH,
        Column("sequence", "BIGINT", "Update id at which they were compared."),
        TIMESTAMP,
        RECEIVED,
        Column("level", "BIGINT", "First level that differs on either side, from 1."),
        *SIDES,
        *(replace(side, name=f"golden_{side.name}", doc=f"Golden: {side.doc}") for side in SIDES),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour", "sequence"),
)

VERDICTS = Table(
    "verdicts",
    "One suite's verdict on one symbol-hour as it stands.",
    (
        EXCHANGE,
        SYMBOL,
        HOUR,
        Column("suite", "STRING", "raw, events, books or fidelity."),
        Column("verdict", "STRING", "passed, failed, errored, or none (nothing to judge by)."),
        Column("reasons", "STRING", "The expectations that do not hold, and what was seen; else empty."),
        Column("counts", "MAP<STRING, BIGINT>", "What the suite judged by."),
        Column("fingerprint", "STRING", "The data files and settings that were judged."),
        Column("run_id", "STRING", "The run that judged it."),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour"),
)

VALIDATIONS = Table(
    "validations",
    "One expectation's result in one run.",
    (
        Column("run_id", "STRING", "The run that judged it."),
        Column("suite", "STRING", "raw, events, books or fidelity."),
        Column("expectation", "STRING", "What must hold."),
        Column("verdict", "STRING", "passed, failed, errored, or none."),
        Column("observed", "STRING", "What was seen: the offending symbol-hours, or the reason of an error."),
        Column("rows", "BIGINT", "Rows of the summary that were judged."),
    ),
)

INSTRUMENTS = Table(
    "instruments",
    "One instrument's scales, and the feed that its books are built from, recorded once.",
    (
        EXCHANGE,
        SYMBOL,
        FEED,
        *SCALES,
        Column(
            "trade_stream", "STRING", "trade or agg_trade, whose ids order the trades; empty if none came."
        ),
    ),
)

HOURS = Table(
    "hours",
    "Id boundaries: the ids of one stream that belong to one hour.",
    (
        EXCHANGE,
        SYMBOL,
        Column("event_type", "STRING", "trade or book_update."),
        HOUR,
        Column("first_epoch", "BIGINT", "Epoch of `first_sequence`."),
        Column("first_sequence", "BIGINT", "Least id of the hour; frozen once later ids are stored."),
        Column("last_epoch", "BIGINT", "Epoch of `last_sequence`."),
        Column("last_sequence", "BIGINT", "Greatest id stored so far."),
        Column("first_time", "BIGINT", "Least time of its messages that nothing contradicts, ns."),
        Column("last_time", "BIGINT", "Greatest such time, ns."),
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
        Column("from_time", "BIGINT", "Time of its first message, ns since 1970 UTC."),
        Column("below_sequence", "BIGINT", "Close to that time, lesser ids are of this epoch."),
    ),
)

FILES = Table(
    "files",
    "The ledger: one raw file, known by its content.",
    (
        Column("content_hash", "STRING", "SHA-256 of the file's bytes."),
        Column("path", "STRING", "Where it was read."),
        Column("bytes", "BIGINT", "Its size."),
        Column("source", "STRING", "The source that read it."),
        Column("archived", "STRING", "Path in the warehouse of the copy that `--archive` kept; else empty."),
        Column("state", "STRING", "ingested, or failed."),
        Column("reason", "STRING", "Why it failed; else empty."),
        Column("events", "BIGINT", "Messages taken into `events` before duplicates were dropped."),
        Column("golden", "BIGINT", "Rows taken into `golden`, snapshots not counted."),
        Column("quarantined", "BIGINT", "Records put into `quarantine`."),
        Column("run_id", "STRING", "The run that read it."),
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
        Column("started", "BIGINT", "ns since 1970 UTC."),
        Column("finished", "BIGINT", "ns since 1970 UTC."),
        Column("code_version", "STRING", "Version of deltabook."),
        Column("settings_hash", "STRING", "SHA-256 of the settings, 16 hex digits."),
        Column("versions", "MAP<STRING, BIGINT>", "Delta version of every table that this run publishes."),
        Column("summary", "STRING", "Counts, rates and verdicts as JSON."),
        Column("version", "BIGINT", "Delta version of `runs` that this row makes."),
        Column("proofs", "STRING", "Files that it added to `written`, each with its SHA-256, as JSON."),
        Column("seal", "STRING", "SHA-256 of the other columns."),
    ),
)

WRITTEN = Table(
    "written",
    "One file as a run has written it: a data file, or a file of a table's log. What `verify` compares with.",
    (
        Column("run_id", "STRING", "The run that recorded it."),
        Column("table", "STRING", "Name of the table."),
        Column("path", "STRING", "Path below the folder of the table."),
        Column("bytes", "BIGINT", "Its size."),
        Column("content_hash", "STRING", "SHA-256 of its bytes, in hex."),
        Column("content", "BINARY", "The bytes of a commit, to put it back; else empty."),
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
        QUARANTINE,
        WRITTEN,
        RUNS,
    )
}
"""The tables of a warehouse, by name."""


def both(table: Table) -> tuple[Table, Table]:
    """Return a table of scaled integers, and the one of the instruments that need DECIMAL(38,18)."""
    return table, TABLES[f"{table.name}_decimal"]


def form_of(table: Table, is_decimal: bool) -> Table:
    """Return that of the two which holds an instrument."""
    return both(table)[int(is_decimal)]
