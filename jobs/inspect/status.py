"""The command `status`: what a warehouse has, from logs and small tables. Starts no Spark."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from deltabook.expectations.suites import ERRORED, FAILED, NONE, PASSED, WORST_FIRST
from deltabook.jobs.console.formats import hour_text, length_text, share_text, show_time, size_text
from deltabook.jobs.console.ladder_view import DIM, STATUS_STYLES
from deltabook.jobs.report.books import files_of
from deltabook.jobs.report.facts import STATUSES, Facts, Instrument, read_facts
from deltabook.jobs.report.tables import verdict
from deltabook.jobs.tables.published import CHUNK_PROPERTY, open_table, published_versions
from deltabook.jobs.tables.stored import Stored
from deltabook.jobs.warehouse.locks import WRITING, is_held
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.names import HOUR, step_of
from deltabook.schemas.tables import BOOKS, EVENTS, HOURS, RUNS, TABLES, form_of
from deltabook.udfs.storage.object_store import files_in

_RUNS_TOLD, _RUNS_SHOWN = 20, 5
_VERDICT_STYLES = {PASSED: "bold green", FAILED: "bold red", ERRORED: "bold red"}


def read_status(warehouse: Path) -> dict[str, Any]:
    """Tell what a warehouse has.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.

    Returns
    -------
    dict
        `warehouse`, `verdict`, `instruments` and `tables` (lists of dicts), `runs` (newest first),
        `bytes`, `other_bytes` (of data files that no published version names), `is_written` (by another
        process; None: the lock cannot be tried), `unfinished` (tables that an unfinished run has changed).

    Raises
    ------
    WarehouseError
        If nothing was published yet: says what to run.
    """
    is_written, unfinished = is_held(warehouse / WRITING), _unfinished(warehouse)
    if not published_versions(warehouse):
        if is_written:
            raise WarehouseError(f"warehouse {warehouse} has nothing yet: its first run is writing it now")
        left = "; what an unfinished run left behind is taken back by the next" if unfinished else ""
        raise WarehouseError(
            f"warehouse {warehouse} is empty: run `deltabook run` or `deltabook demo` first{left}"
        )
    facts = read_facts(warehouse)
    tables = _tables(facts.stored)
    return {
        "warehouse": str(warehouse),
        "verdict": verdict(facts)["overall"],
        "instruments": list(_instruments(facts)),
        "tables": tables,
        "bytes": sum(table["bytes"] for table in tables),
        "other_bytes": sum(table["other_bytes"] for table in tables),
        "runs": [_run(run) for run in facts.runs[: -_RUNS_TOLD - 1 : -1]],
        "is_written": is_written,
        "unfinished": [] if is_written else unfinished,
    }


def _unfinished(warehouse: Path) -> list[str]:
    """List what was written after the newest finished run: no reader sees it, the next run takes it back."""
    stored, versions = Stored(warehouse), published_versions(warehouse)
    tables = [table for table in TABLES.values() if table is not RUNS and stored.exists(table)]
    newer = [one for one in tables if open_table(warehouse, one).version() > versions.get(one.name, 0)]
    staging = ["_staging"] if (warehouse / "_staging").is_dir() else []
    return [table.name for table in newer] + staging


def _instruments(facts: Facts) -> Iterator[dict[str, Any]]:
    """Tell of each instrument what is known of it."""
    stored, chunk = facts.stored, _chunk(facts.stored)
    forms = [form_of(table, is_decimal) for table in (EVENTS, BOOKS) for is_decimal in (False, True)]
    files = {table.name: files_of(stored, table) for table in forms}
    hours: dict[Instrument, list[int]] = {}
    for exchange, symbol, hour in stored.files_of_both(EVENTS):
        hours.setdefault((exchange, symbol), []).append(hour)
    for key, row in sorted(facts.instruments.items()):
        own, there = _of(facts, key), hours.get(key, [])
        told = verdict(own)
        events, books = (
            sum(file.rows for file in files[form_of(table, row["is_decimal"]).name].get(key, []))
            for table in (EVENTS, BOOKS)
        )
        golden = {match["kind"]: match["text"] for match in told["matches"]}
        yield {
            "exchange": row["exchange"],
            "symbol": row["symbol"],
            "feed": row["feed"],
            "first_hour": min(there, default=None),
            "last_hour": max(there, default=None),
            "hours": len(there),
            "hour_length": chunk,
            "hours_missing": (there[-1] - there[0]) // chunk + 1 - len(there) if there else 0,
            "events": events,
            "book_rows": books,
            "coverage": {name: int(own.coverage[name].sum()) for name in STATUSES},
            "gaps": {kind: count for count, kind in told["gap_kinds"]},
            "verdict": told["overall"],
            "failed_hours": told["failed"],
            "golden": golden,
        }


def _of(facts: Facts, key: Instrument) -> Facts:
    """Return the facts of one instrument."""
    exchange, symbol = key
    frames = (facts.standing, facts.coverage)
    standing, coverage = (
        frame[(frame["exchange"] == exchange) & (frame["symbol"] == symbol)] for frame in frames
    )
    gaps = facts.gaps.filter((pc.field("exchange") == exchange) & (pc.field("symbol") == symbol))
    verdicts = [row for row in facts.verdicts if (row["exchange"], row["symbol"]) == key]
    return replace(facts, verdicts=verdicts, standing=standing, coverage=coverage, gaps=gaps)


def _chunk(stored: Stored) -> int:
    """Return the length of the warehouse's hours, ns."""
    if not stored.exists(HOURS):
        return HOUR
    fixed = open_table(stored.root, HOURS).metadata().configuration.get(CHUNK_PROPERTY)
    return step_of(fixed) if fixed else HOUR


def _tables(stored: Stored) -> list[dict[str, Any]]:
    """Tell the rows and sizes of each table as published, and what else its folder holds."""
    told = []
    for table in (one for one in TABLES.values() if stored.exists(one)):
        opened = open_table(stored.root, table, (stored.versions_read or {}).get(table.name))
        files = pa.table(opened.get_add_actions(flatten=True)).select(["size_bytes", "num_records"])
        size = pc.sum(files["size_bytes"]).as_py() or 0
        folder = stored.root / table.name
        there = [file for file in files_in(folder, deep=True) if file.path.suffix == ".parquet"]
        other = sum(file.bytes for file in there if folder / "_delta_log" not in file.path.parents) - size
        told.append(
            {
                "table": table.name,
                "rows": pc.sum(files["num_records"]).as_py() or 0,
                "files": files.num_rows,
                "bytes": size,
                "other_bytes": max(other, 0),
            }
        )
    return told


def _run(run: dict[str, Any]) -> dict[str, Any]:
    """Tell of one run when it was, how long it took, and how it ended."""
    summary = json.loads(run["summary"])
    verdicts = summary.get("verdicts", {})
    return {
        "run_id": run["run_id"],
        "command": run["command"],
        "started": run["started"],
        "finished": run["finished"],
        "verdict": min(verdicts.values(), key=WORST_FIRST.index, default=NONE),
        "failed_hours": summary.get("symbol_hours_failed", 0),
        "files": summary.get("files_new"),
        "refused": len(summary.get("refused", [])),
    }


def show_status(status: dict[str, Any], console: Console) -> None:
    """Print it for people.

    Parameters
    ----------
    status : dict
        As `read_status` returns it.
    console : Console
        Where to.
    """
    head = Text.assemble((status["warehouse"], "bold"), "  ", _verdict(status["verdict"]))
    console.print(head, soft_wrap=True)
    for line in _warnings(status):
        console.print(line, soft_wrap=True)
    for instrument in status["instruments"]:
        console.print(Text("\n").join([Text(), *_card(instrument)]), soft_wrap=True)
    console.print()
    console.print(_sizes(status))
    console.print(
        Text("else: earlier versions, and what unfinished runs left: deltabook maintain", DIM),
        soft_wrap=True,
    )
    console.print()
    console.print(_last_runs(status["runs"]))


def _verdict(name: str, failed_hours: int = 0) -> Text:
    told = "not judged" if name == NONE else name
    told += f" ({failed_hours:,} hours)" if failed_hours else ""
    return Text(told, _VERDICT_STYLES.get(name, DIM))


def _warnings(status: dict[str, Any]) -> Iterator[Text]:
    if status["is_written"]:
        yield Text("a run is writing it now: this is what the one before has published", "yellow")
    if status["is_written"] is None:
        yield Text("whether a run is writing it cannot be told: its lock may not be tried", DIM)
    if status["unfinished"]:
        names = ", ".join(status["unfinished"])
        yield Text(f"an unfinished run left {names} behind: the next run takes it back", "yellow")


def _card(one: dict[str, Any]) -> Iterator[Text]:
    """Tell of one instrument in a few lines."""
    name = Text.assemble((f"{one['exchange']} {one['symbol']}", "bold"), (f"  {one['feed']}  ", DIM))
    yield name.append_text(_verdict(one["verdict"], one["failed_hours"]))
    hours = "none"
    if one["hours"]:
        first, last = hour_text(one["first_hour"]), hour_text(one["last_hour"])
        span = f"{first} to {last}" if first != last else first
        length = "" if one["hour_length"] == HOUR else f" of {length_text(one['hour_length'])}"
        hours = f"{one['hours']:,}{length}, {span}"
    line = Text(f"  hours     {hours}")
    if one["hours_missing"]:
        line.append(f", {one['hours_missing']:,} missing between", "yellow")
    yield line
    yield Text(f"  rows      {one['events']:,} events, {one['book_rows']:,} of books")
    whole = sum(one["coverage"].values())
    line = Text("  coverage  ")
    shares = [
        Text(f"{share_text(length, whole)} {name}", STATUS_STYLES.get(name, DIM).removeprefix("bold "))
        for name, length in one["coverage"].items()
        if length
    ]
    yield line.append_text(Text(", ").join(shares) if shares else Text("none", DIM))
    gaps = ", ".join(f"{count:,} {kind}" for kind, count in one["gaps"].items())
    yield Text("  gaps      ").append(gaps or "none", "yellow" if gaps else "")
    golden = [f"{kind}: {text}" for kind, text in one["golden"].items()] or ["none compared"]
    for number, text in enumerate(golden):
        yield Text(f"  {'' if number else 'golden':<8}  {text}")


def _table(*titles: str) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, header_style=DIM, pad_edge=False)
    for title in titles:
        is_number = title in ("rows", "files", "published", "else", "took")
        table.add_column(title, justify="right" if is_number else "left", no_wrap=title != "result")
    return table


def _sizes(status: dict[str, Any]) -> RichTable:
    """Tell the sizes of the tables; `else` are files that no published version names any more."""
    table = _table("table", "rows", "files", "published", "else")
    for one in status["tables"]:
        sizes = size_text(one["bytes"]), size_text(one["other_bytes"])
        table.add_row(one["table"], f"{one['rows']:,}", f"{one['files']:,}", *sizes)
    table.add_section()
    table.add_row("all", "", "", size_text(status["bytes"]), size_text(status["other_bytes"]))
    return table


def _last_runs(runs: Iterable[dict[str, Any]]) -> RichTable:
    table = _table("last runs", "command", "took", "result")
    for run in list(runs)[:_RUNS_SHOWN]:
        result = _verdict(run["verdict"], run["failed_hours"])
        if run["files"] is not None:
            result.append(f", {run['files']:,} new files", DIM)
        if run["refused"]:
            result.append(f", {run['refused']:,} refused", "yellow")
        started = f"{show_time(run['started'])[:19]}Z"
        table.add_row(started, run["command"], length_text(run["finished"] - run["started"]), result)
    return table
