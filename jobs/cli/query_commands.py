"""Commands that ask a warehouse."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from deltabook.jobs.cli.app import (
    ConfigOption,
    ExchangeOption,
    JarsOption,
    JsonOption,
    MasterOption,
    SymbolArgument,
    WarehouseOption,
    app,
    examples,
    out_path,
)
from deltabook.jobs.console.printable import write_line
from deltabook.jobs.pipeline.stages import REPORT, errors, finish, open_warehouse, reported, settings_of
from deltabook.jobs.process.interruptions import ends_block
from deltabook.jobs.runtime.settings import Settings
from deltabook.schemas.errors import SettingsError

_TIME = "ISO 8601 (UTC) or ns"


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Let whoever reads standard output stop early, as `head` does: it is no error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        raise typer.Exit from None


@app.command(
    epilog=examples(
        'deltabook sql "SELECT time, bid_price, ask_price, status FROM book LIMIT 5"',
        'deltabook sql "SELECT * FROM trades" --format csv > trades.csv',
        "deltabook sql --warehouse books < queries.sql",
        "deltabook sql --serve --port 10000 --warehouse books",
    )
)
def sql(
    statement: Annotated[
        str | None,
        typer.Argument(help="One SQL statement; none: they are read, each to its `;`.", show_default=False),
    ] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Run any statement, with --serve for everybody.")
    ] = False,
    served: Annotated[
        bool, typer.Option("--serve", help="Serve tables, views and functions over JDBC instead.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="Where --serve listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Where --serve listens.")] = 10000,
    as_json: JsonOption = False,
) -> None:
    """Ask the published tables, views and functions: a statement, those that are typed, or over JDBC."""
    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars)
    with reported():
        if served and statement is not None:
            raise SettingsError("sql: expected a statement, or --serve")
        if served:
            return _serve(settings, host, port, unsafe)
        from deltabook.jobs.queries.sql import FORMATS, left_out, query, show

        if form not in FORMATS:
            raise SettingsError(f"--format {form!r}: expected one of {', '.join(FORMATS)}")
        opened = open_warehouse(settings, for_queries=True)
    rows, at_terminal = 0, statement is None and sys.stdin.isatty()
    for text in _typed(at_terminal) if statement is None else [statement]:
        # At a terminal an error ends its statement alone.
        with suppress(*([typer.Exit] if at_terminal else [])), reported():
            with _reader_may_leave():
                rows += show(query(opened, text, unsafe), form, sys.stdout)
            if told := left_out(opened, text, unsafe):
                errors.print(told, markup=False, soft_wrap=True)
    finish({"rows": rows}, as_json)


def _typed(at_terminal: bool) -> Iterator[str]:
    """Yield the statements of standard input, each to the line that ends with a semicolon."""
    import readline  # noqa: F401  lines can be edited and called back

    lines: list[str] = []
    with suppress(EOFError):
        while True:
            lines.append(input(("deltabook> " if not lines else "      ...> ") if at_terminal else ""))
            if lines[-1].rstrip().endswith(";"):
                yield "\n".join(lines).rstrip().removesuffix(";")
                lines = []
    if "".join(lines).strip():
        yield "\n".join(lines)


def _serve(settings: Settings, host: str, port: int, unsafe: bool) -> None:
    from deltabook.jobs.queries.serving import serve

    if unsafe:
        told = f"--unsafe: anybody who reaches {host}:{port} can read and change what this user can"
        errors.print(told, markup=False, soft_wrap=True)
    with ends_block():
        serve(settings, host, port, lambda told: errors.print(told, markup=False, soft_wrap=True))


@app.command(
    epilog=examples(
        "deltabook book BTC-USDT",
        "deltabook book BTC-USDT --at 2024-08-08T23:54:20.5Z --levels 20",
        "deltabook book BTC-USDT --at 1723161260500000000 --exchange BINANCE",
    )
)
def book(
    symbol: SymbolArgument,
    at: Annotated[str | None, typer.Option("--at", help=f"{_TIME}; default: the last book.")] = None,
    exchange: ExchangeOption = None,
    levels: Annotated[int, typer.Option("--levels", min=1, help="Levels a side to show.")] = 10,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one symbol's ladder at a time. Starts no Spark."""
    from deltabook.jobs.console.formats import parse_time
    from deltabook.jobs.console.ladder_view import console_for, draw
    from deltabook.jobs.inspect.book import book_at

    settings = settings_of(config, warehouse=warehouse, master=master)
    with reported():
        found = book_at(settings.warehouse, symbol, None if at is None else parse_time(at), exchange)
    console = console_for()
    console.print(draw(found.ladder(), levels, console.width), soft_wrap=True)
    finish(
        {
            "exchange": found.row["exchange"],
            "symbol": symbol,
            "timestamp": found.row["timestamp"],
            "order_time": found.row["order_time"],
            "sequence": found.row["sequence"],
            "status": found.row["status"],
            "age": found.age,
            "after_the_end": found.is_after_the_end,
            "bids": [[f"{price:f}", f"{size:f}"] for price, size in found.bids[:levels]],
            "asks": [[f"{price:f}", f"{size:f}"] for price, size in found.asks[:levels]],
        },
        as_json,
    )


@app.command(
    epilog=examples(
        "deltabook replay BTC-USDT --from 2024-08-08T23:54:20Z --to 2024-08-08T23:55Z",
        "deltabook replay BTC-USDT --by 1s --suspect skip --format csv > books.csv",
        "deltabook replay BTC-USDT --from 2024-08-08T23:54:20Z --watch --speed 5",
    )
)
def replay(
    symbol: SymbolArgument,
    start: Annotated[
        str | None, typer.Option("--from", help=f"First time told: {_TIME}; default: the first message.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help=f"First time not told: {_TIME}; default: to the end.")
    ] = None,
    by: Annotated[
        str, typer.Option("--by", help="A step: event, message (book update), trade, or a time, e.g. 100ms.")
    ] = "message",
    watch: Annotated[bool, typer.Option("--watch", help="Play the ladder in the terminal.")] = False,
    speed: Annotated[
        str, typer.Option("--speed", help="With --watch: times as fast as it was, or max.")
    ] = "1",
    levels: Annotated[int, typer.Option("--levels", min=1, help="With --watch: levels a side at most.")] = 20,
    clock: Annotated[
        str, typer.Option("--clock", help="received: nothing before it arrived; exchange: as in books.")
    ] = "received",
    suspect: Annotated[
        str, typer.Option("--suspect", help="Steps of a suspect or unseeded book: mark, skip, raise (stop).")
    ] = "mark",
    form: Annotated[str, typer.Option("--format", help="table, csv or json (one object a line).")] = "table",
    exchange: ExchangeOption = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Step through one symbol's books and trades, a line a step, or play them. Starts no Spark."""
    from deltabook.jobs.console.ladder_view import console_for
    from deltabook.jobs.replay import player, print_steps

    settings = settings_of(config, warehouse=warehouse)
    with reported(), _reader_may_leave():
        if form not in print_steps.FORMATS:
            raise SettingsError(f"--format {form!r}: expected one of {', '.join(print_steps.FORMATS)}")
        step, rate, console = print_steps.step_by(by), player.speed_of(speed), console_for()
        if watch:
            player.check_terminal(console)
        how = {"depth": levels, "exchange": exchange, "clock": clock, "suspect": suspect}
        opened = print_steps.open_replay(settings.warehouse, symbol, start, end, **how)
        if watch:
            seen = player.Player(opened, console, levels, rate).play(step)
        else:
            seen = print_steps.write_steps(opened, step, form, sys.stdout)
    if not seen.steps:
        recorded = f"{opened.exchange} {symbol} was recorded {print_steps.extent(opened)}"
        errors.print(f"no step in that time: {recorded}", markup=False, soft_wrap=True)
    finish({"exchange": opened.exchange, "symbol": symbol} | seen.summary(), as_json)


@app.command(epilog=examples("deltabook status", "deltabook status --warehouse books --json"))
def status(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a warehouse has: symbols, hours, coverage, verdicts, sizes, last runs. Starts no Spark."""
    from deltabook.jobs.console.ladder_view import console_for
    from deltabook.jobs.inspect.status import read_status, show_status

    settings = settings_of(config, warehouse=warehouse)
    with reported():
        found = read_status(settings.warehouse)
    show_status(found, console_for())
    finish(found, as_json)


@app.command(
    epilog=examples(
        "deltabook report",
        "deltabook report --out august.html --symbol BTC-USDT --since 2024-08-01",
    )
)
def report(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The HTML file; default: report.html in the warehouse.", callback=out_path
        ),
    ] = None,
    symbols: Annotated[
        list[str] | None, typer.Option("--symbol", help="Whose books to draw; may be given several times.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help=f"Compare runs from this id, or this time, on: {_TIME}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what was proven as one HTML file. Starts no Spark."""
    from deltabook.jobs.report.page import write_report
    from deltabook.jobs.tables.instrument_lookup import instruments_named

    settings = settings_of(config, warehouse=warehouse)
    with reported():
        for symbol in symbols or ():
            instruments_named(settings.warehouse, symbol)
        told = write_report(settings.warehouse, out or settings.warehouse / REPORT, symbols, since)
    errors.print(f"report       {told['report']}", markup=False, soft_wrap=True)
    finish(told, as_json)


@app.command(epilog=examples("deltabook raw BTC-USDT 50093240914"))
def raw(
    symbol: SymbolArgument,
    sequence: Annotated[int, typer.Argument(help="Update id or trade id of an event.", show_default=False)],
    exchange: ExchangeOption = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the raw record behind an event. Starts no Spark."""
    from deltabook.jobs.inspect.raw import raw_records

    settings = settings_of(config, warehouse=warehouse)
    with reported():
        records = raw_records(settings.warehouse, symbol, sequence, exchange)
    for record in records:
        event = record.event
        what = f"{event['exchange']} {event['symbol']} {event['event_type']} {event['sequence']}"
        errors.print(f"{what}: {record.path}, row {event['source_row']}", markup=False, soft_wrap=True)
        for row in record.rows:
            write_line(row)
    found = [{"path": record.path, "row": record.event["source_row"]} for record in records]
    finish({"records": found}, as_json)
