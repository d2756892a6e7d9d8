"""The command line: every job with the same options, exit statuses and messages."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from deltalake.exceptions import DeltaError
from rich.console import Console

from deltabook.jobs.settings import Settings, load_settings
from deltabook.schemas.errors import DeltabookError, SettingsError
from deltabook.schemas.names import OnGap, Seed

# Spark, Great Expectations and the kernels are imported by the commands that need them: --help must not wait.

EXPECTATION_FAILED, REFUSED = 1, 3
_SPARK_ERROR = re.compile(r"\[[A-Z]+[A-Z_.]+\]")
_PYTHON_ERROR = re.compile(r"[\w.]+(Error|Exception|Invalid): ")

app = typer.Typer(
    name="deltabook",
    help="Level-2 crypto feeds in, every order book out, as Delta tables, with proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_errors = Console(stderr=True, highlight=False)

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
    as_json: JsonOption = False,
) -> None:
    """Read raw files into events and golden samples, each file once."""
    settings = _settings(config, warehouse=warehouse, master=master, jars=jars, chunk=chunk)
    _run(settings, as_json, [_ingest_stage(source, paths, replace, archive)])


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
    as_json: JsonOption = False,
) -> None:
    """Rebuild the books of every symbol-hour whose events changed."""
    settings = _settings(
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
        return _run(settings, as_json, [_reconstruct_stage()])
    with _reported():
        from deltabook.jobs.progress import Progress
        from deltabook.jobs.reproduce import reproduce

        found = _warehouse(settings)
        result = reproduce(found, as_of, Progress(found.spark, _errors))
    hours, equal = result["symbol_hours"], result["symbol_hours"] - len(result["differing"])
    _errors.print(f"books        {equal:,} of {hours:,} symbol-hours equal; digest {result['digest']}")
    for hour in result["differing"]:
        _errors.print(f"differs      {hour}", markup=False)
    _finish(result | {"exit_status": EXPECTATION_FAILED if result["differing"] else 0}, as_json)
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
    settings = _settings(config, warehouse=warehouse, master=master, jars=jars)
    _run(settings, as_json, [_validate_stage()])


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
    as_json: JsonOption = False,
) -> None:
    """Ingest, reconstruct and validate."""
    settings = _settings(
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
    stages = [_ingest_stage(source, paths, replace, archive), _reconstruct_stage(), _validate_stage()]
    _run(settings, as_json, stages)


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
    from deltabook.jobs.sql import FORMATS, query, show

    settings = _settings(config, warehouse=warehouse, master=master, jars=jars)
    with _reported():
        if form not in FORMATS:
            raise SettingsError(f"--format {form!r}: expected one of {', '.join(FORMATS)}")
        rows = show(query(_warehouse(settings), statement), form, sys.stdout)
    _finish({"rows": rows}, as_json)


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

    settings = _settings(config, warehouse=warehouse, master=master)
    with _reported():
        ladder = book_at(settings.warehouse, symbol, None if at is None else parse_time(at), exchange)
    Console(highlight=False).print(render(ladder, levels))
    _finish(
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
def sources(
    name: Annotated[str | None, typer.Argument(help="One source; default: all.", show_default=False)] = None,
) -> None:
    """Print what each source reads, by which rules, and what it can prove."""
    from deltabook.jobs.sources import pages

    with _reported():
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

    settings = _settings(config, warehouse=warehouse)
    with _reported():
        records = raw_records(settings.warehouse, symbol, sequence, exchange)
    for record in records:
        event = record.event
        what = f"{event['exchange']} {event['symbol']} {event['event_type']} {event['sequence']}"
        _errors.print(f"{what}: {record.path}, row {event['source_row']}", markup=False, soft_wrap=True)
        for row in record.rows:
            typer.echo(row)
    found = [{"path": record.path, "row": record.event["source_row"]} for record in records]
    _finish({"records": found}, as_json)


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
    settings = _settings(config, warehouse=warehouse, master=master, jars=jars)
    with _reported():
        captures = write_captures(folder / "captures")
    _errors.print(f"simulated    {', '.join(str(path) for path in captures)}", soft_wrap=True)
    stages = [_ingest_stage("binance", captures), _reconstruct_stage(), _validate_stage()]
    summary = _stages(settings, stages)
    _tell(summary)
    with _reported():
        typer.echo(f'\n$ deltabook sql --warehouse {settings.warehouse} "{QUERY}"\n')
        show(query(_warehouse(settings), QUERY), "table", sys.stdout)
    _leave(summary, as_json)


Stage = tuple[str, Callable[[Any, Any, Any], dict[str, Any]]]
"""A job's name, and what it does with the warehouse, its run and the progress display."""


def _ingest_stage(source: str, paths: list[Path], replace: bool = False, archive: bool = False) -> Stage:
    def work(warehouse: Any, current: Any, progress: Any) -> dict[str, Any]:
        from deltabook.jobs.ingest import Options, ingest
        from deltabook.udfs.sources.registry import SOURCES

        if source not in SOURCES:
            raise SettingsError(f"source {source!r}: expected one of {', '.join(SOURCES)}")
        return ingest(warehouse, current, source, paths, progress, Options(replace, archive))

    return "ingest", work


def _reconstruct_stage() -> Stage:
    def work(warehouse: Any, current: Any, progress: Any) -> dict[str, Any]:
        from deltabook.jobs.reconstruct import reconstruct

        return reconstruct(warehouse, progress)

    return "reconstruct", work


def _validate_stage() -> Stage:
    def work(warehouse: Any, current: Any, progress: Any) -> dict[str, Any]:
        from deltabook.jobs.validate import validate

        return validate(warehouse, current, progress)

    return "validate", work


def _settings(config: Path | None, **flags: Any) -> Settings:
    with _reported():
        return load_settings(config, flags)


def _warehouse(settings: Settings) -> Any:
    from deltabook.jobs.session import spark_session
    from deltabook.jobs.warehouse import Warehouse

    return Warehouse(spark_session(settings), settings)


def _run(settings: Settings, as_json: bool, stages: list[Stage]) -> None:
    summary = _stages(settings, stages)
    _tell(summary)
    _leave(summary, as_json)


def _stages(settings: Settings, stages: list[Stage]) -> dict[str, Any]:
    """Run jobs one after another, each published on its own."""
    from deltabook.jobs.progress import Progress

    summary: dict[str, Any] = {}
    with _reported():
        warehouse = _warehouse(settings)
        progress = Progress(warehouse.spark, _errors)
        for name, work in stages:
            with warehouse.writing(name) as current:
                current.summary |= work(warehouse, current, progress)
            summary |= current.summary
    return summary


def _tell(summary: dict[str, Any]) -> None:
    from deltabook.jobs.summary import summary_lines

    for line in summary_lines(summary):
        _errors.print(line, markup=False, soft_wrap=True)


def _leave(summary: dict[str, Any], as_json: bool) -> None:
    """Print the JSON, and leave with the exit status that says how it went."""
    status = 0
    if any(verdict in ("failed", "errored") for verdict in summary.get("verdicts", {}).values()):
        status = EXPECTATION_FAILED
    if summary.get("refused"):
        status = REFUSED
    _finish(summary | {"exit_status": status}, as_json)
    if status:
        raise typer.Exit(status)


def _finish(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, default=str))


def _cause(trace: str) -> str:
    """Find the line that tells the cause: a worker's own error or another, else Spark's, else the first."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("deltabook.schemas.errors.")]
    named = [line[line.index("[") :] for line in lines if _SPARK_ERROR.search(line)]
    others = [line for line in lines if _PYTHON_ERROR.match(line)]
    return next(iter(own or others or named or lines), "")


@contextmanager
def _reported() -> Iterator[None]:
    """Turn errors that are meant for people into one message and an exit status."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except DeltabookError as error:
        message, status = str(error), error.exit_status
    except (PySparkException, Py4JError, DeltaError, OSError) as error:
        message, status = _cause(str(error)) or type(error).__name__, DeltabookError.exit_status
    else:
        return
    _errors.print(f"deltabook: {message}", markup=False, soft_wrap=True)
    raise typer.Exit(status)


def main(*arguments: str) -> None:
    """Run the command line; with arguments, as if they stood before those of the process.

    Parameters
    ----------
    *arguments : str
        Such as the name of the command, for `spark-submit jobs/<name>.py`.
    """
    app(args=[*arguments, *sys.argv[1:]])
