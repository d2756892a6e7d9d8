"""Commands that ask a warehouse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deltabook.jobs.cli.app import ConfigOption, JarsOption, JsonOption, MasterOption, WarehouseOption, app
from deltabook.jobs.commands import REPORT, errors, finish, open_warehouse, reported, settings_of
from deltabook.schemas.errors import SettingsError


@app.command()
def sql(
    statement: Annotated[str, typer.Argument(help="One SQL statement.", show_default=False)],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    as_json: JsonOption = False,
) -> None:
    """Ask the published tables, e.g. deltabook sql "SELECT time, bid_price, ask_price FROM book LIMIT 5"."""
    from deltabook.jobs.sql import FORMATS, left_out, query, show

    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars)
    with reported():
        if form not in FORMATS:
            raise SettingsError(f"--format {form!r}: expected one of {', '.join(FORMATS)}")
        opened = open_warehouse(settings, for_queries=True)
        found = query(opened, statement)
        rows = show(found, form, sys.stdout)
        if told := left_out(opened, statement):
            errors.print(told, markup=False, soft_wrap=True)
    finish({"rows": rows}, as_json)


@app.command()
def book(
    symbol: Annotated[str, typer.Argument(help="Symbol in the tables, e.g. BTC-USDT.", show_default=False)],
    at: Annotated[
        str | None, typer.Option("--at", help="ISO 8601 (UTC) or ns; default: the last book.")
    ] = None,
    exchange: Annotated[str | None, typer.Option("--exchange", help="If several list the symbol.")] = None,
    levels: Annotated[int, typer.Option("--levels", min=1, help="Levels a side to show.")] = 10,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one symbol's ladder, e.g. deltabook book BTC-USDT --at 2024-08-09T00:01:00Z. Starts no Spark."""
    from deltabook.jobs.book import book_at, parse_time, render

    settings = settings_of(config, warehouse=warehouse, master=master)
    with reported():
        ladder = book_at(settings.warehouse, symbol, None if at is None else parse_time(at), exchange)
    Console(highlight=False).print(render(ladder, levels))
    finish(
        {
            "exchange": ladder.row["exchange"],
            "symbol": symbol,
            "timestamp": ladder.row["timestamp"],
            "sequence": ladder.row["sequence"],
            "status": ladder.row["status"],
            "bids": [[str(price), str(size)] for price, size in ladder.bids[:levels]],
            "asks": [[str(price), str(size)] for price, size in ladder.asks[:levels]],
        },
        as_json,
    )


@app.command()
def report(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file; default: report.html in the warehouse.")
    ] = None,
    symbols: Annotated[
        list[str] | None, typer.Option("--symbol", help="Whose books to draw; may be given several times.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Compare runs from this one, or this ISO 8601 time, on.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what was proven as one HTML file, e.g. deltabook report --since 2024-08-01. Starts no Spark."""
    from deltabook.jobs.report.page import write_report

    settings = settings_of(config, warehouse=warehouse)
    with reported():
        told = write_report(settings.warehouse, out or settings.warehouse / REPORT, symbols, since)
    errors.print(f"report       {told['report']}", markup=False, soft_wrap=True)
    finish(told, as_json)


@app.command()
def raw(
    symbol: Annotated[str, typer.Argument(help="Symbol as in the tables.", show_default=False)],
    sequence: Annotated[int, typer.Argument(help="Update id or trade id of an event.", show_default=False)],
    exchange: Annotated[str | None, typer.Option("--exchange", help="If several list the symbol.")] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the raw record behind an event, e.g. deltabook raw BTC-USDT 50117563873. Starts no Spark."""
    from deltabook.jobs.raw import raw_records

    settings = settings_of(config, warehouse=warehouse)
    with reported():
        records = raw_records(settings.warehouse, symbol, sequence, exchange)
    for record in records:
        event = record.event
        what = f"{event['exchange']} {event['symbol']} {event['event_type']} {event['sequence']}"
        errors.print(f"{what}: {record.path}, row {event['source_row']}", markup=False, soft_wrap=True)
        for row in record.rows:
            typer.echo(row)
    found = [{"path": record.path, "row": record.event["source_row"]} for record in records]
    finish({"records": found}, as_json)
