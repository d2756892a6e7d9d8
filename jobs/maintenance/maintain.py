"""The command `maintain`: small files joined, and what no kept version needs removed. No Spark.

What is joined is published as a run of its own. Until then readers have what they had, and a command that is
killed has removed nothing that they, or `restore`, need.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from deltalake import WriterProperties
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from deltabook.jobs.console.formats import show_time, size_text
from deltabook.jobs.console.ladder_view import DIM
from deltabook.jobs.maintenance.plan import LARGEST, Plan, Policy
from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.records.second_copies import drop_copies
from deltabook.jobs.runtime.disk_errors import disk_named
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import open_table
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.names import NANOSECONDS_PER_SECOND
from deltabook.schemas.tables import FILES
from deltabook.udfs.storage.object_store import File, remove

_COMPRESSED = WriterProperties(compression="ZSTD", compression_level=3)


def maintain(settings: Settings, policy: Policy, is_meant: bool) -> dict[str, Any]:
    """Look after a warehouse.

    Parameters
    ----------
    settings : Settings
        Which.
    policy : Policy
        How long things are kept.
    is_meant : bool
        Whether to do it, or only to tell what would be done.

    Returns
    -------
    dict
        `is_done`, and as `Plan.told` returns it.

    Raises
    ------
    WarehouseError
        If nothing was published yet, another process is writing, or a log is not as it was written.
    """
    warehouse = Warehouse.without_spark(settings)
    root = warehouse.root
    plan = Plan.of(root, policy)
    if not is_meant or plan.is_empty:
        return {"is_done": is_meant} | plan.told()
    with warehouse.writing("maintain") as run:
        plan = Plan.of(root, policy, is_locked=True)  # what a killed run has left is taken back now
        told = plan.told()
        run.records = True  # where `written` alone is joined, too
        run.summary |= {name: value for name, value in told.items() if name != "tables"}
        with run.stage("joining"):
            for chore in plan.chores:
                if chore.small:
                    _join(warehouse, chore.table)
        if plan.pruned:
            warehouse.overwrite(FILES, _without_copies(plan))
        with run.stage("removing"):
            for chore in plan.chores:
                unneeded = [*chore.unneeded, *chore.unneeded_logs]
                folder = root / chore.table.name
                drop_copies(root, chore.table, {str(file.path.relative_to(folder)) for file in unneeded})
                _remove(chore.table.name, unneeded)
            _remove("left", plan.left)
    with disk_named(root), warehouse.locked():  # no ledger names them any more
        named = {row["content_hash"] for row in warehouse.rows(FILES) if row["archived"]}
        _remove("archive", [file for file in plan.copies if file.path.name not in named])
    return {"is_done": True} | told


def _join(warehouse: Warehouse, table: Table) -> None:
    held = open_table(warehouse.root, table)
    with warehouse.committing("join", table):
        held.optimize.compact(target_size=LARGEST, writer_properties=_COMPRESSED)


def _remove(name: str, files: Iterable[File]) -> None:
    with crash_points("remove", name):
        for file in files:
            remove(file.path)


def _without_copies(plan: Plan) -> list[dict[str, Any]]:
    """Return the ledger as it is once copies are gone: it says why there are none."""
    day = time.strftime("%Y-%m-%d", time.gmtime(plan.policy.now / NANOSECONDS_PER_SECOND))
    pruned = {row["content_hash"] for row in plan.pruned}
    told = {"archived": "", "reason": f"its copy was removed by maintain on {day}"}
    return [row | told if row["content_hash"] in pruned else row for row in plan.ledger]


def show_maintained(done: dict[str, Any], console: Console) -> None:
    """Print what was done, or would be, for people.

    Parameters
    ----------
    done : dict
        As `maintain` returns it.
    console : Console
        Where to.
    """
    told = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    since = show_time(done["kept_since"])[:10]
    told(f"{done['kept_runs']:,} runs are kept whole, {done['kept_from']} the first: published since {since}")
    told()
    told(_tables(done["tables"]))
    told()
    if done["copies"]:
        last = f", {done['last_copies']:,} of them the last ones" if done["last_copies"] else ""
        told(f"archive  {done['copies']:,} copies of raw files, {size_text(done['copies_bytes'])}{last}")
    if done["left"]:
        told(f"left     {done['left']:,} files of killed commands, {size_text(done['left_bytes'])}")
    told("done" if done["is_done"] else "nothing is done: --yes does it")


def _tables(rows: list[dict[str, Any]]) -> RichTable:
    """Tell what is done to each table."""
    table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, header_style=DIM, pad_edge=False)
    table.add_column("table", no_wrap=True)
    for title in ("files", "size", "join", "into", "remove", "frees", "log files", "size", "remove", "frees"):
        table.add_column(title, justify="right", no_wrap=True)
    names = ("files", "joined", "joined_into", "removed", "log", "log_removed")
    sizes = ("files_bytes", "removed_bytes", "log_bytes", "log_removed_bytes")
    whole = {"table": "all"} | {name: sum(row[name] for row in rows) for name in (*names, *sizes)}
    for row in (*rows, whole):
        if row is whole:
            table.add_section()
        counts = {name: f"{row[name]:,}" if row[name] else "" for name in names}
        bytes_of = {name: size_text(row[name]) if row[name] else "" for name in sizes}
        table.add_row(
            row["table"],
            counts["files"],
            bytes_of["files_bytes"],
            counts["joined"],
            counts["joined_into"],
            counts["removed"],
            bytes_of["removed_bytes"],
            counts["log"],
            bytes_of["log_bytes"],
            counts["log_removed"],
            bytes_of["log_removed_bytes"],
        )
    return table
