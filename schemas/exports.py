"""Exports: the kinds of data that can be exported, their formats, and the columns of each format."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from deltabook.schemas.columns import (
    DATE,
    EPOCH,
    EVENT_DATA,
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
)
from deltabook.schemas.frames import VENDOR_COLUMNS
from deltabook.schemas.tables import BOOKS


class What(StrEnum):
    """Kind of data that can be exported."""

    BOOKS = "books"
    FEATURES = "features"
    EVENTS = "events"
    TRADES = "trades"


class Form(StrEnum):
    """Format of an export."""

    PARQUET = "parquet"
    CRYPTO_LAKE = "crypto_lake"
    TARDIS = "tardis"
    HFTBACKTEST = "hftbacktest"


FORMS = {
    What.BOOKS: (Form.PARQUET, Form.CRYPTO_LAKE, Form.TARDIS),
    What.FEATURES: (Form.PARQUET,),
    What.EVENTS: (Form.PARQUET, Form.HFTBACKTEST),
    What.TRADES: (Form.PARQUET,),
}
"""Formats in which each kind of data can be exported."""
OF_LEVELS = (Form.CRYPTO_LAKE, Form.TARDIS)
"""Formats that have separate columns for each level of a book."""
IN_DOUBLES = (Form.CRYPTO_LAKE, Form.HFTBACKTEST)
"""Formats whose prices and sizes are doubles. These formats cannot hold DECIMAL(38,18)."""

PARTITIONS = ("exchange", "symbol", "date")
"""Partition folders of plain Parquet. The date is the UTC day of the column `hour`."""

_BOOKS = {column.name: column for column in BOOKS.columns}
_TIME = Column("time", "TIMESTAMP", "`timestamp`, or `order_time` if no timestamp is given; µs, UTC.")
_PLACE = (TIMESTAMP, RECEIVED, ORDER_TIME, EPOCH, HOUR)
_ID = _BOOKS["sequence"]
_TRADES_SINCE = tuple(_BOOKS[name] for name in ("trade_count", "buy_volume", "sell_volume"))
MID = "mid"
"""Name of the mid column, whose values have one decimal more than prices."""
_MICROPRICE = Column(
    "microprice", "DOUBLE", "Mid weighted by the other side's size, in units of price; null as `mid`."
)
_MID = scaled(MID, "Half the sum of the best prices; null if a side is empty", "price_scale")

COLUMNS = {
    What.BOOKS: (
        _TIME,
        _BOOKS["status"],
        scaled("bid_size", "Size at the best bid; null if there is none", "size_scale"),
        scaled("bid_price", "Best bid; null if there is none", "price_scale"),
        scaled("ask_price", "Best ask; null if there is none", "price_scale"),
        scaled("ask_size", "Size at the best ask; null if there is none", "size_scale"),
        scaled("spread", "Best ask less best bid; null if a side is empty", "price_scale"),
        _MID,
        _MICROPRICE,
        *SIDES,
        _BOOKS["bid_levels"],
        _BOOKS["ask_levels"],
        _BOOKS["bid_known_levels"],
        _BOOKS["ask_known_levels"],
        *_TRADES_SINCE,
        _BOOKS["ofi"],
        _BOOKS["crossed"],
        _ID,
        *_PLACE,
        _BOOKS["cadence"],
    ),
    What.FEATURES: (
        _TIME,
        _BOOKS["status"],
        scaled("spreads", "Ask less bid, level by level", "price_scale", "ARRAY<BIGINT>"),
        _MID,
        _MICROPRICE,
        Column("imbalance", "DOUBLE", "(bid - ask) / (bid + ask) of the best sizes, -1 to 1."),
        Column(
            "depth_imbalance",
            "DOUBLE",
            "(bid - ask) / (bid + ask) of the summed sizes of all levels in the row.",
        ),
        _BOOKS["ofi"],
        Column("ofi_total", "DOUBLE", "Sum of `ofi`, in units of size."),
        *_TRADES_SINCE,
        _ID,
        *_PLACE,
    ),
    What.EVENTS: (
        _TIME,
        Column("event_type", "STRING", "trade or book_update."),
        Column("sequence", "BIGINT", "Last update id of a book update; trade id of a trade."),
        *(
            replace(column, doc=column.doc.replace("(-1 for a book update)", "(null for a book update)"))
            for column in EVENT_DATA
        ),
        *_PLACE,
        SOURCE_FILE,
        SOURCE_ROW,
    ),
    What.TRADES: (
        _TIME,
        *(column for column in EVENT_DATA if column.name == "side"),
        scaled("price", "Trade price", "price_scale"),
        scaled("size", "Trade size", "size_scale"),
        Column("trade_id", "BIGINT", "The exchange's trade id."),
        *_PLACE,
    ),
}
"""Columns of plain Parquet exports, the same as in the SQL views.

Prices and sizes (columns with a scale) are exact decimals in the exports and views.
"""

LAKE_COLUMNS = (
    Column("origin_time", "TIMESTAMP", "Exchange's event time, ns, UTC; null if not given."),
    Column("received_time", "TIMESTAMP", "Recorder's receive time, ns, UTC; null if not given."),
    Column("sequence_number", "BIGINT", _ID.doc),
    Column(
        "bid_0_price, bid_0_size, …, ask_N_size",
        "DOUBLE",
        "Level by level, best first; the double nearest to the decimal, in units of price and size; null "
        "beyond the last level.",
    ),
)
TARDIS_COLUMNS = (
    Column("exchange", "STRING", "As Tardis spells it."),
    Column("symbol", "STRING", "As the exchange spells it."),
    Column("timestamp", "BIGINT", "Exchange's event time, µs since 1970 UTC; else local_timestamp."),
    Column("local_timestamp", "BIGINT", "Recorder's receive time, µs since 1970 UTC; else timestamp."),
    Column(
        "asks[0].price, asks[0].amount, bids[0].price, …",
        "DECIMAL",
        "Level by level, best first, exact, in units of price and size; empty beyond the last level.",
    ),
)
HFTBACKTEST_COLUMNS = (
    Column("ev", "UBIGINT", "Flags: kind (1 change, 2 trade, 3 clear, 4 snapshot), side, who sees it."),
    Column("exch_ts", "BIGINT", "order_time, ns since 1970 UTC; never falls."),
    Column("local_ts", "BIGINT", "Receive time plus `shift` (see `files`), ns since 1970 UTC."),
    Column("px", "DOUBLE", "Price; NaN for the kind clear, which empties the side."),
    Column("qty", "DOUBLE", "Size; 0 deletes the level."),
    Column("order_id", "UBIGINT", "Always 0."),
    Column("ival", "BIGINT", "Always 0."),
    Column("fval", "DOUBLE", "Always 0."),
)
FOREIGN = {
    Form.CRYPTO_LAKE: LAKE_COLUMNS,
    Form.TARDIS: TARDIS_COLUMNS,
    Form.HFTBACKTEST: HFTBACKTEST_COLUMNS,
}
"""Columns of the formats that other projects and vendors define."""

EXPORT_REFERENCES = Table(
    "export_references",
    "One chunk of one instrument to export: the files to read.",
    (
        EXCHANGE,
        SYMBOL,
        replace(DATE, type="STRING"),
        HOUR,
        FEED,
        *SCALES,
        Column("data_files", "ARRAY<STRING>", "Data files of `books` or `events` with rows of the chunk."),
        Column("book_files", "ARRAY<STRING>", "For an export of events: data files of `books` of the chunk."),
        Column(
            "checkpoint_file",
            "STRING",
            "For an export of events: data file with the book before the chunk; empty if there is none.",
        ),
        Column("follows", "BOOLEAN", "True: the export also has the chunk before, which is of the same day."),
        Column("is_last", "BOOLEAN", "True: the instrument has no later chunk."),
        *VENDOR_COLUMNS,
    ),
)

EXPORTED = Table(
    "exported",
    "One file that was exported.",
    (
        EXCHANGE,
        SYMBOL,
        replace(DATE, type="STRING"),
        Column("path", "STRING", "Path below the folder of the export; empty if there were no rows."),
        Column("rows", "BIGINT", "Number of rows in the file."),
        Column("bytes", "BIGINT", "Size of the file."),
        Column("sha256", "STRING", "SHA-256 of the file's bytes, in hex."),
        Column("first_time", "BIGINT", "order_time of the first row, ns since 1970 UTC; -1 if none."),
        Column("last_time", "BIGINT", "order_time of the last row, ns since 1970 UTC; -1 if none."),
        Column("statuses", "MAP<STRING, BIGINT>", "Number of rows by status; empty if rows have no status."),
        Column("left_out", "MAP<STRING, BIGINT>", "Number of rows or book updates left out, by status."),
        Column("shift", "BIGINT", "Time that was added to every receive time, ns."),
    ),
)
"""The frame that a worker returns after it exports one UTC day of an instrument."""
