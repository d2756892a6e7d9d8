"""The command that takes data out of a warehouse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltabook.jobs.cli.app import (
    ConfigOption,
    JarsOption,
    JsonOption,
    MasterOption,
    WarehouseOption,
    app,
    examples,
    out_path,
)
from deltabook.jobs.pipeline.stages import errors, finish, open_warehouse, reported, settings_of


@app.command(
    epilog=examples(
        "deltabook export books --out books-2024",
        "deltabook export books --out lake --format crypto_lake --symbol BTC-USDT",
        "deltabook export events --out replayed --format hftbacktest",
    )
)
def export(
    what: Annotated[str, typer.Argument(help="books, features, events or trades.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", help="A new or empty folder.", show_default=False, callback=out_path)
    ],
    form: Annotated[
        str, typer.Option("--format", help="parquet; books: crypto_lake, tardis; events: hftbacktest.")
    ] = "parquet",
    symbols: Annotated[
        list[str] | None, typer.Option("--symbol", help="Whose; may be given several times; default: all.")
    ] = None,
    exchange: Annotated[str | None, typer.Option("--exchange", help="Of this exchange alone.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="ISO 8601 (UTC) or ns.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="The first time that is not exported.")] = None,
    levels: Annotated[
        int | None, typer.Option("--levels", min=1, help="Levels a side of crypto_lake and tardis: 20.")
    ] = None,
    all_hours: Annotated[bool, typer.Option("--all", help="Hours that failed validation too.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="An earlier export in the folder gives way.")
    ] = False,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what was published as plain files: Parquet, or as other programs read it."""
    from deltabook.jobs.console.formats import parse_time
    from deltabook.jobs.console.progress import Progress
    from deltabook.jobs.exporting.export import export, requested
    from deltabook.udfs.numbers.decimal_text import INT64_MAX

    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars)
    with reported():
        request = requested(
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
        )
        opened = open_warehouse(settings)
        told = export(opened, request, Progress(opened.spark, errors))
    for line in _lines(told):
        errors.print(line, markup=False, soft_wrap=True)
    finish(told, as_json)


def _lines(told: dict[str, object]) -> list[str]:
    lines = []
    if told["symbol_hours_left_out"]:
        hours = f"{told['symbol_hours_left_out']:,} symbol-hours that failed validation"
        lines.append(f"left out     {hours}: --all has them")
    for status, count in dict(told["books_left_out"]).items():  # type: ignore[call-overload]
        lines.append(f"left out     {count:,} {status} books")
    for name in told["instruments_left_out"]:  # type: ignore[attr-defined]
        lines.append(f"left out     {name}: its numbers need DECIMAL(38,18)")
    counts = f"{told['rows']:,} rows in {told['files']:,} files, {told['bytes']:,} bytes"
    return [*lines, f"exported     {counts}: {told['manifest']}"]
