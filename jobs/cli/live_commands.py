"""The command that follows captures as they grow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltabook.jobs.cli.app import (
    CadenceOption,
    ChunkOption,
    ConfigOption,
    DepthOption,
    JarsOption,
    JsonOption,
    LogOption,
    MasterOption,
    OnGapOption,
    Source,
    WarehouseOption,
    app,
    examples,
)
from deltabook.jobs.console.logging import say
from deltabook.jobs.pipeline.stages import finish, open_warehouse, reported, require_source, settings_of


@app.command(
    epilog=examples(
        "deltabook live binance captures/today --warehouse books",
        "deltabook live okx captures/ --trigger 0.5 --patience 1 --warehouse books",
        "deltabook live binance captures/ --once --json",
    )
)
def live(
    source: Source,
    folder: Annotated[Path, typer.Argument(help="Folder in which captures grow.", show_default=False)],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    depth: DepthOption = None,
    cadence: CadenceOption = None,
    on_gap: OnGapOption = None,
    chunk: ChunkOption = None,
    trigger: Annotated[
        float, typer.Option(min=0, help="Seconds between the starts of two micro-batches.")
    ] = 1.0,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds a message waits for others that may belong before it.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Take what is there, and end.")] = False,
    idle: Annotated[
        float,
        typer.Option("--stop-after-idle", min=0, help="End after so many seconds without news; 0: never."),
    ] = 0.0,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild books as captures grow, seconds behind them, until SIGTERM."""
    settings = settings_of(
        config,
        warehouse=warehouse,
        master=master,
        jars=jars,
        depth=depth,
        cadence=cadence,
        on_gap=on_gap,
        chunk=chunk,
        log=log,
    )
    with reported():
        from deltabook.jobs.pipeline.scheduled import asked_to_end
        from deltabook.jobs.streaming.follow_settings import Following, check
        from deltabook.jobs.streaming.live import live as follow

        require_source(source)
        following = Following(source, folder, trigger, patience, once=once, idle=idle)
        check(settings, following)
        found = open_warehouse(settings)
        with asked_to_end() as asked:
            say(f"following    {folder}, every {trigger:g} s")
            summary = follow(found, following, asked.is_set)
    for name in ("messages", "rows", "waiting", "late", "missed", "quarantined"):
        say(f"{name:<12} {summary[name]:,}")
    finish(summary | {"exit_status": 0}, as_json)
