"""Commands to get to know it by."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from deltabook.jobs.cli.app import (
    CadenceOption,
    ConfigOption,
    JarsOption,
    JsonOption,
    MasterOption,
    WarehouseOption,
    app,
    examples,
    out_path,
)
from deltabook.jobs.pipeline.stages import (
    errors,
    finish,
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
    from deltabook.jobs.queries.sql import query, show
    from deltabook.jobs.tools.demo import QUERY, write_captures

    warehouse = warehouse or str(folder / "warehouse")
    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars)
    with reported():
        captures = write_captures(folder / "captures")
    errors.print(f"simulated    {', '.join(map(str, captures))}", markup=False, soft_wrap=True)
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
    from deltabook.jobs.tools.bench import run_benchmarks

    with reported():
        run_benchmarks(names or [], folder, peers)


@app.command(
    epilog=examples(
        "deltabook plan --symbols 50 --updates 2222 --months 12",
        "deltabook plan --symbols 2000 --updates 30 --cadence 1s --out plan.html",
    )
)
def plan(
    symbols: Annotated[int, typer.Option("--symbols", help="How many symbols.")] = 50,
    updates: Annotated[
        float, typer.Option("--updates", help="Level changes a second of each, on average.")
    ] = 100,
    months: Annotated[float, typer.Option("--months", help="How many months, of 730 hours.")] = 12,
    depth: Annotated[str | None, typer.Option("--depth", help="Levels a side in each row of books.")] = None,
    cadence: CadenceOption = None,
    cores: Annotated[
        int | None, typer.Option("--cores", help="How many there are; default: enough to finish in a day.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write it as an HTML page too, with fields to change.", callback=out_path),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Foretell cores, hours, memory and room, by the benchmarks' figures. Starts no Spark."""
    from deltabook.jobs.inspect import capacity

    writing = settings_of(config, depth=depth, cadence=cadence).writing
    with reported():
        found = capacity.plan(symbols, updates, writing, months, cores)
        if out:
            capacity.write_plan(found, out)
    rows = capacity.plan_rows(found)
    wide, value_wide = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, why in rows:
        typer.echo(f"{name:{wide}}  {value:{value_wide}}  {why}".rstrip())
    typer.echo(f"\n{capacity.caveat(found)}")
    finish(found | ({"page": str(out)} if out else {}), as_json)


@app.command(epilog=examples("deltabook sources", "deltabook sources binance"))
def sources(
    name: Annotated[str | None, typer.Argument(help="One source; default: all.", show_default=False)] = None,
) -> None:
    """Print what each source reads, by which rules, and what it can prove."""
    from deltabook.jobs.inspect.sources import pages

    with reported():
        typer.echo(pages(name))
