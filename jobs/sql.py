"""The job `sql`: every table as published, and views for people, as SQL."""

from __future__ import annotations

import csv
import json
import re
from typing import IO, Any

import pyarrow as pa
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, DecimalType, NumericType, StructType
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from deltabook.expectations.suites import ERRORED, FAILED
from deltabook.jobs.published import require_published
from deltabook.jobs.stored import KEYS, Slice
from deltabook.jobs.warehouse import Warehouse
from deltabook.schemas.columns import SIDES, Table
from deltabook.schemas.errors import DeltabookError
from deltabook.schemas.names import ALL_HOURS, EventType
from deltabook.schemas.tables import BOOKS, EVENTS, GRIDS, INSTRUMENTS, TABLES, VERDICTS, both

FORMATS = ("table", "csv", "json")
_VIEWS = {
    **{"book": BOOKS, "book_all": BOOKS, "features": BOOKS, "grid": GRIDS},
    **{"trades": EVENTS, "trades_all": EVENTS},
}
"""Views for people, each of one table or of the one of decimals beside it."""
_PASSED = ("book", "trades")
"""Views without the symbol-hours that a suite has failed; the others have all."""
_WORD = re.compile(r"\w+")
_INT64_DIGITS = 19
_KEY_TYPES = ("STRING", "STRING", "BIGINT")


class QueryError(DeltabookError):
    """The query cannot be run; the text is Spark's first line."""


def query(warehouse: Warehouse, text: str) -> DataFrame:
    """Prepare a query over the published tables and views.

    Parameters
    ----------
    warehouse : Warehouse
        Whose tables.
    text : str
        One SQL statement.

    Returns
    -------
    DataFrame
        Not yet run.

    Raises
    ------
    WarehouseError
        If nothing was published yet.
    QueryError
        If the statement is not valid; names the views there are.
    """
    published = require_published(warehouse.root)
    register_views(
        Warehouse(warehouse.spark, warehouse.settings, published), set(_WORD.findall(text.lower()))
    )
    try:
        return warehouse.spark.sql(text)
    except (AnalysisException, ParseException) as error:
        names = ", ".join(sorted([*TABLES, *_VIEWS]))
        raise QueryError(f"{str(error).strip().splitlines()[0]}\ntables and views: {names}") from None


def register_views(warehouse: Warehouse, words: set[str]) -> None:
    """Register the tables, and over them the views `book`, `grid`, `features` and `trades`, exact decimals.

    `book` and `trades` are without the symbol-hours that a suite has failed; `book_all`, `trades_all` with.

    `book`: one row of `books` or `books_decimal`, with `time` (to the µs), the best bid and ask, spread,
    mid, and the levels as arrays. `grid`: the same of `grids`. `trades`: one trade a row.

    Parameters
    ----------
    warehouse : Warehouse
        Reads the published versions.
    words : set of str
        Only those that are among them are registered (each takes a fifth of a second); all if `show` is.
    """
    every = {*TABLES, *_VIEWS}
    named = every if "show" in words else words & every
    if not named:
        return
    under = [_VIEWS[name] for name in _VIEWS if name in named]
    warehouse.register_views({*named & TABLES.keys(), *(one.name for table in under for one in both(table))})
    spark = warehouse.spark
    known = [row for row in warehouse.rows(INSTRUMENTS) if not row["is_decimal"]]
    numbers = {name: _Decimals(name, [row[name] for row in known]) for name in ("price_scale", "size_scale")}
    rows = spark.createDataFrame(pa.Table.from_pylist(known, INSTRUMENTS.arrow), INSTRUMENTS.ddl)
    instruments = F.broadcast(rows.select("exchange", "symbol", *numbers))
    for view, table in _VIEWS.items():
        if view not in named:
            continue
        columns = _trade_columns if table is EVENTS else _book_columns
        scaled, decimal = both(table)
        rows = columns(spark.table(scaled.name).join(instruments, ["exchange", "symbol"]), scaled, numbers)
        if warehouse.exists(decimal):
            wide = columns(spark.table(decimal.name), decimal, None)
            rows = rows.select(*(F.col(one.name).cast(one.dataType) for one in wide.schema)).union(wide)
        rows = _features(rows) if view == "features" else rows
        failed = _failed(warehouse) if view in _PASSED else []
        if failed:
            shape = ", ".join(f"{name} {type_of}" for name, type_of in zip(KEYS, _KEY_TYPES, strict=True))
            rows = rows.join(F.broadcast(spark.createDataFrame(failed, shape)), [*KEYS], "left_anti")
        rows.createOrReplaceTempView(view)


def _failed(warehouse: Warehouse) -> list[Slice]:
    """List the symbol-hours that a suite has failed, as published."""
    rows = warehouse.rows(VERDICTS, *KEYS, "verdict")
    bad = (FAILED, ERRORED)
    return sorted(
        {
            (row["exchange"], row["symbol"], row["hour"])
            for row in rows
            if row["verdict"] in bad and row["hour"] != ALL_HOURS
        }
    )


def left_out(warehouse: Warehouse, text: str) -> str:
    """Tell what a query did not see: the symbol-hours that a suite has failed; empty if it saw all.

    Parameters
    ----------
    warehouse : Warehouse
        Whose tables.
    text : str
        The query.
    """
    views = [view for view in _PASSED if view in _WORD.findall(text.lower())]
    if not views:
        return ""
    failed = _failed(Warehouse(warehouse.spark, warehouse.settings, require_published(warehouse.root)))
    if not failed:
        return ""
    others = " or ".join(f"{view}_all" for view in views)
    return (
        f"{' and '.join(views)} without {len(failed):,} symbol-hours that failed validation: ask {others} "
        "for them, and verdicts for the reasons"
    )


def _features(book: DataFrame) -> DataFrame:
    """Return the columns of the view `features`, all but `spreads`, `mid` and `ofi` in doubles.

    `spreads`: ask less bid, level by level, in units of price. `mid`: half the sum of the best prices.
    `microprice`: ``(bid * ask_size + ask * bid_size) / (bid_size + ask_size)``, the mid weighted by the
    other side's size (Gatheral and Oomen 2010). `imbalance`: ``(bid_size - ask_size) / (bid_size +
    ask_size)`` at the best level, -1 to 1; `depth_imbalance`: the same of all levels shown. `ofi`: order
    flow imbalance by level since the row before, in units of size, see `udfs.orderflow`; `ofi_total`:
    its sum.
    """
    bid, ask, bid_size, ask_size = (
        F.col(name).cast("double") for name in ("bid_price", "ask_price", "bid_size", "ask_size")
    )
    bids, asks = (F.aggregate(f"{side}_sizes", F.lit(0.0), _plus) for side in ("bid", "ask"))
    shared = F.least(F.size("bid_prices"), F.size("ask_prices"))
    spreads = F.slice(
        F.zip_with("ask_prices", "bid_prices", lambda one, other: one - other), F.lit(1), shared
    )
    return book.select(
        *("exchange", "symbol", "time", "status"),
        spreads.alias("spreads"),
        "mid",
        F.try_divide(bid * ask_size + ask * bid_size, bid_size + ask_size).alias("microprice"),
        F.try_divide(bid_size - ask_size, bid_size + ask_size).alias("imbalance"),
        F.try_divide(bids - asks, bids + asks).alias("depth_imbalance"),
        "ofi",
        F.aggregate("ofi", F.lit(0.0), _plus).alias("ofi_total"),
        *("trade_count", "buy_volume", "sell_volume", "sequence", "order_time", "epoch", "hour", "date"),
    )


def _plus(total: Column, value: Column) -> Column:
    return total + value.cast("double")


def _book_columns(books: DataFrame, table: Table, numbers: dict[str, _Decimals] | None) -> DataFrame:
    """Return the columns of the view `book`, of books of scaled integers or of decimals."""
    for column in table.columns:
        if numbers and column.scale:
            exact = numbers[column.scale]
            value = exact.array if column.type.startswith("ARRAY") else exact.value
            books = books.withColumn(column.name, value(column.name))
    for side in ("bid", "ask"):
        for what in ("price", "size"):
            books = books.withColumn(f"{side}_{what}", F.get(f"{side}_{what}s", F.lit(0)))
    bid, ask = F.col("bid_price"), F.col("ask_price")
    spread = ask - bid
    if not numbers:
        # So that half a sum is exact in 38 digits; prices too long for that have neither mid nor spread.
        bid, ask = (price.try_cast("decimal(35,18)") for price in (bid, ask))
        spread = (ask - bid).cast("decimal(38,18)")
    return books.select(
        "exchange",
        "symbol",
        _event_time().alias("time"),
        "status",
        "bid_size",
        "bid_price",
        "ask_price",
        "ask_size",
        spread.alias("spread"),
        ((ask + bid) * F.lit("0.5").cast("decimal(1,1)")).alias("mid"),
        *(column.name for column in SIDES),
        "bid_levels",
        "ask_levels",
        "trade_count",
        "buy_volume",
        "sell_volume",
        "ofi",
        "crossed",
        "sequence",
        "timestamp",
        "received",
        "order_time",
        "epoch",
        "hour",
        "date",
        "cadence",
    )


def _trade_columns(events: DataFrame, table: Table, numbers: dict[str, _Decimals] | None) -> DataFrame:
    """Return the columns of the view `trades`, of events of scaled integers or of decimals."""
    price, size = F.col("data.price"), F.col("data.size")
    if numbers:
        price, size = numbers["price_scale"].value("data.price"), numbers["size_scale"].value("data.size")
    return events.where(F.col("event_type") == EventType.TRADE).select(
        "exchange",
        "symbol",
        _event_time().alias("time"),
        "data.side",
        price.alias("price"),
        size.alias("size"),
        "data.trade_id",
        "timestamp",
        "received",
        "order_time",
        "hour",
        "date",
    )


def show(result: DataFrame, form: str, out: IO[str]) -> int:
    """Print a result.

    Parameters
    ----------
    result : DataFrame
        What to run and print.
    form : str
        table, csv or json (one object a line).
    out : text file
        Where to.

    Returns
    -------
    int
        Rows printed.
    """
    names, kinds, count = result.columns, [field.dataType for field in result.schema], 0
    rows = (
        [_plain(value, kind) for value, kind in zip(row, kinds, strict=True)]
        for row in result.toLocalIterator()
    )
    if form == "csv":
        writer = csv.writer(out)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_text(value) for value in row])
            count += 1
    elif form == "json":
        for row in rows:
            out.write(json.dumps(dict(zip(names, row, strict=True)), default=str) + "\n")
            count += 1
    else:
        table = RichTable(*names, box=box.SIMPLE, show_edge=False, header_style="bold")
        for column, kind in zip(table.columns, kinds, strict=True):
            column.justify = "right" if isinstance(kind, NumericType) else "left"
        for row in rows:
            table.add_row(*(_text(value) for value in row))
            count += 1
        width = None if out.isatty() else 10_000
        Console(file=out, markup=False, width=width).print(table)
    return count


class _Decimals:
    """Scaled integers as exact decimals: DECIMAL(19,0) times a literal for each scale there is."""

    def __init__(self, column: str, scales: list[int]):
        self.column = column
        self.scales = sorted(set(scales)) or [0]

    def value(self, name: str) -> Any:
        return self._of(F.col(name))

    def array(self, name: str) -> Any:
        return F.transform(name, self._of)

    def _of(self, scaled: Any) -> Any:
        # Any int64 at any of these scales, and not a digit more: wider types lose decimals in a difference.
        kind = f"decimal({_INT64_DIGITS - self.scales[0] + self.scales[-1]},{self.scales[-1]})"
        chosen = F.lit(None)
        for scale in self.scales:
            # DECIMAL(19,0) times DECIMAL(s+1,s) is exact in DECIMAL(20+s,s).
            unit = F.lit(f"1E-{scale}").cast(f"decimal({scale + 1},{scale})")
            exact = (scaled.cast(f"decimal({_INT64_DIGITS},0)") * unit).cast(kind)
            chosen = F.when(F.col(self.column) == scale, exact).otherwise(chosen)
        return chosen


def _event_time() -> Any:
    """Return the exchange's time, or that of the message's place in the feed if it has none."""
    time = "CASE WHEN timestamp = -1 THEN order_time ELSE timestamp END"
    return F.timestamp_micros(F.expr(f"{time} div 1000"))  # `/` would go through double


def _plain(value: Any, kind: DataType) -> Any:
    """Make a value printable: decimals with all the digits of their type, structs as dicts."""
    if value is None:
        return None
    if isinstance(kind, DecimalType):
        return f"{value:.{kind.scale}f}"
    if isinstance(kind, ArrayType):
        return [_plain(item, kind.elementType) for item in value]
    if isinstance(kind, StructType):
        return {field.name: _plain(value[field.name], field.dataType) for field in kind}
    return value


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, default=str)
    return "" if value is None else str(value)


if __name__ == "__main__":
    from deltabook.jobs.cli import main

    main("sql")
