"""Commands that write tables: `ingest`, `reconstruct`, `validate`, and `run`, which runs all three."""

from __future__ import annotations

from logging import WARNING
from typing import Annotated

import typer

from deltabook.jobs.cli.app import (
    AnySource,
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
    MorePaths,
    OnGapOption,
    RepairOption,
    ReplaceOption,
    ReseedOption,
    SeedOption,
    ValidateOption,
    WarehouseOption,
    command,
    with_default,
)
from deltabook.jobs.console.logging import show_message
from deltabook.jobs.pipeline.stages import (
    EXPECTATION_FAILED,
    exit_with_status,
    ingest_stage,
    open_warehouse,
    print_result,
    print_summary,
    read_settings,
    reconstruct_stage,
    report_errors,
    run_and_exit,
    run_stages,
    split_source,
    stderr_console,
    validate_stage,
    write_last_report,
)
from deltabook.schemas.errors import SettingsError


@command(
    "deltabook ingest binance captures/",
    "deltabook ingest okx 2024-08-09.gz --archive --chunk 10m --warehouse books",
)
def ingest(
    source: AnySource,
    paths: MorePaths = None,
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
    """Read new raw files into messages and golden rows (independent data with which books are compared)."""
    settings = read_settings(config, warehouse=warehouse, master=master, jars=jars, chunk=chunk, log=log)
    with report_errors():
        name, files = split_source(source, paths)
    run_and_exit(settings, as_json, [ingest_stage(name, files, replace, archive, validated)], validated)


@command(
    "deltabook reconstruct",
    "deltabook reconstruct --cadence change,1s,1m --depth 50 --on-gap wait",
    "deltabook reconstruct --as-of 20240809T001500-1a2b3c4d",
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
    repair: RepairOption = None,
    reseed_after: ReseedOption = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="RUN",
            help="Rebuild the books of this earlier run, and compare the result with the run's stored books.",
        ),
    ] = None,
    validated: ValidateOption = True,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the books of every chunk whose messages or settings have changed."""
    settings = read_settings(
        config,
        warehouse=warehouse,
        master=master,
        jars=jars,
        depth=depth,
        cadence=cadence,
        checkpoint_every=checkpoint_every,
        on_gap=on_gap,
        seed=seed,
        repair=repair,
        reseed_after=reseed_after,
        log=log,
    )
    if as_of is None:
        return run_and_exit(settings, as_json, [reconstruct_stage(validated)], validated)
    with report_errors():
        from deltabook.jobs.console.progress import Progress
        from deltabook.jobs.pipeline.reproduce import reproduce

        opened = open_warehouse(settings)
        result = reproduce(opened, as_of, Progress(opened.spark, stderr_console))
    chunks, equal = result["symbol_hours"], result["symbol_hours"] - len(result["differing"])
    show_message(f"books        {equal:,} of {chunks:,} chunks equal; digest {result['digest']}")
    for chunk in result["differing"]:
        show_message(f"differs      {chunk}", WARNING)
    print_result(result | {"exit_status": EXPECTATION_FAILED if result["differing"] else 0}, as_json)
    if result["differing"]:
        raise typer.Exit(EXPECTATION_FAILED)


@command("deltabook validate")
def validate(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that messages are complete and in order, and that books equal golden rows (see ingest)."""
    settings = read_settings(config, warehouse=warehouse, master=master, jars=jars, log=log)
    run_and_exit(settings, as_json, [validate_stage()])


@command(
    "deltabook golden binance my-captures/ --warehouse books",
    "deltabook golden tardis csv/ --name bought --warehouse books",
)
def golden(
    source: AnySource,
    paths: MorePaths = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help=with_default("Name of the recording.", "SOURCE")),
    ] = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the books with another recording of the same instruments, which is rebuilt apart."""
    from deltabook.jobs.intake.recording import make_recording_settings, require_common_instruments

    settings = read_settings(config, warehouse=warehouse, master=master, jars=jars, log=log)
    with report_errors():
        kind, files = split_source(source, paths)
        recording = make_recording_settings(settings, kind if name is None else name)
    stages = [ingest_stage(kind, files, judged=False), reconstruct_stage(judged=False)]
    recorded = run_stages(recording, stages, judged=False)
    print_summary(recorded)
    with report_errors():
        require_common_instruments(settings, recording)
    summary = run_stages(settings, [validate_stage()])
    summary |= write_last_report(settings) | {"refused": recorded["refused"]}
    print_summary(summary)
    exit_with_status(summary, as_json)


@command(
    "deltabook run captures/",
    "deltabook run crypto_lake lake/ --depth full --warehouse books",
    "deltabook run binance captures/ --once --json",
    "deltabook run binance captures/ --watch --settle 120",
)
def run(
    source: AnySource,
    paths: MorePaths = None,
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    depth: DepthOption = None,
    cadence: CadenceOption = None,
    checkpoint_every: CheckpointOption = None,
    on_gap: OnGapOption = None,
    seed: SeedOption = None,
    repair: RepairOption = None,
    reseed_after: ReseedOption = None,
    chunk: ChunkOption = None,
    replace: ReplaceOption = False,
    archive: ArchiveOption = False,
    validated: ValidateOption = True,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="For schedulers: process only new files; start no Spark if there are none."
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Repeat --once until SIGTERM. --json prints one object per repetition."),
    ] = False,
    settle: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help=with_default(
                "With --once or --watch: leave out files that changed in the last SECONDS.", "60"
            ),
            show_default=False,
        ),
    ] = None,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read raw files, rebuild the books and check them: ingest, reconstruct and validate."""
    with report_errors():
        if (once and watch) or (settle is not None and not (once or watch)):
            raise SettingsError("run: pass at most one of --once and --watch; --settle needs one of them")
        name, files = split_source(source, paths)
    settings = read_settings(
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
        repair=repair,
        reseed_after=reseed_after,
        log=log,
    )
    if once or watch:
        from deltabook.jobs.pipeline import scheduled

        seconds = scheduled.SETTLE_SECONDS if settle is None else settle
        schedule = scheduled.Schedule(name, files, seconds, replace, archive, validated)
        return (scheduled.watch if watch else scheduled.run_once)(settings, schedule, as_json)
    stages = [ingest_stage(name, files, replace, archive, validated), reconstruct_stage(validated)]
    if not validated:
        return run_and_exit(settings, as_json, stages, judged=False)
    summary = run_stages(settings, [*stages, validate_stage()])
    summary |= write_last_report(settings)
    print_summary(summary)
    exit_with_status(summary, as_json)
