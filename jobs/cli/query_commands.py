"""Commands that read a warehouse: `sql`, `book`, `replay`, `status`, `report`, `plot` and `raw`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
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
    check_out_path,
    command,
    with_default,
)
from deltabook.jobs.console.printable import write_line
from deltabook.jobs.pipeline.stages import (
    REPORT,
    open_warehouse,
    print_result,
    read_settings,
    report_errors,
    stderr_console,
)
from deltabook.jobs.process.interruptions import end_block_on_interrupt
from deltabook.jobs.runtime.settings import Settings
from deltabook.schemas.errors import SettingsError

_TIME = "ISO 8601 (UTC) or Unix time"

DepthMapLevelsOption = Annotated[
    int,
    typer.Option("--levels", min=1, max=100, help="Levels on each side of the mid price in the depth map."),
]

KnownOption = Annotated[bool, typer.Option("--known", help="Cut books to their known levels.")]


@command(
    'deltabook sql "SELECT time, bid_price, ask_price, status FROM book LIMIT 5"',
    'deltabook sql "SELECT * FROM trades" --format csv > trades.csv',
    "deltabook sql --warehouse books < queries.sql",
    "deltabook sql --serve --port 10000 --warehouse books",
)
def sql(
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="STATEMENT",
            help="One SQL statement. Default: read statements from standard input; `;` ends a statement.",
            show_default=False,
        ),
    ] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    form: Annotated[str, typer.Option("--format", metavar="FORM", help="table, csv or json.")] = "table",
    unsafe: Annotated[
        bool,
        typer.Option("--unsafe", help="Run any statement, not only queries. With --serve: of any client."),
    ] = False,
    served: Annotated[
        bool, typer.Option("--serve", help="Serve tables, views and functions to JDBC clients.")
    ] = False,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address that --serve listens on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="NUMBER", help="Port that --serve listens on.")
    ] = 10000,
    as_json: JsonOption = False,
) -> None:
    """Run SQL statements from the command line, from standard input, or from JDBC clients."""
    settings = read_settings(config, warehouse=warehouse, master=master, jars=jars)
    with report_errors():
        if served and statement is not None:
            raise SettingsError("sql: pass a statement or --serve, not both")
        if served:
            return _serve(settings, host, port, unsafe)
        from deltabook.jobs.queries.sql import FORMATS, describe_failed_hours, prepare_query, print_rows

        if form not in FORMATS:
            raise SettingsError(f"--format {form!r}: expected one of {', '.join(FORMATS)}")
        opened = open_warehouse(settings, for_queries=True)
    rows, at_terminal = 0, statement is None and sys.stdin.isatty()
    for text in _read_statements(at_terminal) if statement is None else [statement]:
        # At a terminal, an error ends only the statement, not the command.
        with suppress(*([typer.Exit] if at_terminal else [])), report_errors():
            rows += print_rows(prepare_query(opened, text, unsafe), form, sys.stdout)
            if notice := describe_failed_hours(opened, text, unsafe):
                stderr_console.print(notice, markup=False, soft_wrap=True)
    print_result({"rows": rows}, as_json)


def _read_statements(at_terminal: bool) -> Iterator[str]:
    """Yield the statements of standard input. A semicolon at the end of a line ends a statement."""
    import readline  # noqa: F401  for line editing and history

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
    """Serve the warehouse to JDBC clients until Ctrl-C; warn if clients may run any statement."""
    from deltabook.jobs.queries.serving import serve

    if unsafe:
        warning = (
            f"--unsafe: anybody who can connect to {host}:{port} can read and change everything that your "
            "user account can"
        )
        stderr_console.print(warning, markup=False, soft_wrap=True)

    def report(line: str) -> None:
        stderr_console.print(line, markup=False, soft_wrap=True)

    with end_block_on_interrupt():
        serve(settings, host, port, report, unsafe)


@command(
    "deltabook book BTC-USDT",
    "deltabook book BTC-USDT --at 2024-08-08T23:54:20.5Z --levels 20",
    "deltabook book BTC-USDT --at 1723161260500000000 --exchange BINANCE",
)
def book(
    symbol: SymbolArgument,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="TIME", help=with_default(f"Time of the book: {_TIME}.", "the last book")
        ),
    ] = None,
    exchange: ExchangeOption = None,
    levels: Annotated[int, typer.Option("--levels", metavar="COUNT", min=1, help="Levels per side.")] = 10,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the order book of one symbol at one time. Starts no Spark."""
    from deltabook.jobs.console.formats import parse_time
    from deltabook.jobs.console.ladder_view import draw_ladder, open_console
    from deltabook.jobs.lookup.book import read_book

    settings = read_settings(config, warehouse=warehouse, master=master)
    with report_errors():
        view = read_book(settings.warehouse, symbol, None if at is None else parse_time(at), exchange)
    console = open_console()
    if notice := view.age_notice():
        console.print(notice, style="yellow", soft_wrap=True)
    console.print(draw_ladder(view.ladder(), levels, console.width), soft_wrap=True)
    print_result(
        {
            "exchange": view.row["exchange"],
            "symbol": symbol,
            "timestamp": view.row["timestamp"],
            "order_time": view.row["order_time"],
            "sequence": view.row["sequence"],
            "status": view.row["status"],
            "age": view.age,
            "after_the_end": view.is_after_the_end,
            "bids": [[f"{price:f}", f"{size:f}"] for price, size in view.bids[:levels]],
            "asks": [[f"{price:f}", f"{size:f}"] for price, size in view.asks[:levels]],
        },
        as_json,
    )


@command(
    "deltabook replay BTC-USDT --from 2024-08-08T23:54:20Z --to 2024-08-08T23:55Z",
    "deltabook replay BTC-USDT --by 1s --suspect skip --format csv > books.csv",
    "deltabook replay BTC-USDT --from 2024-08-08T23:54:20Z --watch --speed 5",
)
def replay(
    symbol: SymbolArgument,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help=with_default(f"Replay from this time on: {_TIME}.", "the first message"),
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="TIME", help=with_default(f"Stop before this time: {_TIME}.", "the end")
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="STEP",
            help="Length of a step: event, message (book update), trade, or a time such as 100ms.",
        ),
    ] = "message",
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the changing book as a ladder in the terminal.")
    ] = False,
    speed: Annotated[
        str,
        typer.Option(
            "--speed",
            metavar="FACTOR",
            help="With --watch: multiple of the recorded speed, or max (no wait).",
        ),
    ] = "1",
    levels: Annotated[
        int,
        typer.Option(
            "--levels", metavar="COUNT", min=1, help="With --watch: maximum number of levels per side."
        ),
    ] = 20,
    clock: Annotated[
        str,
        typer.Option(
            "--clock",
            metavar="CLOCK",
            help="Time at which a message appears: received (arrival at the recorder) or exchange.",
        ),
    ] = "received",
    suspect: Annotated[
        str,
        typer.Option(
            "--suspect",
            metavar="ACTION",
            help="For steps with an unsound book: mark (show with a mark), skip, or raise (stop).",
        ),
    ] = "mark",
    form: Annotated[
        str, typer.Option("--format", metavar="FORM", help="table, csv or json (one object per line).")
    ] = "table",
    exchange: ExchangeOption = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print one symbol's books and trades step by step, or show them as a moving ladder. Starts no Spark."""
    from deltabook.jobs.console.ladder_view import open_console
    from deltabook.jobs.replay import player, step_output

    settings = read_settings(config, warehouse=warehouse)
    with report_errors():
        if form not in step_output.FORMATS:
            raise SettingsError(f"--format {form!r}: expected one of {', '.join(step_output.FORMATS)}")
        step, rate, console = step_output.parse_step(by), player.parse_speed(speed), open_console()
        if watch:
            player.require_terminal(console)
        opened = step_output.open_replay(
            settings.warehouse, symbol, start, end, levels, exchange, clock, suspect
        )
        if watch:
            seen = player.Player(opened, console, levels, rate).play(step)
        else:
            seen = step_output.write_steps(opened, step, form, sys.stdout)
    if not seen.steps:
        recording = f"{opened.exchange} {symbol} was recorded {step_output.describe_recorded_time(opened)}"
        stderr_console.print(f"no steps in that time: {recording}", markup=False, soft_wrap=True)
    print_result({"exchange": opened.exchange, "symbol": symbol, **seen.summary()}, as_json)


@command("deltabook status", "deltabook status --warehouse books --json")
def status(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a warehouse holds: symbols, chunks, coverage, verdicts, sizes, last runs. Starts no Spark."""
    from deltabook.jobs.console.ladder_view import open_console
    from deltabook.jobs.lookup.status import read_status, show_status

    settings = read_settings(config, warehouse=warehouse)
    with report_errors():
        contents = read_status(settings.warehouse)
    show_status(contents, open_console())
    print_result(contents, as_json)


@command(
    "deltabook report",
    "deltabook report --out august.html --symbol BTC-USDT --since 2024-08-01",
    "deltabook report --from 2024-08-08T23:54:20Z --to 2024-08-08T23:55:00Z",
)
def report(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help=with_default("The HTML file.", "report.html in the warehouse"),
            callback=check_out_path,
        ),
    ] = None,
    symbols: Annotated[
        list[str] | None,
        typer.Option("--symbol", help="Symbol whose books are drawn; may be given several times."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help=f"Draw books from this time on: {_TIME}.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help=f"Draw books before this time: {_TIME}.")] = None,
    levels: DepthMapLevelsOption = 10,
    known: KnownOption = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="RUN|TIME",
            help=with_default(f"First run to compare: a run id, or a time ({_TIME}).", "all"),
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write an HTML report: verdicts, coverage, depth maps, golden comparison. Starts no Spark."""
    from deltabook.jobs.console.formats import parse_period
    from deltabook.jobs.report.page import write_report
    from deltabook.jobs.tables.instrument_lookup import find_instruments

    settings = read_settings(config, warehouse=warehouse)
    with report_errors():
        period = parse_period(start, end)
        named = [
            row["symbol"] for symbol in symbols or () for row in find_instruments(settings.warehouse, symbol)
        ]
        path = out or settings.warehouse / REPORT
        summary = write_report(settings.warehouse, path, named or symbols, since, period, levels, known)
    stderr_console.print(f"report       {summary['report']}", markup=False, soft_wrap=True)
    print_result(summary, as_json)


@command(
    "deltabook plot BTC-USDT --out depth.png",
    "deltabook plot BTC-USDT --from 2024-08-08T23:54:20Z --out depth.html",
)
def plot(
    symbol: SymbolArgument,
    out: Annotated[
        Path, typer.Option("--out", help="File to write: .html, .png, .svg or .pdf.", callback=check_out_path)
    ],
    start: Annotated[
        str | None, typer.Option("--from", help=f"Draw from this time on: {_TIME}; default: the first book.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help=f"Draw up to this time (exclusive): {_TIME}; default: the end.")
    ] = None,
    levels: DepthMapLevelsOption = 10,
    known: KnownOption = False,
    exchange: ExchangeOption = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the depth map of one symbol: resting size by price and time. Starts no Spark."""
    from deltabook.jobs.console.formats import parse_period
    from deltabook.jobs.report.plot import write_plot

    settings = read_settings(config, warehouse=warehouse)
    with report_errors():
        period = parse_period(start, end)
        summary = write_plot(settings.warehouse, symbol, out, period, exchange, levels, known)
    stderr_console.print(f"plot         {summary['plot']}", markup=False, soft_wrap=True)
    print_result(summary, as_json)


@command("deltabook raw BTC-USDT 50093240914")
def raw(
    symbol: SymbolArgument,
    sequence: Annotated[
        int, typer.Argument(metavar="ID", help="Update id or trade id of the message.", show_default=False)
    ],
    exchange: ExchangeOption = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find messages by id, and print the lines of the raw files with these messages. Starts no Spark."""
    from deltabook.jobs.lookup.raw import read_raw_records

    settings = read_settings(config, warehouse=warehouse)
    with report_errors():
        records = read_raw_records(settings.warehouse, symbol, sequence, exchange)
    for record in records:
        event = record.event
        name = f"{event['exchange']} {event['symbol']} {event['event_type']} {event['sequence']}"
        stderr_console.print(
            f"{name}: {record.path}, row {event['source_row']}", markup=False, soft_wrap=True
        )
        for row in record.rows:
            write_line(row)
    places = [{"path": record.path, "row": record.event["source_row"]} for record in records]
    print_result({"records": places}, as_json)
