"""The job `sql`: every table as published, and views for people, as SQL."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import IO, Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, DataType, DecimalType, NumericType, StructType
from rich import box
from rich.table import Table as RichTable

from deltabook.jobs.console.printable import SafeConsole, printable, safe_stream
from deltabook.jobs.queries.allowed import allowed_query
from deltabook.jobs.queries.query_tree import AllowedQuery, UnknownRelationError
from deltabook.jobs.queries.views import BY_KIND, FAILED_HOURS, LIVE_BOOKS, Relations
from deltabook.jobs.tables.published import published_versions, require_published
from deltabook.jobs.tables.stored import LIVE, Stored, live_tables
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import DeltabookError
from deltabook.schemas.tables import BOOKS, TABLES

FORMATS = ("table", "csv", "json")
_OUTSIDE = ("spark.sql.runSQLOnFiles", "spark.sql.variable.substitute")
"""Settings of Spark that let a text name files, and environment variables that are put into it."""


class QueryError(DeltabookError):
    """The query cannot be run; the text is Spark's first line."""


def query(warehouse: Warehouse, text: str, unsafe: bool = False) -> DataFrame:
    """Prepare a query over the published tables and views.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse to read, and the Spark session to read it in.
    text : str
        One SQL statement.
    unsafe : bool
        Whether the statement may do anything that Spark can: it is run as typed. Otherwise it is checked, and
        what is run is generated from its parsed form.

    Returns
    -------
    DataFrame
        The result, not yet computed.

    Raises
    ------
    WarehouseError
        If nothing was published yet.
    QueryError
        If the statement is not valid; names the relations there are.
    ForbiddenQueryError
        If it would do more than read the warehouse, and is not to be `unsafe`.
    """
    try:
        checked = None if unsafe else allowed_query(text)
    except UnknownRelationError as error:
        raise QueryError(f"{error}\n{_relation_names()}") from None
    published = _published(warehouse.root)
    relations = Relations(Stored(warehouse.root, published))
    checked = checked or AllowedQuery(text, relations.mentioned(text))
    _create_views(warehouse, published, relations, checked.relations)
    spark = warehouse.spark
    for setting in _OUTSIDE:
        spark.conf.set(setting, unsafe)
    try:
        return spark.sql(checked.text)
    except (AnalysisException, ParseException) as error:
        reason = str(error).strip().splitlines()[0]
        raise QueryError(f"{reason}\n{_relation_names()}") from None
    finally:
        for setting in _OUTSIDE:
            spark.conf.unset(setting)


def _relation_names() -> str:
    """Return the names of all relations, a line for each kind."""
    return "\n".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in BY_KIND.items())


def _create_views(
    warehouse: Warehouse, published: dict[str, int], relations: Relations, names: frozenset[str]
) -> None:
    """Create the temporary views and functions that a query needs."""
    spark = warehouse.spark
    shown = Warehouse(spark, warehouse.settings, published)
    live = Warehouse(spark, warehouse.settings.model_copy(update={"warehouse": warehouse.root / LIVE}))
    for name in relations.needed(names):
        if name in TABLES:
            shown.read(TABLES[name]).createOrReplaceTempView(name)
        elif name in LIVE_BOOKS:
            live.read(LIVE_BOOKS[name]).createOrReplaceTempView(name)
        else:
            spark.sql(relations.statement(name))


def left_out(warehouse: Warehouse, text: str, unsafe: bool = False) -> str:
    """Describe the symbol-hours that a query did not see because a suite has failed them.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse that was read.
    text : str
        The query.
    unsafe : bool
        Whether it was run as typed.

    Returns
    -------
    str
        A line for people; empty if the query has seen all.
    """
    stored = Stored(warehouse.root, _published(warehouse.root))
    relations = Relations(stored)
    names = relations.mentioned(text) if unsafe else allowed_query(text).relations
    if FAILED_HOURS not in relations.needed(names) or not (failed := stored.failed_hours()):
        return ""
    return (
        f"without {len(failed):,} symbol-hours that failed validation: book_all, book_wide_all and "
        "trades_all have them, verdicts the reasons"
    )


def _published(root: Path) -> dict[str, int]:
    """Return the published versions; there may be none where there are live books."""
    is_live = live_tables(root).exists(BOOKS)
    return published_versions(root) if is_live else require_published(root)


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
        writer = csv.writer(safe_stream(out))
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
            # Made printable here as well, so that columns are as wide as what is shown.
            table.add_row(*(printable(_text(value)) for value in row))
            count += 1
        width = None if out.isatty() else 10_000
        SafeConsole(file=out, markup=False, width=width).print(table)
    return count


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
