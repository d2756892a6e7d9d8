"""The manifest of an export: a JSON document that lists the files, their columns and all omissions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import NotRequired, TypedDict

from deltabook.jobs.console.formats import format_chunk, format_time
from deltabook.jobs.exporting.options import ExportOptions
from deltabook.jobs.tables.stored import ChunkKey, TableReader
from deltabook.schemas.columns import Column
from deltabook.schemas.exports import COLUMNS, FOREIGN, OF_LEVELS, PARTITIONS, Form
from deltabook.schemas.names import INT64_MAX
from deltabook.schemas.rows import ExportedRow
from deltabook.schemas.tables import RUNS


class ColumnEntry(TypedDict):
    """Name, type and description of one column of the exported files."""

    name: str
    type: str
    doc: str


class FailedChunkEntry(TypedDict):
    """A chunk that was left out because it failed validation."""

    exchange: str
    symbol: str
    hour: str
    reasons: Sequence[str]


class FileEntry(TypedDict):
    """One exported file. `schemas.exports.EXPORTED` describes the fields; times are ISO 8601 text, UTC."""

    path: str
    rows: int
    bytes: int
    sha256: str
    exchange: str
    symbol: str
    date: str
    first_time: str
    last_time: str
    rows_by_status: dict[str, int]
    books_left_out: dict[str, int]
    shift: NotRequired[int]


Manifest = TypedDict(
    "Manifest",
    {
        "deltabook": str,
        "run_id": str,
        "versions": dict[str, int],
        "what": str,
        "format": str,
        "symbols": list[str],
        "exchange": str | None,
        "from": str | None,
        "to": str | None,
        "levels": int | None,
        "partitions": list[str],
        "columns": list[ColumnEntry],
        "rows": int,
        "rows_by_status": dict[str, int],
        "hours_left_out": list[FailedChunkEntry],
        "instruments_left_out": list[str],
        "files": list[FileEntry],
        "books_left_out": dict[str, int],
    },
)
"""The manifest as a dict that `json` can write. `make_manifest` describes the content."""


def make_manifest(
    tables: TableReader,
    options: ExportOptions,
    files: Sequence[ExportedRow],
    failed: Mapping[ChunkKey, Sequence[str]],
    instruments_left_out: Sequence[str],
    books_left_out: Mapping[str, int],
) -> Manifest:
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
        Chunks that were left out because they failed validation: maps (exchange, symbol, chunk start) to the
        reasons.
    instruments_left_out : sequence of str
        Instruments that were left out because the format cannot hold their numbers.
    books_left_out : mapping
        Books that were left out because the format cannot represent their status: maps the status to the
        number of books.

    Returns
    -------
    Manifest
        Version of deltabook, run and table versions, options of the export, columns, files and omissions.
        Times are ISO 8601 text, UTC.
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
    """Add the counts of each name over several mappings.

    Parameters
    ----------
    counts : iterable of mapping
        Each mapping maps names to counts, such as each status to the number of rows in one file.

    Returns
    -------
    dict
        Maps each name to the sum of its counts; sorted by name.
    """
    totals: Counter[str] = Counter()
    for numbers in counts:
        totals.update(numbers)
    return dict(sorted(totals.items()))


def _find_run_id(tables: TableReader) -> str:
    """Return the id of the newest run that published the exported table versions.

    This run need not be the newest run of the warehouse, because another run may end during the export.
    """
    versions = tables.versions_read or {}
    runs = [row for row in tables.rows(RUNS) if dict(row["versions"]) == versions]
    return str(max(runs, key=lambda row: row["finished"])["run_id"])


def _describe_file(file: ExportedRow, form: Form) -> FileEntry:
    """Return the entry of one file in the manifest."""
    entry: FileEntry = {
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
    if form is Form.HFTBACKTEST:
        entry["shift"] = file.shift
    return entry


def _get_type(column: Column) -> str:
    """Return the type of a column in the exported files, which have decimals instead of scaled integers."""
    return column.type.replace("BIGINT", "DECIMAL") if column.scale else column.type


def _get_description(column: Column) -> str:
    """Return the description of a column in the files, which have decimals instead of scaled integers."""
    if not column.scale:
        return column.doc
    unit = "units of price" if column.scale == "price_scale" else "units of size"
    return column.doc.replace(f"scaled by 10^{column.scale}", f"exact, in {unit}")
