"""Commands that check, repair and clean up a warehouse: `verify`, `restore` and `maintain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deltabook.jobs.cli.app import (
    ConfigOption,
    JarsOption,
    JsonOption,
    MasterOption,
    WarehouseOption,
    command,
    with_default,
)
from deltabook.jobs.pipeline.stages import (
    EXPECTATION_FAILED,
    exit_with_status,
    ingest_stage,
    print_result,
    read_settings,
    report_errors,
    run_stages,
    stderr_console,
)
from deltabook.schemas.errors import SettingsError


@command("deltabook verify", "deltabook verify --deep --warehouse books --json")
def verify(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also read raw files, copies of raw files, and files of earlier runs."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare logs, data files and row counts with the records that runs made. Starts no Spark."""
    from deltabook.jobs.console.ladder_view import open_console
    from deltabook.jobs.maintenance.verify import print_verification, verify_warehouse

    settings = read_settings(config, warehouse=warehouse)
    with report_errors():
        result = verify_warehouse(settings.warehouse.absolute(), deep, stderr_console)
    print_verification(result, open_console())
    status = EXPECTATION_FAILED if result["findings"] else 0
    print_result(result | {"exit_status": status}, as_json)
    if status:
        raise typer.Exit(status)


@command(
    "deltabook restore",
    "deltabook restore --yes",
    "deltabook restore --run 20240809T001500-1a2b3c4d --yes",
    "deltabook restore --rebuild --yes",
    "deltabook restore --from-archive --into books2 --warehouse books",
)
def restore(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help=with_default("Restore the tables of this run.", "the newest run without damage"),
        ),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Remove damaged books and verdicts; the next run rebuilds them."),
    ] = False,
    from_archive: Annotated[
        bool,
        typer.Option(
            "--from-archive", help="Ingest every raw file of the ledger into a new warehouse (--into)."
        ),
    ] = False,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="FOLDER", help="With --from-archive: folder of the new warehouse."),
    ] = None,
    is_applied: Annotated[bool, typer.Option("--yes", help="Apply the changes (default: dry run).")] = False,
    as_json: JsonOption = False,
) -> None:
    """Restore a damaged warehouse from copies of table logs, from an earlier run, or from raw files."""
    settings = read_settings(config, warehouse=warehouse, master=master, jars=jars)
    with report_errors():
        if (run is not None) + rebuild + from_archive > 1 or from_archive != (into is not None):
            raise SettingsError(
                "restore: pass at most one of --run, --rebuild and --from-archive; --from-archive and --into "
                "must be passed together"
            )
    if into is not None:
        return _ingest_again(settings.warehouse.absolute(), config, master, jars, into, as_json)
    from deltabook.jobs.console.ladder_view import open_console
    from deltabook.jobs.integrity.audit import stage_display
    from deltabook.jobs.integrity.recovery import drop_damaged_results
    from deltabook.jobs.maintenance.restore import describe_restore, restore_warehouse

    with report_errors():
        stage = stage_display(stderr_console)
        if rebuild:
            result = drop_damaged_results(settings, is_applied, stage)
        else:
            result = restore_warehouse(settings, run, is_applied, stage)
    console = open_console()
    for line in describe_restore(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    print_result({**result}, as_json)


def _ingest_again(
    warehouse: Path, config: Path | None, master: str | None, jars: Path | None, into: str, as_json: bool
) -> None:
    """Ingest all raw files of a warehouse into the new warehouse `into`; report missing files as refused.

    The ledger (table `files`) lists the raw files. Files that one run of `ingest` has read together are again
    ingested in one run.
    """
    from deltabook.jobs.integrity.audit import stage_display
    from deltabook.jobs.integrity.recovery import locate_raw_files
    from deltabook.udfs.storage.locations import parse_location

    with report_errors():
        ledger = locate_raw_files(warehouse, parse_location(into).absolute(), stage_display(stderr_console))
    settings = read_settings(config, warehouse=into, master=master, jars=jars, chunk=ledger["chunk"])
    stages = [ingest_stage(source, paths, archive=ledger["archived"]) for source, paths in ledger["batches"]]
    summary = run_stages(settings, stages) if stages else {}
    missing = [
        {"path": path, "reason": "neither the file nor an archived copy exists"} for path in ledger["missing"]
    ]
    unlisted = "the newer ledger that lists this file is damaged: ingest the file into the new warehouse"
    missing += [{"path": path, "reason": unlisted} for path in ledger["unlisted"]]
    for file in missing:
        stderr_console.print(f"missing      {file['path']}: {file['reason']}", markup=False, soft_wrap=True)
    summary |= {"ledger_of": ledger["ledger_of"], "refused": [*summary.get("refused", []), *missing]}
    summary["files_read"] = sum(len(paths) for _, paths in ledger["batches"])
    stderr_console.print(
        f"next         deltabook reconstruct --warehouse {into}", markup=False, soft_wrap=True
    )
    exit_with_status(summary, as_json)


@command(
    "deltabook maintain",
    "deltabook maintain --keep 14d --yes",
    "deltabook maintain --prune-archive 90d --warehouse books",
)
def maintain(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            metavar="DAYS",
            help="Keep the table versions and files of the last DAYS, such as 14d; at least 7d.",
        ),
    ] = "30d",
    prune_archive: Annotated[
        str | None,
        typer.Option(
            "--prune-archive",
            metavar="DAYS",
            help=with_default(
                "Remove archived copies of raw files that are older than DAYS, such as 90d; at least 7d.",
                "remove none",
            ),
        ),
    ] = None,
    is_applied: Annotated[bool, typer.Option("--yes", help="Apply the changes (default: dry run).")] = False,
    as_json: JsonOption = False,
) -> None:
    """Merge small files, and remove files and log entries that no retained version needs. Starts no Spark."""
    settings = read_settings(config, warehouse=warehouse)
    with report_errors():
        from deltabook.jobs.console.ladder_view import open_console
        from deltabook.jobs.maintenance.maintain import maintain_warehouse, print_maintenance
        from deltabook.jobs.maintenance.retention import RetentionPolicy

        result = maintain_warehouse(settings, RetentionPolicy.parse(keep, prune_archive), is_applied)
    print_maintenance(result, open_console())
    print_result({**result}, as_json)
