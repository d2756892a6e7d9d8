"""Commands that need no existing warehouse: `demo`, `bench`, `plan`, `inspect` and `sources`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from deltabook.jobs.cli.app import (
    AnySource,
    CadenceOption,
    ConfigOption,
    DepthOption,
    JarsOption,
    JsonOption,
    MasterOption,
    MorePaths,
    check_out_path,
    command,
    with_default,
)
from deltabook.jobs.pipeline.stages import (
    REFUSED,
    exit_with_status,
    ingest_stage,
    open_warehouse,
    print_result,
    print_summary,
    read_settings,
    reconstruct_stage,
    report_errors,
    run_stages,
    split_source,
    stderr_console,
    validate_stage,
    write_last_report,
)


@command("deltabook demo", "deltabook demo /tmp/demo --master local[2]")
def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder for the simulated captures and the tables.")
    ] = Path("demo"),
    warehouse: Annotated[
        str | None,
        typer.Option(
            "--warehouse", metavar="FOLDER", help=with_default("Folder of the tables.", "FOLDER/warehouse")
        ),
    ] = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate five minutes of two markets, rebuild and check the books, and run one query."""
    from deltabook.jobs.queries.sql import prepare_query, print_rows
    from deltabook.jobs.tools.demo import QUERY, write_captures

    warehouse = warehouse or str(folder / "warehouse")
    settings = read_settings(config, warehouse=warehouse, master=master, jars=jars)
    with report_errors():
        captures = write_captures(folder / "captures")
    stderr_console.print(f"simulated    {', '.join(map(str, captures))}", markup=False, soft_wrap=True)
    stages = [ingest_stage("binance", captures), reconstruct_stage(), validate_stage()]
    summary = run_stages(settings, stages)
    summary |= write_last_report(settings)
    print_summary(summary)
    with report_errors():
        typer.echo(f'\n$ deltabook sql --warehouse {settings.warehouse} "{QUERY}"\n')
        print_rows(prepare_query(open_warehouse(settings), QUERY), "table", sys.stdout)
    exit_with_status(summary, as_json)


@command("deltabook bench", "deltabook bench kernel --folder /tmp/bench")
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help=with_default("Benchmarks to run.", "all"), show_default=False),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Folder for data and results.")
    ] = Path("bench"),
    peers: Annotated[
        Path | None,
        typer.Option(
            "--peers",
            metavar="PYTHON",
            help=with_default("Python interpreter that has the other programs installed.", "none"),
        ),
    ] = None,
) -> None:
    """Measure speed and memory on simulated data, and compare them with other programs. Also writes JSON."""
    from deltabook.jobs.tools.bench import run_benchmarks

    with report_errors():
        run_benchmarks(names or [], folder, peers)


@command(
    "deltabook plan --symbols 50 --updates 2222 --months 12",
    "deltabook plan --symbols 2000 --updates 30 --cadence 1s --out plan.html",
)
def plan(
    symbols: Annotated[int, typer.Option("--symbols", metavar="COUNT", help="Number of symbols.")] = 50,
    updates: Annotated[
        float,
        typer.Option("--updates", metavar="RATE", help="Level changes per second and symbol, on average."),
    ] = 100,
    months: Annotated[
        float,
        typer.Option("--months", metavar="COUNT", help="Length of the recording in months of 730 hours."),
    ] = 12,
    depth: DepthOption = None,
    cadence: CadenceOption = None,
    cores: Annotated[
        int | None,
        typer.Option(
            "--cores", metavar="COUNT", help=with_default("Number of cores.", "enough to finish in a day")
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Also write an HTML page in which you can change the figures.",
            callback=check_out_path,
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate cores, hours, memory and disk space from measured figures. Starts no Spark."""
    from deltabook.jobs.lookup import capacity

    row_policy = read_settings(config, depth=depth, cadence=cadence).row_policy
    with report_errors():
        estimate = capacity.estimate_resources(symbols, updates, row_policy, months, cores)
        if out:
            capacity.write_estimate_page(estimate, out)
    rows = capacity.list_estimate_rows(estimate)
    name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, reason in rows:
        typer.echo(f"{name:{name_width}}  {value:{value_width}}  {reason}".rstrip())
    typer.echo(f"\n{capacity.describe_limits(estimate)}")
    print_result(estimate | ({"page": str(out)} if out else {}), as_json)


@command("deltabook inspect captures/", "deltabook inspect okx capture.gz --json")
def inspect(
    source: AnySource,
    paths: MorePaths = None,
    as_json: JsonOption = False,
) -> None:
    """Show what raw files are, what they have, and what would be skipped or refused; write nothing."""
    from deltabook.jobs.lookup.inspection import describe_inspection, inspect_files

    problems = 0
    with report_errors():
        name, files = split_source(source, paths)
        shown = []
        for inspection in inspect_files(files, name):
            problems += bool(inspection.problem)
            shown.append(inspection.to_json())
            if not as_json:
                typer.echo(describe_inspection(inspection))
    status = REFUSED if problems else 0
    print_result({"files": shown, "exit_status": status}, as_json)
    if status:
        raise typer.Exit(status)


@command("deltabook sources", "deltabook sources binance")
def sources(
    name: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help=with_default("One source.", "all"), show_default=False),
    ] = None,
) -> None:
    """Print the formats and feed rules of each source, and the best book status of each feed."""
    from deltabook.jobs.lookup.sources import describe_sources

    with report_errors():
        typer.echo(describe_sources(name))
