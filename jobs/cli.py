"""The command line: every job with the same options, exit statuses and messages."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deltabook.jobs.commands import (
    EXPECTATION_FAILED,
    REPORT,
    errors,
    finish,
    ingest_stage,
    leave,
    open_warehouse,
    reconstruct_stage,
    reported,
    run_and_leave,
    run_stages,
    settings_of,
    tell,
    validate_stage,
    write_last_report,
)
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import OnGap, Seed

# Spark, Great Expectations and the kernels are imported by the commands that need them: --help must not wait.

app = typer.Typer(
    name="deltabook",
    help="Level-2 crypto feeds in, every order book out, as Delta tables, with proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Paths = Annotated[list[Path], typer.Argument(help="Files and folders to read.", show_default=False)]
Source = Annotated[str, typer.Argument(help="Kind of feed: see deltabook sources.", show_default=False)]
WarehouseOption = Annotated[
    Path | None, typer.Option("--warehouse", help="Folder of the Delta tables [env DELTABOOK_WAREHOUSE].")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
MasterOption = Annotated[str | None, typer.Option("--master", help="Spark master, e.g. local[2].")]
JarsOption = Annotated[Path | None, typer.Option("--jars", help="Folder with Delta's JARs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Last line of stdout is one JSON object.")]
DepthOption = Annotated[
    str | None, typer.Option("--depth", help="Levels a side in each row of books, or full.")
]
SeedOption = Annotated[
    Seed | None, typer.Option("--seed", help="golden: feeds without snapshots start from the vendor's book.")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="A known file with new content takes the old one's place.")
]
ArchiveOption = Annotated[bool, typer.Option("--archive", help="Keep a copy of each file in the warehouse.")]
ValidateOption = Annotated[
    bool, typer.Option("--validate/--no-validate", help="Whether each stage's suites judge what it made.")
]
CadenceOption = Annotated[
    str | None,
    typer.Option("--cadence", help="Rows of books: change, message or a step; more steps: change,1s,1m."),
]
CheckpointOption = Annotated[
    int | None, typer.Option("--checkpoint-every", help="Level changes between states kept within an hour.")
]
ChunkOption = Annotated[
    str | None, typer.Option("--chunk", help="Length of the chunks that are rebuilt one by one: 10s to 1d.")
]
OnGapOption = Annotated[
    OnGap | None,
    typer.Option("--on-gap", help="Rows of a suspect book: flag, wait (none), raise (stop)."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deltabook {version('deltabook')}")
        raise typer.Exit


@app.callback()
def _main(
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Level-2 crypto feeds in, every order book out, as Delta tables, with proof."""


@app.command()
def ingest(
    source: Source,
    paths: Paths,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    chunk: ChunkOption = None,
    replace: ReplaceOption = False,
    archive: ArchiveOption = False,
    validated: ValidateOption = True,
    as_json: JsonOption = False,
) -> None:
    """Read raw files into events and golden samples, each file once."""
    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars, chunk=chunk)
    run_and_leave(settings, as_json, [ingest_stage(source, paths, replace, archive, validated)], validated)


@app.command()
def reconstruct(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    depth: DepthOption = None,
    cadence: CadenceOption = None,
    checkpoint_every: CheckpointOption = None,
    on_gap: OnGapOption = None,
    seed: SeedOption = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Build the books of this run again, and compare them.")
    ] = None,
    validated: ValidateOption = True,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the books of every symbol-hour whose events changed."""
    settings = settings_of(
        config,
        warehouse=warehouse,
        master=master,
        jars=jars,
        depth=depth,
        cadence=cadence,
        checkpoint_every=checkpoint_every,
        on_gap=on_gap,
        seed=seed,
    )
    if as_of is None:
        return run_and_leave(settings, as_json, [reconstruct_stage(validated)], validated)
    with reported():
        from deltabook.jobs.progress import Progress
        from deltabook.jobs.reproduce import reproduce

        found = open_warehouse(settings)
        result = reproduce(found, as_of, Progress(found.spark, errors))
    hours, equal = result["symbol_hours"], result["symbol_hours"] - len(result["differing"])
    errors.print(f"books        {equal:,} of {hours:,} symbol-hours equal; digest {result['digest']}")
    for hour in result["differing"]:
        errors.print(f"differs      {hour}", markup=False)
    finish(result | {"exit_status": EXPECTATION_FAILED if result["differing"] else 0}, as_json)
    if result["differing"]:
        raise typer.Exit(EXPECTATION_FAILED)


@app.command()
def validate(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the books: unbroken and in order, and equal to the golden samples."""
    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars)
    run_and_leave(settings, as_json, [validate_stage()])


@app.command()
def run(
    source: Source,
    paths: Paths,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    depth: DepthOption = None,
    cadence: CadenceOption = None,
    checkpoint_every: CheckpointOption = None,
    on_gap: OnGapOption = None,
    seed: SeedOption = None,
    chunk: ChunkOption = None,
    replace: ReplaceOption = False,
    archive: ArchiveOption = False,
    validated: ValidateOption = True,
    as_json: JsonOption = False,
) -> None:
    """Ingest, reconstruct and validate."""
    settings = settings_of(
        config,
        warehouse=warehouse,
        master=master,
        jars=jars,
        depth=depth,
        cadence=cadence,
        checkpoint_every=checkpoint_every,
        chunk=chunk,
        on_gap=on_gap,
        seed=seed,
    )
    stages = [ingest_stage(source, paths, replace, archive, validated), reconstruct_stage(validated)]
    if not validated:
        return run_and_leave(settings, as_json, stages, judged=False)
    summary = run_stages(settings, [*stages, validate_stage()])
    summary |= write_last_report(settings)
    tell(summary)
    leave(summary, as_json)


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
def sources(
    name: Annotated[str | None, typer.Argument(help="One source; default: all.", show_default=False)] = None,
) -> None:
    """Print what each source reads, by which rules, and what it can prove."""
    from deltabook.jobs.sources import pages

    with reported():
        typer.echo(pages(name))


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


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the simulated captures and tables go.")] = Path(
        "demo"
    ),
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate five minutes of two markets, run everything on them, and ask one query."""
    from deltabook.jobs.demo import QUERY, write_captures
    from deltabook.jobs.sql import query, show

    warehouse = warehouse or folder / "warehouse"
    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars)
    with reported():
        captures = write_captures(folder / "captures")
    errors.print(f"simulated    {', '.join(str(path) for path in captures)}", soft_wrap=True)
    stages = [ingest_stage("binance", captures), reconstruct_stage(), validate_stage()]
    summary = run_stages(settings, stages)
    summary |= write_last_report(settings)
    tell(summary)
    with reported():
        typer.echo(f'\n$ deltabook sql --warehouse {settings.warehouse} "{QUERY}"\n')
        show(query(open_warehouse(settings), QUERY), "table", sys.stdout)
    leave(summary, as_json)


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which benchmarks; default: all.", show_default=False)
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Their data and results.")] = Path("bench"),
    peers: Annotated[
        Path | None, typer.Option("--peers", help="A Python that has the programs to compare with.")
    ] = None,
) -> None:
    """Measure speed and memory beside other programs; data is simulated, results are also JSON."""
    from deltabook.jobs.bench import run_benchmarks

    with reported():
        run_benchmarks(names or [], folder, peers)


def main(*arguments: str) -> None:
    """Run the command line; with arguments, as if they stood before those of the process.

    Parameters
    ----------
    *arguments : str
        Such as the name of the command, for `spark-submit jobs/<name>.py`.
    """
    app(args=[*arguments, *sys.argv[1:]])
