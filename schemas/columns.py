"""Classes for columns and tables, and the columns that several tables share.

Every column is declared once, with a sentence that describes it. The sentence states the unit, the clock, the
date from which times are counted, and the number that stands for a missing value.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pyarrow as pa

DECIMAL = pa.decimal128(38, 18)
"""Type of prices and sizes of an instrument whose numbers do not fit int64 at one scale."""

_ARROW_TYPES = {
    "BIGINT": pa.int64(),
    "INT": pa.int32(),
    "BOOLEAN": pa.bool_(),
    "STRING": pa.string(),
    "BINARY": pa.binary(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "DECIMAL(38,18)": DECIMAL,
    "ARRAY<BIGINT>": pa.list_(pa.int64()),
    "ARRAY<DOUBLE>": pa.list_(pa.float64()),
    "ARRAY<DECIMAL(38,18)>": pa.list_(DECIMAL),
    "ARRAY<DECIMAL(38,0)>": pa.list_(pa.decimal128(38, 0)),
    "ARRAY<STRING>": pa.list_(pa.string()),
    "MAP<STRING, BIGINT>": pa.map_(pa.string(), pa.int64()),
}


@dataclass(frozen=True)
class Column:
    """One column of a table or frame.

    Attributes
    ----------
    name, type
        Column name, and column type in Spark SQL.
    doc
        One sentence on what the column holds. Delta stores this sentence as the column's comment.
    fields
        Fields of a struct; empty for other types.
    scale
        For a column of scaled integers: name of the column with their scale, price_scale or size_scale. Empty
        for other columns.
    """

    name: str
    type: str
    doc: str
    fields: tuple[Column, ...] = ()
    scale: str = ""

    @property
    def arrow(self) -> pa.DataType:
        """Arrow type of the column."""
        if self.fields:
            return pa.struct([(column.name, column.arrow) for column in self.fields])
        return _ARROW_TYPES[self.type]


def struct(name: str, fields: tuple[Column, ...], doc: str) -> Column:
    """Return a struct column with the given fields."""
    return Column(name, "STRUCT<" + ", ".join(f"{one.name}: {one.type}" for one in fields) + ">", doc, fields)


def scaled(name: str, doc: str, scale: str, type_of: str = "BIGINT") -> Column:
    """Return a column of prices or sizes, stored as integers: value = integer / 10^scale."""
    return Column(name, type_of, f"{doc}, scaled by 10^{scale}.", scale=scale)


@dataclass(frozen=True)
class Table:
    """One Delta table, or the schema of a frame that passes between driver and workers.

    Attributes
    ----------
    name
        Name of the table's folder in the warehouse, and name of the table in SQL.
    doc
        One sentence on what one row is.
    columns
        Columns, in order.
    partition_by
        Partition columns. They are not in the data files.
    statistics
        Columns whose minimum and maximum Delta stores, so that readers can skip files. Without this list,
        Delta computes statistics of every array (measured: writing events takes 1.9 times as long).
    alike
        Whether the arrays of a row mostly equal the arrays of the previous row. Such arrays compress better
        without dictionary encoding (measured on books of 20 levels: 0.7 of the size, 0.8 of the time).
    layout
        Schema version in which the columns changed last. A table that was created with an earlier version is
        emptied and gets the present columns when a run begins; see `Warehouse.writing`.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    partition_by: tuple[str, ...] = ()
    statistics: tuple[str, ...] = field(default=())
    alike: bool = False
    layout: int = 7

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
        """The schema in Arrow."""
        return pa.schema([(column.name, column.arrow) for column in self.columns])

    def decimal(self) -> Table:
        """Return the same table with prices and sizes in DECIMAL(38,18)."""
        return replace(
            self,
            name=f"{self.name}_decimal",
            doc=f"{self.doc[:-1]}: instruments whose numbers need DECIMAL(38,18).",
            columns=tuple(map(_as_decimal, self.columns)),
        )


def _as_decimal(column: Column) -> Column:
    """Return the same column, with scaled integers replaced by DECIMAL(38,18)."""
    if column.fields:
        return struct(column.name, tuple(map(_as_decimal, column.fields)), column.doc)
    if not column.scale:
        return column
    doc = column.doc.replace(f"scaled by 10^{column.scale}", "exact")
    return replace(column, type=column.type.replace("BIGINT", "DECIMAL(38,18)"), doc=doc)


EXCHANGE = Column("exchange", "STRING", "Venue and market, e.g. BINANCE, BINANCE_FUTURES.")
SYMBOL = Column("symbol", "STRING", "Instrument: BTC-USDT, BTC-USDT-PERP, BTC-USD-241227.")
DATE = Column("date", "DATE", "UTC day of `hour`.")
HOUR = Column("hour", "BIGINT", "Start of the chunk, ns since 1970 UTC; chunks are ranges of ids.")
TIMESTAMP = Column("timestamp", "BIGINT", "Exchange's event time, ns since 1970 UTC; -1 if not given.")
RECEIVED = Column("received", "BIGINT", "Recorder's receive time, ns since 1970 UTC; -1 if not given.")
ORDER_TIME = Column(
    "order_time",
    "BIGINT",
    "Running maximum of `timestamp` in the stream and chunk, ns; orders trades among book updates.",
)
EPOCH = Column("epoch", "BIGINT", "Number of restarts of the venue's ids before this row; 0 at first.")
SEQUENCE = Column("sequence", "BIGINT", "Last update id of a book update; trade id of a trade.")
SIDES = (
    scaled("bid_prices", "Bid prices", "price_scale", "ARRAY<BIGINT>"),
    scaled("bid_sizes", "Absolute sizes at `bid_prices`", "size_scale", "ARRAY<BIGINT>"),
    scaled("ask_prices", "Ask prices", "price_scale", "ARRAY<BIGINT>"),
    scaled("ask_sizes", "Absolute sizes at `ask_prices`", "size_scale", "ARRAY<BIGINT>"),
)
SIDE_NAMES = tuple(column.name for column in SIDES)
SOURCE_FILE = Column("source_file", "STRING", "Path of the raw file.")
SOURCE_ROW = Column("source_row", "BIGINT", "Line of the raw file, from 1.")

EVENT_DATA = (
    Column("is_snapshot", "BOOLEAN", "True: the levels are the whole book, not changes."),
    Column("first_sequence", "BIGINT", "First update id (Binance U); -1 if not given."),
    Column("prev_sequence", "BIGINT", "Last id of the message before (Binance pu); -1 if not given."),
    Column("damaged", "BOOLEAN", "True: a part of this message, or of one before it, is in quarantine."),
    Column("checksum", "BIGINT", "Unsigned CRC-32 of the book after this message; -1 if not given."),
    Column("price_digits", "BIGINT", "Decimals with which the checksum prints prices; -1: as few as needed."),
    Column("size_digits", "BIGINT", "Decimals with which the checksum prints sizes; -1: as few as needed."),
    Column(
        "kept_levels",
        "BIGINT",
        "Number of levels per side that the venue keeps after this message; -1: all levels.",
    ),
    *SIDES,
    Column("trade_id", "BIGINT", "The exchange's trade id; -1 for a book update."),
    Column("side", "STRING", "Aggressor: buy or sell; empty for a book update or a trade outside the book."),
    scaled("price", "Trade price (-1 for a book update)", "price_scale"),
    scaled("size", "Trade size (-1 for a book update)", "size_scale"),
)
"""Fields of `events.data`. A size of 0 deletes the level."""

EVENT_HEAD = (
    EXCHANGE,
    SYMBOL,
    DATE,
    HOUR,
    TIMESTAMP,
    RECEIVED,
    ORDER_TIME,
    Column("event_type", "STRING", "trade or book_update."),
    EPOCH,
    SEQUENCE,
    SOURCE_FILE,
    SOURCE_ROW,
)

FEED = Column("feed", "STRING", "A name of `schemas.feeds.FEEDS`.")
SCALES = (
    Column("price_scale", "INT", "Decimal digits of prices: value = integer / 10^price_scale."),
    Column("size_scale", "INT", "Decimal digits of sizes: value = integer / 10^size_scale."),
    Column(
        "is_decimal",
        "BOOLEAN",
        "True: prices and sizes need DECIMAL(38,18), and rows are in the tables `…_decimal`.",
    ),
)
