"""Commands that keep a warehouse whole."""

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
    app,
    examples,
)
from deltabook.jobs.pipeline.stages import (
    EXPECTATION_FAILED,
    errors,
    finish,
    ingest_stage,
    leave,
    reported,
    run_stages,
    settings_of,
)
from deltabook.schemas.errors import SettingsError


@app.command(epilog=examples("deltabook verify", "deltabook verify --deep --warehouse books --json"))
def verify(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read raw files, their copies and earlier runs' files too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare logs, data files and counts with what runs have recorded of them. Starts no Spark."""
    from deltabook.jobs.console.ladder_view import console_for
    from deltabook.jobs.maintenance.verify import show_verified
    from deltabook.jobs.maintenance.verify import verify as compare

    settings = settings_of(config, warehouse=warehouse)
    with reported():
        found = compare(settings.warehouse.absolute(), deep, errors)
    show_verified(found, console_for())
    finish(found, as_json)
    if found["findings"]:
        raise typer.Exit(EXPECTATION_FAILED)


@app.command(
    epilog=examples(
        "deltabook restore",
        "deltabook restore --yes",
        "deltabook restore --run 20240809T001500-1a2b3c4d --yes",
        "deltabook restore --rebuild --yes",
        "deltabook restore --from-archive --into books2 --warehouse books",
    )
)
def restore(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    master: MasterOption = None,
    jars: JarsOption = None,
    run: Annotated[
        str | None, typer.Option("--run", help="As this run published it; default: the newest that is whole.")
    ] = None,
    rebuilt: Annotated[
        bool, typer.Option("--rebuild", help="Take out damaged books and verdicts, to be made again.")
    ] = False,
    from_archive: Annotated[
        bool, typer.Option("--from-archive", help="Ingest every raw file of the ledger again, --into.")
    ] = False,
    into: Annotated[
        str | None, typer.Option("--into", metavar="PLACE", help="A new warehouse, for --from-archive.")
    ] = None,
    is_meant: Annotated[bool, typer.Option("--yes", help="Do it; else it is only told.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a damaged warehouse back: by its copies of logs, by time travel, or from what is sound."""
    settings = settings_of(config, warehouse=warehouse, master=master, jars=jars)
    with reported():
        if (run is not None) + rebuilt + from_archive > 1 or from_archive != (into is not None):
            raise SettingsError(
                "restore: expected one of --run RUN, --rebuild, --from-archive with --into, or none of them"
            )
    if into is not None:
        return _ingest_again(settings.warehouse.absolute(), config, master, jars, into, as_json)
    from deltabook.jobs.console.ladder_view import console_for
    from deltabook.jobs.integrity.audit import counting_on
    from deltabook.jobs.integrity.recovery import rebuild
    from deltabook.jobs.maintenance.restore import restore as bring_back
    from deltabook.jobs.maintenance.restore import told_of

    with reported():
        stage = counting_on(errors)
        done = rebuild(settings, is_meant, stage) if rebuilt else bring_back(settings, run, is_meant, stage)
    console = console_for()
    for line in told_of(done):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    finish(done, as_json)


def _ingest_again(
    warehouse: Path, config: Path | None, master: str | None, jars: Path | None, into: str, as_json: bool
) -> None:
    """Ingest what a ledger lists into a new warehouse, run by run; what is missing counts as refused."""
    from deltabook.jobs.integrity.audit import counting_on
    from deltabook.jobs.integrity.recovery import raw_files
    from deltabook.udfs.storage.object_store import located

    with reported():
        found = raw_files(warehouse, located(into).absolute(), counting_on(errors))
    settings = settings_of(config, warehouse=into, master=master, jars=jars, chunk=found["chunk"])
    stages = [ingest_stage(source, paths, archive=found["archived"]) for source, paths in found["batches"]]
    summary = run_stages(settings, stages) if stages else {}
    missing = [{"path": path, "reason": "neither it nor a copy of it is left"} for path in found["missing"]]
    unlisted = "the ledger that lists it is damaged: ingest it into the new warehouse"
    missing += [{"path": path, "reason": unlisted} for path in found["unlisted"]]
    for one in missing:
        errors.print(f"missing      {one['path']}: {one['reason']}", markup=False, soft_wrap=True)
    summary |= {"ledger_of": found["ledger_of"], "refused": [*summary.get("refused", []), *missing]}
    summary["files_read"] = sum(len(paths) for _, paths in found["batches"])
    errors.print(f"now          deltabook reconstruct --warehouse {into}", markup=False, soft_wrap=True)
    leave(summary, as_json)


@app.command(
    epilog=examples(
        "deltabook maintain",
        "deltabook maintain --keep 14d --yes",
        "deltabook maintain --prune-archive 90d --warehouse books",
    )
)
def maintain(
    warehouse: WarehouseOption = None,
    config: ConfigOption = None,
    keep: Annotated[
        str, typer.Option("--keep", help="Versions and files of so many days stay, at least 7d.")
    ] = "30d",
    prune_archive: Annotated[
        str | None,
        typer.Option("--prune-archive", help="Remove copies of raw files that are older, at least 7d."),
    ] = None,
    is_meant: Annotated[bool, typer.Option("--yes", help="Do it; else it is only told.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Join small files, and remove files and log entries that no kept version needs. Starts no Spark."""
    settings = settings_of(config, warehouse=warehouse)
    with reported():
        from deltabook.jobs.console.ladder_view import console_for
        from deltabook.jobs.maintenance.maintain import maintain as look_after
        from deltabook.jobs.maintenance.maintain import show_maintained
        from deltabook.jobs.maintenance.plan import Policy

        done = look_after(settings, Policy.of(keep, prune_archive), is_meant)
    show_maintained(done, console_for())
    finish(done, as_json)
