"""Commands to get to know it by."""

from __future__ import annotations

import sys
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
)
from deltabook.jobs.commands import (
    errors,
    ingest_stage,
    leave,
    open_warehouse,
    reconstruct_stage,
    reported,
    run_stages,
    settings_of,
    tell,
    validate_stage,
    write_last_report,
)


@app.command(epilog=examples("deltabook demo", "deltabook demo /tmp/demo --master local[2]"))
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


@app.command(epilog=examples("deltabook bench", "deltabook bench kernel --folder /tmp/bench"))
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


@app.command(epilog=examples("deltabook sources", "deltabook sources binance"))
def sources(
    name: Annotated[str | None, typer.Argument(help="One source; default: all.", show_default=False)] = None,
) -> None:
    """Print what each source reads, by which rules, and what it can prove."""
    from deltabook.jobs.sources import pages

    with reported():
        typer.echo(pages(name))
