"""The job `export`: write published tables as plain files, then write a manifest that lists the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.exporting.manifest import make_manifest, sum_counts
from deltabook.jobs.exporting.options import ExportOptions
from deltabook.jobs.exporting.output_folder import OutputFolder
from deltabook.jobs.exporting.selection import filter_by_time, make_references, select_instruments
from deltabook.jobs.intake.instruments import Instrument
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.warehouse.tasks import GroupedWork, sum_file_sizes
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.exports import EXPORT_REFERENCES, EXPORTED
from deltabook.schemas.rows import ExportedRow, InstrumentRow
from deltabook.udfs.export.rows import ExportRequest
from deltabook.udfs.numbers.exported_numbers import type_of
from deltabook.udfs.spark.export_groups import export_groups


class ExportSummary(TypedDict):
    """Counts of an export, and the path of the manifest. The command `export` prints this dict as JSON.

    `conf/output.schema.json` describes each key.
    """

    manifest: str
    files: int
    rows: int
    bytes: int
    symbol_hours_left_out: int
    books_left_out: dict[str, int]
    instruments_left_out: list[str]


def export(warehouse: Warehouse, options: ExportOptions, progress: Progress) -> ExportSummary:
    """Write the published rows that the options select into a folder, and return counts.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse to export. The table versions that the last run published are read.
    options : ExportOptions
        The rows to export, their format and the output folder.
    progress : Progress
        The display that shows how many symbol-days are done. A symbol-day is one UTC day of one instrument.

    Returns
    -------
    ExportSummary
        Path of the manifest; counts of written files, rows and bytes; counts of omitted chunks and omitted
        books; and names of the omitted instruments.

    Raises
    ------
    SettingsError
        If the folder has files that are not part of an export, or if the numbers of all selected instruments
        are too wide for the format.
    WarehouseError
        If the warehouse has no matching instrument (the message lists the existing ones), or if there are no
        rows to write.
    InputError
        If the format is Tardis, and an instrument has no known name at Tardis.dev.
    """
    published = Warehouse(warehouse.spark, warehouse.settings, require_published(warehouse.root))
    instruments, too_wide = select_instruments(published, options)
    failed = {} if options.all_hours else published.failed_chunks()
    references = make_references(published, options, instruments, failed)
    left_out = [key for key in filter_by_time(published, options, failed) if key[:2] in instruments]
    with OutputFolder(options.out, options.replace) as folder:
        write = export_groups(_make_request(options, instruments, folder.staging))
        keys = ("exchange", "symbol", "date")
        days = len({(row["exchange"], row["symbol"], row["date"]) for row in references})
        costs = sum_file_sizes(references, "data_files")
        work = GroupedWork(EXPORT_REFERENCES, references, keys, write, EXPORTED, costs)
        with progress.stage("exporting", "symbol-days", days) as show:
            rows = [ExportedRow._make(row) for row in published.apply(work, show, folder.unfinished)]
        books_left_out = sum_counts(row.left_out for row in rows)
        files = sorted((row for row in rows if row.path), key=lambda row: row.path)
        if not files:
            raise WarehouseError(_describe_empty_export(options, len(left_out), books_left_out))
        failures = {key: failed[key] for key in left_out}
        folder.publish(make_manifest(published, options, files, failures, too_wide, books_left_out))
    return {
        "manifest": str(folder.manifest),
        "files": len(files),
        "rows": sum(file.rows for file in files),
        "bytes": sum(file.bytes for file in files),
        "symbol_hours_left_out": len(left_out),
        "books_left_out": books_left_out,
        "instruments_left_out": too_wide,
    }


def _make_request(
    options: ExportOptions, instruments: Mapping[Instrument, InstrumentRow], folder: Path
) -> ExportRequest:
    """Return the request for the workers, with decimal types that fit the numbers of all instruments."""
    scaled = [row for row in instruments.values() if not row["is_decimal"]]
    is_wide = len(scaled) < len(instruments)
    return ExportRequest(
        what=options.what,
        form=options.form,
        folder=str(folder),
        levels=options.level_count,
        since=options.since,
        until=options.until,
        has_unsound=options.all_hours,
        known_only=options.known_only,
        price_type=type_of([row["price_scale"] for row in scaled] or [0], is_wide),
        size_type=type_of([row["size_scale"] for row in scaled] or [0], is_wide),
    )


def _describe_empty_export(
    options: ExportOptions, failed_chunks: int, books_left_out: Mapping[str, int]
) -> str:
    """Return the error message of an export that has no rows to write; the message gives the reasons."""
    reasons = [f"{count:,} books are {status}" for status, count in books_left_out.items()]
    if failed_chunks:
        reasons.append(f"{failed_chunks:,} chunks failed validation, and --all would export them")
    if not reasons and options.has_time_limits:
        reasons.append("there are no rows between --from and --to")
    reason = "; ".join(reasons) or "the warehouse has none"
    return f"no {options.what} to export as {options.form}: {reason}"
