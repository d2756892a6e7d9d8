"""The command `maintain`: compact small files, and remove files that no retained version needs.

The command needs no Spark. The command publishes the compacted files as a new run; until then, readers use
the old files. If the command is killed, every file that readers or `restore` need still exists.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from deltalake import WriterProperties
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from deltabook.jobs.console.formats import format_size, format_time
from deltabook.jobs.console.ladder_view import DIM
from deltabook.jobs.maintenance.plan import MaintenanceReport, UpkeepPlan
from deltabook.jobs.maintenance.retention import RetentionPolicy
from deltabook.jobs.maintenance.table_upkeep import MAX_FILE_BYTES, TableReport
from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.records.second_copies import remove_copies
from deltabook.jobs.runtime.disk_errors import name_disk_errors
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.names import NANOSECONDS_PER_SECOND
from deltabook.schemas.rows import LedgerRow
from deltabook.schemas.tables import FILES
from deltabook.udfs.storage.object_store import StoredFile, remove_file

_COMPRESSED = WriterProperties(compression="ZSTD", compression_level=3)


def maintain_warehouse(settings: Settings, policy: RetentionPolicy, is_meant: bool) -> MaintenanceReport:
    """Compact small files of a warehouse and remove files that no retained version needs.

    Parameters
    ----------
    settings : Settings
        Settings with the address of the warehouse.
    policy : RetentionPolicy
        How long versions, files and copies of raw files are retained.
    is_meant : bool
        Whether to apply the changes. If False, the changes are only reported.

    Returns
    -------
    MaintenanceReport
        Counts and sizes of the files that were changed. After a dry run: of the files to change.

    Raises
    ------
    WarehouseError
        If nothing is published yet, if another process is writing to the warehouse, or if a log is damaged.
    """
    warehouse = Warehouse.without_spark(settings)
    root = warehouse.root
    plan = UpkeepPlan.make(root, policy)
    if not is_meant or plan.is_empty:
        return plan.report(is_meant)
    with warehouse.writing("maintain") as run:
        # Plan again, because `writing` has rolled back the changes of any killed run.
        plan = UpkeepPlan.make(root, policy, is_locked=True)
        report = plan.report(is_done=True)
        run.always_records = True  # the run is recorded even if only `written` is compacted
        unrecorded = ("tables", "is_done")
        run.summary |= {name: value for name, value in report.items() if name not in unrecorded}
        with run.stage("joining"):
            for upkeep in plan.tables:
                if upkeep.small_files:
                    _compact(warehouse, upkeep.table)
        if plan.pruned_rows:
            warehouse.overwrite(FILES, _mark_pruned_copies(plan))
        with run.stage("removing"):
            for upkeep in plan.tables:
                unneeded = [*upkeep.unneeded_files, *upkeep.unneeded_log_files]
                folder = root / upkeep.table.name
                paths = {str(file.path.relative_to(folder)) for file in unneeded}
                remove_copies(root, upkeep.table, paths)
                _remove(upkeep.table.name, unneeded)
            _remove("left", plan.leftovers)
    # The published ledger no longer lists the expired copies, so these copies can be removed now.
    with name_disk_errors(root), warehouse.locked():
        archived = {row["content_hash"] for row in warehouse.rows(FILES) if row["archived"]}
        _remove("archive", [file for file in plan.expired_copies if file.path.name not in archived])
    return report


def _compact(warehouse: Warehouse, table: Table) -> None:
    """Join the small data files of each partition of a table into larger ones, in one commit."""
    delta_table = open_table(warehouse.root, table)
    with warehouse.committing("join", table):
        delta_table.optimize.compact(target_size=MAX_FILE_BYTES, writer_properties=_COMPRESSED)


def _remove(name: str, files: Iterable[StoredFile]) -> None:
    """Remove files. `name` names the crash points around the removal: a table or a kind of files."""
    with crash_points("remove", name):
        for file in files:
            remove_file(file.path)


def _mark_pruned_copies(plan: UpkeepPlan) -> list[LedgerRow]:
    """Return the rows of the ledger as they are after expired copies of raw files were removed.

    In the row of a file whose copy is removed, `archived` is empty, and `reason` gives the date of the
    removal.
    """
    day = time.strftime("%Y-%m-%d", time.gmtime(plan.policy.now / NANOSECONDS_PER_SECOND))
    pruned = {row["content_hash"] for row in plan.pruned_rows}
    rows: list[LedgerRow] = []
    for row in plan.ledger:
        if row["content_hash"] in pruned:
            row = {**row, "archived": "", "reason": f"its copy was removed by maintain on {day}"}
        rows.append(row)
    return rows


def print_maintenance(report: MaintenanceReport, console: Console) -> None:
    """Print what `maintain` changed; after a dry run, print the planned changes.

    Parameters
    ----------
    report : MaintenanceReport
        Result of `maintain_warehouse`.
    console : Console
        Console to print to.
    """
    show = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    day = format_time(report["kept_since"])[:10]
    show(f"retained: {report['kept_runs']:,} runs from {report['kept_from']} on, published since {day}")
    show()
    show(_make_table(report["tables"]))
    show()
    if report["copies"]:
        size = format_size(report["copies_bytes"])
        last = f"; {report['last_copies']:,} of them have no original" if report["last_copies"] else ""
        show(f"archive  remove {report['copies']:,} copies of raw files, {size}{last}")
    if report["left"]:
        size = format_size(report["left_bytes"])
        show(f"left     remove {report['left']:,} files of killed commands, {size}")
    show("done" if report["is_done"] else "nothing changed: pass --yes to apply")


def _make_table(reports: list[TableReport]) -> RichTable:
    """Return the table of counts and sizes to print: one row for each table, and a last row of sums."""
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, header_style=DIM, pad_edge=False)
    grid.add_column("table", no_wrap=True)
    titles = ("files", "size", "compact", "into", "remove", "frees", "log files", "size", "remove", "frees")
    for title in titles:
        grid.add_column(title, justify="right", no_wrap=True)
    for report in reports:
        grid.add_row(report["table"], *_format_counts(report))
    grid.add_section()
    grid.add_row("all", *_format_counts(_sum_reports(reports)))
    return grid


def _sum_reports(reports: list[TableReport]) -> TableReport:
    """Return the sums of all reports."""
    return {
        "table": "all",
        "files": sum(report["files"] for report in reports),
        "files_bytes": sum(report["files_bytes"] for report in reports),
        "joined": sum(report["joined"] for report in reports),
        "joined_into": sum(report["joined_into"] for report in reports),
        "removed": sum(report["removed"] for report in reports),
        "removed_bytes": sum(report["removed_bytes"] for report in reports),
        "log": sum(report["log"] for report in reports),
        "log_bytes": sum(report["log_bytes"] for report in reports),
        "log_removed": sum(report["log_removed"] for report in reports),
        "log_removed_bytes": sum(report["log_removed_bytes"] for report in reports),
    }


def _format_counts(report: TableReport) -> list[str]:
    """Return the cells of one row to print. A zero is shown as an empty cell."""
    cells = (
        (report["files"], False),
        (report["files_bytes"], True),
        (report["joined"], False),
        (report["joined_into"], False),
        (report["removed"], False),
        (report["removed_bytes"], True),
        (report["log"], False),
        (report["log_bytes"], True),
        (report["log_removed"], False),
        (report["log_removed_bytes"], True),
    )
    return [(format_size(value) if is_size else f"{value:,}") if value else "" for value, is_size in cells]
