"""Every table: its columns declared once, each with its unit, clock, epoch and sentinel."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

SCHEMA_VERSION = "1"
"""Value of the table property `deltabook.schema_version`."""

_ARROW_TYPES = {
    "BIGINT": pa.int64(),
    "INT": pa.int32(),
    "BOOLEAN": pa.bool_(),
    "STRING": pa.string(),
    "BINARY": pa.binary(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "ARRAY<BIGINT>": pa.list_(pa.int64()),
}


@dataclass(frozen=True)
class Column:
    """One column: name, Spark SQL type, and one sentence on what it holds."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True)
class Table:
    """One Delta table (or the shape of a frame on its way to one).

    Attributes
    ----------
    name
        Folder under the warehouse and name in SQL.
    doc
        The grain, in one sentence.
    columns
        In order.
    partition_by
        Partition columns; they are not in the data files.
    statistics
        Columns whose minimum and maximum Delta keeps for file skipping. Naming the scalars
        saves the cost of statistics on every array (measured: 1.9 times on writing events).
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ()
    statistics: tuple[str, ...] = field(default=())

    @property
    def names(self) -> list[str]:
        """Column names, in order."""
        return [column.name for column in self.columns]

    @property
    def ddl(self) -> str:
        """The schema as Spark DDL text."""
        return ", ".join(f"`{column.name}` {column.type}" for column in self.columns)

    @property
    def arrow(self) -> pa.Schema:
        """The schema in Arrow; only for tables whose columns are scalars and arrays of BIGINT."""
        return pa.schema([(column.name, _ARROW_TYPES[column.type]) for column in self.columns])


_EXCHANGE = Column("exchange", "STRING", "Venue and market, e.g. BINANCE, BINANCE_FUTURES.")
_SYMBOL = Column("symbol", "STRING", "Instrument: BTC-USDT, BTC-USDT-PERP, BTC-USD-241227.")
_DATE = Column("date", "DATE", "UTC day of `hour`.")
_HOUR = Column("hour", "BIGINT", "Start of the chunk, ns since 1970 UTC; chunks are ranges of ids.")
_TIMESTAMP = Column("timestamp", "BIGINT", "Exchange's event time, ns since 1970 UTC; -1 if not given.")
_RECEIVED = Column("received", "BIGINT", "Recorder's receive time, ns since 1970 UTC; -1 if not given.")
_ORDER_TIME = Column(
    "order_time",
    "BIGINT",
    "Running maximum of `timestamp` within the stream and hour, ns: merges trades and book updates.",
)
_EPOCH = Column("epoch", "BIGINT", "Rises by one each time the venue restarts its ids; 0 at first.")
_SEQUENCE = Column("sequence", "BIGINT", "Last update id of a book update; trade id of a trade.")
_SIDES = (
    Column("bid_prices", "ARRAY<BIGINT>", "Bid prices, scaled by 10^price_scale."),
    Column("bid_sizes", "ARRAY<BIGINT>", "Absolute sizes at `bid_prices`, scaled by 10^size_scale."),
    Column("ask_prices", "ARRAY<BIGINT>", "Ask prices, scaled by 10^price_scale."),
    Column("ask_sizes", "ARRAY<BIGINT>", "Absolute sizes at `ask_prices`, scaled by 10^size_scale."),
)
_SOURCE_FILE = Column("source_file", "STRING", "Path of the raw file.")
_SOURCE_ROW = Column("source_row", "BIGINT", "Line of the raw file, from 1.")

EVENT_DATA = (
    Column("is_snapshot", "BOOLEAN", "True: the levels are the whole book, not changes."),
    Column("first_sequence", "BIGINT", "First update id (Binance U); -1 if not given."),
    Column("prev_sequence", "BIGINT", "Last id of the message before (Binance pu); -1 if not given."),
    Column("damaged", "BOOLEAN", "A part of the message, or one before it, is in quarantine."),
    Column("checksum", "BIGINT", "Unsigned CRC-32 of the book after this message; -1 if not given."),
    Column("price_digits", "BIGINT", "Decimals of prices in the checksum's text; -1: as few as needed."),
    Column("size_digits", "BIGINT", "Decimals of sizes in the checksum's text; -1: as few as needed."),
    Column("kept_levels", "BIGINT", "Levels a side that the venue keeps after the message; -1: all."),
    *_SIDES,
    Column("trade_id", "BIGINT", "The exchange's trade id; -1 for a book update."),
    Column("side", "STRING", "Aggressor: buy or sell; empty if not a trade, or a trade outside the book."),
    Column("price", "BIGINT", "Trade price, scaled; -1 for a book update."),
    Column("size", "BIGINT", "Trade size, scaled; -1 for a book update."),
)
"""Fields of `events.data`. A size of 0 deletes the level."""

_EVENT_HEAD = (
    _EXCHANGE,
    _SYMBOL,
    _DATE,
    _HOUR,
    _TIMESTAMP,
    _RECEIVED,
    _ORDER_TIME,
    Column("event_type", "STRING", "trade or book_update."),
    _EPOCH,
    _SEQUENCE,
    _SOURCE_FILE,
    _SOURCE_ROW,
)

RECORDS = Table(
    "records",
    "What a source yields: one parsed message, one unreadable record, or the end of one file.",
    (
        Column("record", "STRING", "trade, agg_trade, book_update, golden, quarantine or file."),
        Column("kind", "STRING", "Kind of a golden record; outcome (`read`, `failed`) of a file."),
        _EXCHANGE,
        _SYMBOL,
        _TIMESTAMP,
        _RECEIVED,
        _SEQUENCE,
        _SOURCE_FILE,
        _SOURCE_ROW,
        *EVENT_DATA,
        Column("level_changes", "BIGINT", "Levels of both sides."),
        Column("price_scale", "BIGINT", "Decimal digits of this record's prices."),
        Column("size_scale", "BIGINT", "Decimal digits of this record's sizes."),
        Column("wide", "BINARY", "Its numbers as printed, as JSON, if no int64 holds them; else empty."),
        Column("reason", "STRING", "Why a record is in quarantine, or a file failed; else empty."),
        Column("raw", "BINARY", "The record's bytes if it is in quarantine; else empty."),
    ),
    partition_by=("record", "exchange", "symbol"),
)

FLAT_EVENTS = Table(
    "flat_events",
    "An event with the fields of `data` beside the others, as kernels read and write it.",
    (*_EVENT_HEAD, *EVENT_DATA),
)

EVENTS = Table(
    "events",
    "One message of one feed: a trade, or a book update with all its level changes, in feed order.",
    (
        *_EVENT_HEAD,
        Column(
            "data",
            "STRUCT<" + ", ".join(f"{column.name}: {column.type}" for column in EVENT_DATA) + ">",
            "The message: levels of a book update, or price and size of a trade.",
        ),
    ),
    partition_by=("symbol", "date"),
    statistics=("exchange", "hour", "event_type", "timestamp", "order_time", "sequence"),
)

BOOKS = Table(
    "books",
    "One row each time the top levels or the status change, or one per message (see `cadence`).",
    (
        _EXCHANGE,
        _SYMBOL,
        _DATE,
        _HOUR,
        Column("cadence", "STRING", "change or message."),
        _TIMESTAMP,
        _RECEIVED,
        _ORDER_TIME,
        _EPOCH,
        Column("sequence", "BIGINT", "Last update id that the book contains."),
        *_SIDES,
        Column("bid_levels", "BIGINT", "Bid levels of the full book."),
        Column("ask_levels", "BIGINT", "Ask levels of the full book."),
        Column("trade_count", "BIGINT", "Trades in the book since the row before."),
        Column("buy_volume", "BIGINT", "Buying aggressors' volume since the row before, scaled."),
        Column("sell_volume", "BIGINT", "Selling aggressors' volume since the row before, scaled."),
        Column("status", "STRING", "verified, checked, unverifiable, suspect or unseeded."),
        Column("crossed", "BOOLEAN", "Best bid above best ask. Equal (locked) is valid."),
    ),
    partition_by=("symbol", "date"),
    statistics=("exchange", "hour", "timestamp", "order_time", "sequence", "status"),
)

CHECKPOINTS = Table(
    "checkpoints",
    "The full book and all state before the first event of an hour.",
    (
        _EXCHANGE,
        _SYMBOL,
        _HOUR,
        _EPOCH,
        Column("sequence", "BIGINT", "Last update id that the book contains; -1 if none."),
        Column("trade_sequence", "BIGINT", "Last trade id seen; -1 if none."),
        _ORDER_TIME,
        Column("status", "INT", "Status code: 0 unseeded, 1 suspect, 2 unverifiable, 3 checked, 4 verified."),
        Column("bridge_due", "BOOLEAN", "A snapshot was taken and no diff has connected to it yet."),
        Column("updates_seen", "BOOLEAN", "A book update was met, whether or not a book could be built."),
        *_SIDES,
        Column("trade_count", "BIGINT", "Trades since the last row of `books`."),
        Column("buy_volume", "BIGINT", "Buying volume since the last row of `books`, scaled."),
        Column("sell_volume", "BIGINT", "Selling volume since the last row of `books`, scaled."),
        Column(
            "held", "BINARY", "Last events before the hour, from a snapshot that awaits a diff; Arrow stream."
        ),
        Column("fingerprint", "STRING", "The events and settings that this hour's books are built from."),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour", "sequence"),
)

GAPS = Table(
    "gaps",
    "One discontinuity of one feed.",
    (
        _EXCHANGE,
        _SYMBOL,
        _HOUR,
        Column("kind", "STRING", "A name of `schemas.names.GapKind`, in lower case."),
        _EPOCH,
        Column("sequence", "BIGINT", "Id of the message that shows the gap."),
        Column("expected", "BIGINT", "The id, checksum or time (ns) that should have come; -1 if none."),
        Column("found", "BIGINT", "What came instead; -1 if nothing."),
        Column("from_time", "BIGINT", "order_time of the message that shows the gap, ns since 1970 UTC."),
        Column("resolved_sequence", "BIGINT", "Id of the snapshot that ended it; -1 while open."),
        Column("resolved_time", "BIGINT", "order_time of that snapshot, ns since 1970 UTC; -1 while open."),
        Column("resolved_by", "STRING", "snapshot or vendor_book; empty while open."),
        Column("updates_affected", "BIGINT", "Book updates applied to the suspect book until then."),
        _SOURCE_FILE,
        _SOURCE_ROW,
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour", "sequence"),
)

GOLDEN = Table(
    "golden",
    "One independent truth about one book.",
    (
        _EXCHANGE,
        _SYMBOL,
        Column("kind", "STRING", "book_ticker, snapshot, vendor_book or checksum."),
        _EPOCH,
        Column("sequence", "BIGINT", "Update id at which it is true."),
        _TIMESTAMP,
        _RECEIVED,
        *_SIDES,
        Column("checksum", "BIGINT", "Unsigned CRC-32 of the best levels; -1 if the kind is another."),
        _SOURCE_FILE,
        _SOURCE_ROW,
    ),
    partition_by=("symbol",),
    statistics=("exchange", "kind", "sequence"),
)

CHECKS = Table(
    "checks",
    "One symbol-hour's books against what the feed itself says of them, at full depth, as they are rebuilt.",
    (
        _EXCHANGE,
        _SYMBOL,
        _HOUR,
        Column("kind", "STRING", "checksum or snapshot."),
        Column("compared", "BIGINT", "Books compared."),
        Column("matched", "BIGINT", "Books equal."),
        Column("first_divergence", "BIGINT", "Least sequence that did not match; -1 if none."),
    ),
    partition_by=("symbol",),
    statistics=("exchange", "hour"),
)

CHAINED = Table(
    "chained",
    "What the chain of hours yields: a row of `checkpoints`, `gaps` or `checks`.",
    (
        Column("record", "STRING", "Which table's columns are filled; the others are null."),
        *CHECKPOINTS.columns,
        *(column for column in GAPS.columns if column.name not in CHECKPOINTS.names),
        *(column for column in CHECKS.columns if column.name not in (*CHECKPOINTS.names, *GAPS.names)),
    ),
)

_FEED = Column("feed", "STRING", "A name of `schemas.feeds.FEEDS`.")
_SCALES = (
    Column("price_scale", "INT", "Decimal digits of prices: value = integer / 10^price_scale."),
    Column("size_scale", "INT", "Decimal digits of sizes: value = integer / 10^size_scale."),
)
_RESTARTS = Column(
    "restarts", "ARRAY<BIGINT>", "Each restart of the stream's ids: its time, and the id that parts it."
)

STREAM_REFERENCES = Table(
    "stream_references",
    "One stream of new messages to be surveyed: the files to read, and what is known of it.",
    (
        _EXCHANGE,
        _SYMBOL,
        Column("record", "STRING", "trade, agg_trade, book_update or golden."),
        Column("record_files", "ARRAY<STRING>", "Staged Parquet files of `records`."),
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
        _EXCHANGE,
        _SYMBOL,
        Column("record", "STRING", "trade, agg_trade, book_update or golden."),
        Column("file", "STRING", "The staged file."),
        Column("time", "BIGINT", "Start of the hour of their times, ns; -1 if that is not known."),
        _EPOCH,
        Column("first", "BIGINT", "Least id."),
        Column("last", "BIGINT", "Greatest id."),
        Column("first_time", "BIGINT", "Least time, ns; -1 if not known."),
        Column("last_time", "BIGINT", "Greatest time, ns; -1 if not known."),
        _RECEIVED,
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
        _EXCHANGE,
        _SYMBOL,
        _HOUR,
        _FEED,
        *_SCALES,
        Column("record_files", "ARRAY<STRING>", "Staged Parquet files of `records`."),
        Column("event_files", "ARRAY<STRING>", "Data files of `events` that hold the hour so far."),
        Column("left_out", "ARRAY<STRING>", "Raw files whose events are to be left out."),
        *(
            Column(f"{stream}_{name}", "ARRAY<BIGINT>", doc)
            for stream in ("update", "trade")
            for name, doc in (
                ("range", "Epoch and least id of the hour, and of the hour after."),
                ("restarts", _RESTARTS.doc),
            )
        ),
    ),
)

HOUR_REFERENCES = Table(
    "hour_references",
    "One symbol-hour to be rebuilt: the files to read.",
    (
        _EXCHANGE,
        _SYMBOL,
        _HOUR,
        _FEED,
        *_SCALES,
        Column("event_files", "ARRAY<STRING>", "Data files of `events` that hold the hour."),
        Column(
            "checkpoint_file", "STRING", "Data file of `checkpoints` with the hour's opening; empty if none."
        ),
        Column("seed_sequence", "BIGINT", "Id of the vendor's book that seeds the hour's; -1 if none does."),
        *(Column(f"seed_{column.name}", column.type, column.doc) for column in _SIDES),
        Column("fingerprint", "STRING", "The events and settings that the books are built from."),
    ),
)

FIDELITY = Table(
    "fidelity",
    "One metric of one symbol-hour: rebuilt books against golden samples.",
    (
        Column("run_id", "STRING", "The run that measured it."),
        _EXCHANGE,
        _SYMBOL,
        _HOUR,
        Column("kind", "STRING", "Kind of golden row compared with."),
        Column("compared", "BIGINT", "Books compared."),
        Column("matched", "BIGINT", "Books equal in every price and size compared, both sides."),
        Column("ratio", "DOUBLE", "matched / compared."),
        Column("unverifiable", "BIGINT", "Books compared whose status is `unverifiable`."),
        Column("first_divergence", "BIGINT", "Least sequence that did not match; -1 if none."),
    ),
)

VALIDATIONS = Table(
    "validations",
    "One expectation's result.",
    (
        Column("run_id", "STRING", "The run that judged it."),
        Column("suite", "STRING", "continuity or fidelity."),
        Column("expectation", "STRING", "What must hold."),
        Column("verdict", "STRING", "passed, failed or errored."),
        Column("observed", "STRING", "What was seen: the offending symbol-hours, or the reason of an error."),
        Column("rows", "BIGINT", "Rows of the summary that were judged."),
        Column("unverifiable", "BIGINT", "Book rows that the feed's ids cannot prove."),
    ),
)

INSTRUMENTS = Table(
    "instruments",
    "One instrument's scales, and the feed that its books are built from, recorded once.",
    (
        _EXCHANGE,
        _SYMBOL,
        _FEED,
        *_SCALES,
        Column(
            "trade_stream", "STRING", "trade or agg_trade, whose ids order the trades; empty if none came."
        ),
    ),
)

HOURS = Table(
    "hours",
    "Id boundaries: the ids of one stream that belong to one hour.",
    (
        _EXCHANGE,
        _SYMBOL,
        Column("event_type", "STRING", "trade or book_update."),
        _HOUR,
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
        _EXCHANGE,
        _SYMBOL,
        Column("event_type", "STRING", "trade or book_update."),
        _EPOCH,
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
        Column("archived", "STRING", "Path of the copy that `--archive` kept; empty if none."),
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
        _SOURCE_FILE,
        _SOURCE_ROW,
        Column("reason", "STRING", "What was expected and what was found."),
        Column("raw", "BINARY", "The record's bytes."),
    ),
)

RUNS = Table(
    "runs",
    "One finished run; readers use the table versions that the newest row names.",
    (
        Column("run_id", "STRING", "UTC start time and a random part."),
        Column("command", "STRING", "ingest, reconstruct or validate."),
        Column("started", "BIGINT", "ns since 1970 UTC."),
        Column("finished", "BIGINT", "ns since 1970 UTC."),
        Column("code_version", "STRING", "Version of deltabook."),
        Column("settings_hash", "STRING", "SHA-256 of the settings, 16 hex digits."),
        Column("versions", "MAP<STRING, BIGINT>", "Delta version of every table that this run publishes."),
        Column("summary", "STRING", "Counts, rates and verdicts as JSON."),
    ),
)

TABLES = {
    table.name: table
    for table in (
        EVENTS,
        BOOKS,
        CHECKPOINTS,
        GAPS,
        CHECKS,
        GOLDEN,
        FIDELITY,
        VALIDATIONS,
        INSTRUMENTS,
        HOURS,
        EPOCHS,
        FILES,
        QUARANTINE,
        RUNS,
    )
}
"""The tables of a warehouse, by name."""
