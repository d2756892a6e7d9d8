"""The manifest of an export: a JSON document that lists its files, its columns and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from deltabook.jobs.console.formats import format_chunk, format_time
from deltabook.jobs.exporting.options import ExportOptions
from deltabook.jobs.tables.stored import ChunkKey, TableReader
from deltabook.schemas.columns import Column
from deltabook.schemas.exports import COLUMNS, FOREIGN, OF_LEVELS, PARTITIONS, Form
from deltabook.schemas.names import INT64_MAX
from deltabook.schemas.rows import ExportedRow
from deltabook.schemas.tables import RUNS


def make_manifest(
    tables: TableReader,
    options: ExportOptions,
    files: Sequence[ExportedRow],
    failed: Mapping[ChunkKey, Sequence[str]],
    instruments_left_out: Sequence[str],
    books_left_out: Mapping[str, int],
) -> dict[str, Any]:
    """Return the manifest of an export.

    Parameters
    ----------
    tables : TableReader
        The published tables that were exported.
    options : ExportOptions
        Options of the export.
    files : sequence of ExportedRow
        The exported files. The manifest lists them in this order.
    failed : mapping
        Chunks that were left out because they failed validation: reasons by (exchange, symbol, chunk).
    instruments_left_out : sequence of str
        Instruments that were left out because the format cannot hold their numbers.
    books_left_out : mapping
        Number of books that were left out because the format cannot hold them, by status.

    Returns
    -------
    dict
        The manifest, ready for JSON. Times are ISO 8601 text, UTC.
    """
    columns = FOREIGN[options.form] if options.form in FOREIGN else COLUMNS[options.what]
    return {
        "deltabook": version("deltabook"),
        "run_id": _find_run_id(tables),
        "versions": dict(sorted((tables.versions_read or {}).items())),
        "what": options.what,
        "format": options.form,
        "symbols": [*options.symbols],
        "exchange": options.exchange,
        "from": format_time(options.since) if options.since else None,
        "to": format_time(options.until) if options.until < INT64_MAX else None,
        "levels": options.level_count if options.form in OF_LEVELS else None,
        "partitions": [*PARTITIONS] if options.form is Form.PARQUET else [],
        "columns": [
            {"name": column.name, "type": _get_type(column), "doc": _get_description(column)}
            for column in columns
        ],
        "rows": sum(file.rows for file in files),
        "rows_by_status": sum_counts(file.statuses for file in files),
        "hours_left_out": [
            {"exchange": exchange, "symbol": symbol, "hour": format_chunk(chunk), "reasons": reasons}
            for (exchange, symbol, chunk), reasons in failed.items()
        ],
        "instruments_left_out": [*instruments_left_out],
        "files": [_describe_file(file, options.form) for file in files],
        "books_left_out": dict(books_left_out),
    }


def sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of several counts for each name.

    Parameters
    ----------
    counts : iterable of mapping
        Mappings of names to numbers.

    Returns
    -------
    dict
        Sum by name, sorted by name.
    """
    totals: Counter[str] = Counter()
    for numbers in counts:
        totals.update(numbers)
    return dict(sorted(totals.items()))


def _find_run_id(tables: TableReader) -> str:
    """Return the id of the newest run that published the exported table versions.

    Another run may have published since, so the newest run of all is not necessarily the right one.
    """
    versions = tables.versions_read or {}
    runs = [row for row in tables.rows(RUNS) if dict(row["versions"]) == versions]
    return str(max(runs, key=lambda row: row["finished"])["run_id"])


def _describe_file(file: ExportedRow, form: Form) -> dict[str, Any]:
    """Return the manifest's entry of one file."""
    entry: dict[str, Any] = {
        "path": file.path,
        "rows": file.rows,
        "bytes": file.bytes,
        "sha256": file.sha256,
        "exchange": file.exchange,
        "symbol": file.symbol,
        "date": file.date,
        "first_time": format_time(file.first_time),
        "last_time": format_time(file.last_time),
        "rows_by_status": dict(file.statuses),
        "books_left_out": dict(file.left_out),
    }
    return entry | ({"shift": file.shift} if form is Form.HFTBACKTEST else {})


def _get_type(column: Column) -> str:
    """Return the type of a column in the exported files; a scaled integer becomes a decimal."""
    return column.type.replace("BIGINT", "DECIMAL") if column.scale else column.type


def _get_description(column: Column) -> str:
    """Return the description of a column in the exported files; a scaled integer becomes a decimal."""
    if not column.scale:
        return column.doc
    unit = "units of price" if column.scale == "price_scale" else "units of size"
    return column.doc.replace(f"scaled by 10^{column.scale}", f"exact, in {unit}")
