"""The command `status`: show what a warehouse contains. Starts no Spark.

The command reads only Delta logs and small tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.compute as pc
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from deltabook.expectations.suites import ERRORED, FAILED, NONE, PASSED, WORST_FIRST
from deltabook.jobs.console.formats import (
    format_chunk,
    format_duration,
    format_share,
    format_size,
    format_time,
)
from deltabook.jobs.console.ladder_view import DIM, STATUS_STYLES
from deltabook.jobs.report.data_files import list_data_files
from deltabook.jobs.report.inputs import STATUSES, Instrument, ReportInputs, RunSummary, read_report_inputs
from deltabook.jobs.report.verdict import summarize_verdict
from deltabook.jobs.tables.delta_tables import CHUNK_PROPERTY, open_table
from deltabook.jobs.tables.published import empty_warehouse_error, published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.locks import WRITE_LOCK, is_lock_held
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.names import HOUR, step_of
from deltabook.schemas.rows import RunRow
from deltabook.schemas.tables import BOOKS, EVENTS, HOURS, RUNS, TABLES, form_of
from deltabook.udfs.storage.object_store import list_folder

_RUNS_LISTED, _RUNS_SHOWN = 20, 5
_VERDICT_STYLES = {PASSED: "bold green", FAILED: "bold red", ERRORED: "bold red"}


class InstrumentStatus(TypedDict):
    """What the warehouse contains of one instrument.

    `hours`, `hours_missing` and `failed_hours` are numbers of chunks; each chunk is `hour_length` ns long.
    `first_hour` and `last_hour` are starts of chunks, ns since 1970 UTC. `coverage` maps each status to how
    long books had the status, in ns. `gaps` maps each kind of gap to the number of gaps. `golden` maps each
    kind of golden row to a text that says how many books equal their golden rows.
    """

    exchange: str
    symbol: str
    feed: str
    first_hour: int | None
    last_hour: int | None
    hours: int
    hour_length: int
    hours_missing: int
    events: int
    book_rows: int
    coverage: dict[str, int]
    gaps: dict[str, int]
    verdict: str
    failed_hours: int
    golden: dict[str, str]


class TableSize(TypedDict):
    """Number of rows, number of data files and size in bytes of the published version of a table.

    `other_bytes` is the size of all data files of the table that are not in the published version.
    """

    table: str
    rows: int
    files: int
    bytes: int
    other_bytes: int


class RunStatus(TypedDict):
    """A run, with start and end (ns since 1970 UTC), worst verdict, and counts of new and refused files."""

    run_id: str
    command: str
    started: int
    finished: int
    verdict: str
    failed_hours: int
    files: int | None
    refused: int


class WarehouseStatus(TypedDict):
    """Contents of a warehouse.

    `runs` lists the newest run first. `bytes` is the size of the data files of the published versions, and
    `other_bytes` is the size of all other data files. `is_written` says whether a run has locked the
    warehouse now; None: the lock cannot be tested. `unfinished` lists what a killed run has left: tables with
    unpublished changes, and the folder `_staging`.
    """

    warehouse: str
    verdict: str
    instruments: list[InstrumentStatus]
    tables: list[TableSize]
    bytes: int
    other_bytes: int
    runs: list[RunStatus]
    is_written: bool | None
    unfinished: list[str]


def read_status(warehouse: Path) -> WarehouseStatus:
    """Return the contents of a warehouse: instruments, tables, runs and verdicts.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.

    Raises
    ------
    WarehouseError
        If the warehouse has no published tables yet. The message names the command to run.
    """
    is_written, unfinished = is_lock_held(warehouse / WRITE_LOCK), _list_unfinished(warehouse)
    if not published_versions(warehouse):
        if is_written:
            raise WarehouseError(f"warehouse {warehouse} is still empty: its first run is writing to it now")
        error = empty_warehouse_error(warehouse)
        raise WarehouseError(f"{error}; the next run rolls back the unfinished one") if unfinished else error
    inputs = read_report_inputs(warehouse)
    tables = _measure_tables(inputs.stored)
    return {
        "warehouse": str(warehouse),
        "verdict": summarize_verdict(inputs)["overall"],
        "instruments": list(_describe_instruments(inputs)),
        "tables": tables,
        "bytes": sum(table["bytes"] for table in tables),
        "other_bytes": sum(table["other_bytes"] for table in tables),
        "runs": [_describe_run(run) for run in inputs.runs[: -_RUNS_LISTED - 1 : -1]],
        "is_written": is_written,
        "unfinished": [] if is_written else unfinished,
    }


def _list_unfinished(warehouse: Path) -> list[str]:
    """Return the tables with commits after the published version, and `_staging` if this folder exists.

    An unfinished run left these commits and this folder. Readers do not see the changes of an unfinished run,
    and the next run rolls the changes back.
    """
    stored, versions = TableReader(warehouse), published_versions(warehouse)
    tables = [table for table in TABLES.values() if table is not RUNS and stored.exists(table)]
    newer = [
        table for table in tables if open_table(warehouse, table).version() > versions.get(table.name, 0)
    ]
    staging = ["_staging"] if (warehouse / "_staging").is_dir() else []
    return [table.name for table in newer] + staging


def _describe_instruments(inputs: ReportInputs) -> Iterator[InstrumentStatus]:
    """Yield the contents and the verdict of each instrument, ordered by exchange and symbol."""
    stored, length = inputs.stored, _read_chunk_length(inputs.stored)
    forms = [form_of(table, is_decimal) for table in (EVENTS, BOOKS) for is_decimal in (False, True)]
    files = {table.name: list_data_files(stored, table) for table in forms}
    hours: dict[Instrument, list[int]] = {}
    for exchange, symbol, hour in stored.files_of_both(EVENTS):
        hours.setdefault((exchange, symbol), []).append(hour)
    for key, row in sorted(inputs.instruments.items()):
        own, chunks = _select_instrument(inputs, key), hours.get(key, [])
        summary = summarize_verdict(own)
        events, books = (
            sum(file.rows for file in files[form_of(table, row["is_decimal"]).name].get(key, []))
            for table in (EVENTS, BOOKS)
        )
        golden = {match["kind"]: match["text"] for match in summary["matches"]}
        yield {
            "exchange": row["exchange"],
            "symbol": row["symbol"],
            "feed": row["feed"],
            "first_hour": min(chunks, default=None),
            "last_hour": max(chunks, default=None),
            "hours": len(chunks),
            "hour_length": length,
            "hours_missing": (chunks[-1] - chunks[0]) // length + 1 - len(chunks) if chunks else 0,
            "events": events,
            "book_rows": books,
            "coverage": {name: int(own.coverage[name].sum()) for name in STATUSES},
            "gaps": {kind: count for count, kind in summary["gap_kinds"]},
            "verdict": summary["overall"],
            "failed_hours": summary["failed"],
            "golden": golden,
        }


def _select_instrument(inputs: ReportInputs, key: Instrument) -> ReportInputs:
    """Return a copy of the inputs with the verdicts, fidelity, coverage and gaps of one instrument only."""
    exchange, symbol = key
    frames = (inputs.latest_fidelity, inputs.coverage)
    latest_fidelity, coverage = (
        frame[(frame["exchange"] == exchange) & (frame["symbol"] == symbol)] for frame in frames
    )
    gaps = inputs.gaps.filter((pc.field("exchange") == exchange) & (pc.field("symbol") == symbol))
    verdicts = [row for row in inputs.verdicts if (row["exchange"], row["symbol"]) == key]
    return replace(inputs, verdicts=verdicts, latest_fidelity=latest_fidelity, coverage=coverage, gaps=gaps)


def _read_chunk_length(stored: TableReader) -> int:
    """Return the length of the warehouse's chunks, ns."""
    if not stored.exists(HOURS):
        return HOUR
    chunk = open_table(stored.root, HOURS).metadata().configuration.get(CHUNK_PROPERTY)
    return step_of(chunk) if chunk else HOUR


def _measure_tables(stored: TableReader) -> list[TableSize]:
    """Return rows, files and bytes of each published table, and the bytes of the table's unpublished files.

    Unpublished data files belong to earlier versions or to unfinished runs.
    """
    measured: list[TableSize] = []
    for table in filter(stored.exists, TABLES.values()):
        opened = open_table(stored.root, table, (stored.versions_read or {}).get(table.name))
        files = pa.table(opened.get_add_actions(flatten=True)).select(["size_bytes", "num_records"])
        size = pc.sum(files["size_bytes"]).as_py() or 0
        folder = stored.root / table.name
        on_disk = [file for file in list_folder(folder, deep=True) if file.path.suffix == ".parquet"]
        other = sum(file.bytes for file in on_disk if folder / "_delta_log" not in file.path.parents) - size
        measured.append(
            {
                "table": table.name,
                "rows": pc.sum(files["num_records"]).as_py() or 0,
                "files": files.num_rows,
                "bytes": size,
                "other_bytes": max(other, 0),
            }
        )
    return measured


def _describe_run(run: RunRow) -> RunStatus:
    """Return start, end, worst verdict and file counts of a run."""
    summary: RunSummary = json.loads(run["summary"])
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


def show_status(status: WarehouseStatus, console: Console) -> None:
    """Print the status of a warehouse.

    Parameters
    ----------
    status : WarehouseStatus
        Result of `read_status`.
    console : Console
        Console to print to.
    """
    head = Text.assemble((status["warehouse"], "bold"), "  ", _verdict_text(status["verdict"]))
    console.print(head, soft_wrap=True)
    for line in _warning_lines(status):
        console.print(line, soft_wrap=True)
    for instrument in status["instruments"]:
        console.print(Text("\n").join([Text(), *_instrument_lines(instrument)]), soft_wrap=True)
    console.print()
    console.print(_size_table(status))
    console.print(
        Text("other: files of earlier versions and of unfinished runs; deltabook maintain removes them", DIM),
        soft_wrap=True,
    )
    console.print()
    console.print(_run_table(status["runs"]))


def _verdict_text(name: str, failed_hours: int = 0) -> Text:
    text = "not judged" if name == NONE else name
    text += f" ({failed_hours:,} hours)" if failed_hours else ""
    return Text(text, _VERDICT_STYLES.get(name, DIM))


def _warning_lines(status: WarehouseStatus) -> Iterator[Text]:
    if status["is_written"]:
        yield Text("a run is writing to it now: this is the state that the previous run published", "yellow")
    if status["is_written"] is None:
        yield Text("cannot tell whether a run is writing to it: its lock file is not accessible", DIM)
    if status["unfinished"]:
        names = ", ".join(status["unfinished"])
        yield Text(f"an unfinished run left {names} behind: the next run rolls back that run", "yellow")


def _instrument_lines(instrument: InstrumentStatus) -> Iterator[Text]:
    """Yield the lines of text about one instrument."""
    name = Text.assemble(
        (f"{instrument['exchange']} {instrument['symbol']}", "bold"), (f"  {instrument['feed']}  ", DIM)
    )
    yield name.append_text(_verdict_text(instrument["verdict"], instrument["failed_hours"]))
    hours = "none"
    first_hour, last_hour = instrument["first_hour"], instrument["last_hour"]
    if first_hour is not None and last_hour is not None:
        first, last = format_chunk(first_hour), format_chunk(last_hour)
        span = f"{first} to {last}" if first != last else first
        length = (
            "" if instrument["hour_length"] == HOUR else f" of {format_duration(instrument['hour_length'])}"
        )
        hours = f"{instrument['hours']:,}{length}, {span}"
    line = Text(f"  hours     {hours}")
    if instrument["hours_missing"]:
        line.append(f", {instrument['hours_missing']:,} missing between", "yellow")
    yield line
    yield Text(f"  rows      {instrument['events']:,} events, {instrument['book_rows']:,} of books")
    whole = sum(instrument["coverage"].values())
    line = Text("  coverage  ")
    shares = [
        Text(f"{format_share(length, whole)} {name}", STATUS_STYLES.get(name, DIM).removeprefix("bold "))
        for name, length in instrument["coverage"].items()
        if length
    ]
    yield line.append_text(Text(", ").join(shares) if shares else Text("none", DIM))
    gaps = ", ".join(f"{count:,} {kind}" for kind, count in instrument["gaps"].items())
    yield Text("  gaps      ").append(gaps or "none", "yellow" if gaps else "")
    golden = [f"{kind}: {text}" for kind, text in instrument["golden"].items()] or ["none compared"]
    for number, text in enumerate(golden):
        yield Text(f"  {'' if number else 'golden':<8}  {text}")


def _new_table(*titles: str) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, header_style=DIM, pad_edge=False)
    for title in titles:
        is_number = title in ("rows", "files", "published", "other", "took")
        table.add_column(title, justify="right" if is_number else "left", no_wrap=title != "result")
    return table


def _size_table(status: WarehouseStatus) -> RichTable:
    """Return a table of rows, files and sizes; the column `other` has the size of unpublished data files."""
    table = _new_table("table", "rows", "files", "published", "other")
    for row in status["tables"]:
        sizes = format_size(row["bytes"]), format_size(row["other_bytes"])
        table.add_row(row["table"], f"{row['rows']:,}", f"{row['files']:,}", *sizes)
    table.add_section()
    table.add_row("all", "", "", format_size(status["bytes"]), format_size(status["other_bytes"]))
    return table


def _run_table(runs: Iterable[RunStatus]) -> RichTable:
    table = _new_table("last runs", "command", "took", "result")
    for run in list(runs)[:_RUNS_SHOWN]:
        result = _verdict_text(run["verdict"], run["failed_hours"])
        if run["files"] is not None:
            result.append(f", {run['files']:,} new files", DIM)
        if run["refused"]:
            result.append(f", {run['refused']:,} refused", "yellow")
        started = f"{format_time(run['started'])[:19]}Z"
        table.add_row(started, run["command"], format_duration(run["finished"] - run["started"]), result)
    return table
