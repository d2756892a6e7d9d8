"""The command `live`, which rebuilds books while a recorder still writes the capture files."""

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
    command,
)
from deltabook.jobs.console.logging import show_message
from deltabook.jobs.pipeline.stages import (
    open_warehouse,
    print_result,
    read_settings,
    report_errors,
    require_source,
)


@command(
    "deltabook live binance captures/today --warehouse books",
    "deltabook live okx captures/ --trigger 0.5 --patience 1 --warehouse books",
    "deltabook live binance captures/ --once --json",
)
def live(
    source: Source,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Folder in which a recorder writes captures.", show_default=False
        ),
    ],
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    depth: DepthOption = None,
    cadence: CadenceOption = None,
    on_gap: OnGapOption = None,
    chunk: ChunkOption = None,
    trigger: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Seconds between the starts of two micro-batches.")
    ] = 1.0,
    patience: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Seconds for which a message waits for earlier messages that are missing.",
        ),
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Process the existing files, then end.")] = False,
    idle: Annotated[
        float,
        typer.Option(
            "--stop-after-idle",
            metavar="SECONDS",
            min=0,
            help="End after SECONDS without messages; 0: wait forever.",
        ),
    ] = 0.0,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild books within seconds while a recorder writes captures, until SIGTERM."""
    settings = read_settings(
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
    with report_errors():
        from deltabook.jobs.pipeline.stop_signals import catch_stop_signals
        from deltabook.jobs.streaming.follow_settings import FollowSettings, check_settings
        from deltabook.jobs.streaming.live import live as follow

        require_source(source)
        following = FollowSettings(source, folder, trigger, patience, once=once, idle=idle)
        check_settings(settings, following)
        opened = open_warehouse(settings)
        with catch_stop_signals() as is_stopping:
            show_message(f"following    {folder}, every {trigger:g} s")
            summary = follow(opened, following, is_stopping.is_set)
    for name in ("messages", "rows", "waiting", "late", "missed", "quarantined"):
        show_message(f"{name:<12} {summary[name]:,}")
    print_result(summary | {"exit_status": 0}, as_json)
