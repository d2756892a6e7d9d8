"""The command `export`, which writes tables of a warehouse as plain files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltabook.jobs.cli.app import (
    ConfigOption,
    JarsOption,
    JsonOption,
    MasterOption,
    WarehouseOption,
    check_out_path,
    command,
    with_default,
)
from deltabook.jobs.pipeline.stages import (
    open_warehouse,
    print_result,
    read_settings,
    report_errors,
    stderr_console,
)

if TYPE_CHECKING:  # this module imports Spark, which commands load only when they need it
    from deltabook.jobs.exporting.export import ExportSummary


@command(
    "deltabook export books --out books-2024",
    "deltabook export books --out lake --format crypto_lake --symbol BTC-USDT",
    "deltabook export events --out replayed --format hftbacktest",
)
def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT", help="Rows to export: books, features, events or trades.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Folder for the files: a new or an empty folder.",
            show_default=False,
            callback=check_out_path,
        ),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORM",
            help="parquet; for books also crypto_lake or tardis; for events also hftbacktest.",
        ),
    ] = "parquet",
    symbols: Annotated[
        list[str] | None,
        typer.Option(
            "--symbol",
            metavar="SYMBOL",
            help=with_default("Symbol to export; may be given several times.", "all"),
        ),
    ] = None,
    exchange: Annotated[
        str | None,
        typer.Option("--exchange", metavar="NAME", help=with_default("Exchange to export.", "all")),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help=with_default("Export rows from this time on: ISO 8601 (UTC) or Unix time.", "all"),
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help=with_default("Export rows before this time.", "all")),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            "--levels",
            metavar="COUNT",
            min=1,
            help=with_default("Levels per side in the formats crypto_lake and tardis.", "20"),
        ),
    ] = None,
    all_hours: Annotated[
        bool, typer.Option("--all", help="Export chunks that failed validation, and unsound books, too.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an earlier export in the folder.")
    ] = False,
    known: Annotated[bool, typer.Option("--known", help="Cut books to their known levels.")] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write published tables as plain files: Parquet, or the formats of other programs."""
    from deltabook.jobs.console.formats import parse_time
    from deltabook.jobs.console.progress import Progress
    from deltabook.jobs.exporting.export import export
    from deltabook.jobs.exporting.options import make_export_options
    from deltabook.schemas.names import INT64_MAX

    settings = read_settings(config, warehouse=warehouse, master=master, jars=jars)
    with report_errors():
        options = make_export_options(
            what,
            form,
            out=out,
            symbols=symbols or (),
            exchange=exchange,
            since=0 if since is None else parse_time(since),
            until=INT64_MAX if until is None else parse_time(until),
            levels=levels,
            all_hours=all_hours,
            replace=replace,
            known_only=known,
        )
        opened = open_warehouse(settings)
        result = export(opened, options, Progress(opened.spark, stderr_console))
    for line in _format_lines(result):
        stderr_console.print(line, markup=False, soft_wrap=True)
    print_result(result, as_json)


def _format_lines(result: ExportSummary) -> list[str]:
    """Return lines about chunks, books and instruments that the export omitted, and about the new files."""
    lines = []
    if count := result["symbol_hours_left_out"]:
        lines.append(f"left out     {count:,} chunks that failed validation; --all exports them")
    for status, count in result["books_left_out"].items():
        lines.append(f"left out     {count:,} {status} books")
    for name in result["instruments_left_out"]:
        lines.append(f"left out     {name}: numbers need DECIMAL(38,18), which this format cannot store")
    counts = f"{result['rows']:,} rows in {result['files']:,} files, {result['bytes']:,} bytes"
    return [*lines, f"exported     {counts}: {result['manifest']}"]
