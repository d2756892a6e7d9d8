"""Commands that write a warehouse: the jobs, alone or one after another."""

from __future__ import annotations

from logging import WARNING
from typing import Annotated

import typer

from deltabook.jobs.cli.app import (
    ArchiveOption,
    CadenceOption,
    CheckpointOption,
    ChunkOption,
    ConfigOption,
    DepthOption,
    JarsOption,
    JsonOption,
    LogOption,
    MasterOption,
    OnGapOption,
    Paths,
    ReplaceOption,
    SeedOption,
    Source,
    ValidateOption,
    WarehouseOption,
    app,
    examples,
)
from deltabook.jobs.console.logging import say
from deltabook.jobs.pipeline.stages import (
    EXPECTATION_FAILED,
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


@app.command(
    epilog=examples(
        "deltabook ingest binance captures/",
        "deltabook ingest okx 2024-08-09.gz --archive --chunk 10m --warehouse books",
    )
)
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
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read raw files into events and golden samples, each file once."""
    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars, chunk=chunk, log=log)
    run_and_leave(settings, as_json, [ingest_stage(source, paths, replace, archive, validated)], validated)


@app.command(
    epilog=examples(
        "deltabook reconstruct",
        "deltabook reconstruct --cadence change,1s,1m --depth 50 --on-gap wait",
        "deltabook reconstruct --as-of 20240809T001500-1a2b3c4d",
    )
)
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
    log: LogOption = None,
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
        log=log,
    )
    if as_of is None:
        return run_and_leave(settings, as_json, [reconstruct_stage(validated)], validated)
    with reported():
        from deltabook.jobs.console.progress import Progress
        from deltabook.jobs.pipeline.reproduce import reproduce

        found = open_warehouse(settings)
        result = reproduce(found, as_of, Progress(found.spark, errors))
    hours, equal = result["symbol_hours"], result["symbol_hours"] - len(result["differing"])
    say(f"books        {equal:,} of {hours:,} symbol-hours equal; digest {result['digest']}")
    for hour in result["differing"]:
        say(f"differs      {hour}", WARNING)
    finish(result | {"exit_status": EXPECTATION_FAILED if result["differing"] else 0}, as_json)
    if result["differing"]:
        raise typer.Exit(EXPECTATION_FAILED)


@app.command(epilog=examples("deltabook validate"))
def validate(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the books: unbroken and in order, and equal to the golden samples."""
    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars, log=log)
    run_and_leave(settings, as_json, [validate_stage()])


@app.command(
    epilog=examples(
        "deltabook run binance captures/",
        "deltabook run crypto_lake lake/ --seed golden --depth full --warehouse books",
        "deltabook run binance captures/ --once --json",
        "deltabook run binance captures/ --watch --settle 120",
    )
)
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
    once: Annotated[
        bool, typer.Option("--once", help="For schedulers: only what is new; if nothing is, no Spark starts.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="As --once, again and again until SIGTERM; with --json a line a round."),
    ] = False,
    settle: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Of both: seconds for which a file must not have changed; default 60.",
            show_default=False,
        ),
    ] = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ingest, reconstruct and validate."""
    with reported():
        if (once and watch) or (settle is not None and not (once or watch)):
            raise SettingsError("run: expected one of --once and --watch, or neither; --settle goes with one")
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
        log=log,
    )
    if once or watch:
        from deltabook.jobs.pipeline import scheduled

        seconds = scheduled.SETTLE if settle is None else settle
        schedule = scheduled.Schedule(source, paths, seconds, replace, archive, validated)
        return (scheduled.watch if watch else scheduled.run_once)(settings, schedule, as_json)
    stages = [ingest_stage(source, paths, replace, archive, validated), reconstruct_stage(validated)]
    if not validated:
        return run_and_leave(settings, as_json, stages, judged=False)
    summary = run_stages(settings, [*stages, validate_stage()])
    summary |= write_last_report(settings)
    tell(summary)
    leave(summary, as_json)
