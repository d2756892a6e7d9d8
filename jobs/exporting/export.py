"""The job `export`: what was last published as plain files, with a manifest that is written last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deltabook.jobs.console.formats import hour_text, show_time
from deltabook.jobs.console.progress import Progress
from deltabook.jobs.exporting.output_folder import Folder
from deltabook.jobs.pipeline.vendor_seeds import NO_SEED, find_seeds
from deltabook.jobs.tables.instrument_lookup import instruments_named
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import Slice
from deltabook.jobs.warehouse.tasks import Work, bytes_read
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Column
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.exports import (
    COLUMNS,
    EXPORT_REFERENCES,
    EXPORTED,
    FOREIGN,
    FORMS,
    IN_DOUBLES,
    OF_LEVELS,
    PARTITIONS,
    Form,
    What,
)
from deltabook.schemas.names import CLOCK_TOLERANCE, DAY
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, EVENTS, HOURS, INSTRUMENTS, RUNS
from deltabook.udfs.export.rows import Asked
from deltabook.udfs.export.tardis import vendor_names
from deltabook.udfs.numbers.decimal_text import INT64_MAX
from deltabook.udfs.numbers.exported_numbers import type_of
from deltabook.udfs.spark.export_groups import export_groups

LEVELS = 20
"""Levels a side where a level has columns of its own, unless told otherwise."""
_ALWAYS = (0, INT64_MAX)
_KEYS = ("exchange", "symbol", "date")
_TABLES = {What.BOOKS: BOOKS, What.FEATURES: BOOKS, What.EVENTS: EVENTS, What.TRADES: EVENTS}


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes
    ----------
    what, form : What, Form
        What, and as what.
    out : Path
        The folder to write.
    symbols : sequence of str
        Whose; empty: all.
    exchange : str, optional
        Of which exchange alone.
    since, until : int
        Rows with an `order_time` from the one up to the other, ns.
    levels : int, optional
        Levels a side, where a level has columns of its own.
    all_hours : bool
        Symbol-hours that failed validation too.
    replace : bool
        An earlier export in the folder gives way.
    """

    what: What
    form: Form
    out: Path
    symbols: Sequence[str] = ()
    exchange: str | None = None
    since: int = 0
    until: int = INT64_MAX
    levels: int | None = None
    all_hours: bool = False
    replace: bool = False


def requested(what: str, form: str, **how: Any) -> Request:
    """Check what is wanted.

    Parameters
    ----------
    what, form : str
        As given by a person.
    **how : Any
        The other attributes of `Request`.

    Returns
    -------
    Request

    Raises
    ------
    SettingsError
        If there is no such thing, or it cannot be had in that format: names those that go together.
    """
    together = "; ".join(f"{what}: {', '.join(forms)}" for what, forms in FORMS.items())
    if what not in tuple(What) or form not in FORMS[What(what)]:
        raise SettingsError(
            f"{what} as {form}: expected what, and a format that it can be had in: {together}"
        )
    request = Request(What(what), Form(form), **how)
    if request.levels is not None and request.form not in OF_LEVELS:
        raise SettingsError(
            f"--levels: only {' and '.join(OF_LEVELS)} have a column a level; {form} has all levels that are "
            "stored"
        )
    if request.since >= request.until:
        raise SettingsError("--from is not before --to: nothing lies between them")
    return request


def export(warehouse: Warehouse, request: Request, progress: Progress) -> dict[str, Any]:
    """Write what is wanted of what was last published.

    Parameters
    ----------
    warehouse : Warehouse
        Whose.
    request : Request
        What is wanted.
    progress : Progress
        Where to show what is done.

    Returns
    -------
    dict
        Path of the manifest; rows, files, bytes; symbol-hours and rows left out.

    Raises
    ------
    SettingsError
        If the folder holds what no manifest of an export lists.
    WarehouseError
        If there is no such instrument (names those there are), or nothing to write.
    InputError
        If it is not known how Tardis names an instrument.
    """
    published = Warehouse(warehouse.spark, warehouse.settings, require_published(warehouse.root))
    instruments, too_wide = _instruments(published, request)
    failed = {} if request.all_hours else published.failed_hours()
    references = _references(published, request, instruments, failed)
    left_out = [key for key in _overlaps(published, request, [*failed]) if key[:2] in instruments]
    with Folder(request.out, request.replace) as folder:
        asked = _asked(request, instruments, folder.staging)
        days = len({tuple(row[name] for name in _KEYS) for row in references})
        costs = bytes_read(references, "data_files")
        work = Work(EXPORT_REFERENCES, references, _KEYS, export_groups(asked), EXPORTED, costs)
        with progress.stage("exporting", "symbol-days", days) as show:
            rows = published.apply(work, show, folder.aside)
        files = sorted((row.asDict() for row in rows if row.path), key=lambda row: row["path"])
        if not files:
            raise WarehouseError(_nothing(request, left_out, rows))
        manifest = _manifest(published, request, files, {key: failed[key] for key in left_out}, too_wide)
        manifest["books_left_out"] = _summed(row.left_out for row in rows)
        folder.publish(manifest)
    told = {name: sum(row[name] for row in files) for name in ("rows", "bytes")}
    return {"manifest": str(folder.manifest), "files": len(files), **told} | {
        "symbol_hours_left_out": len(left_out),
        "books_left_out": manifest["books_left_out"],
        "instruments_left_out": too_wide,
    }


def _instruments(
    warehouse: Warehouse, request: Request
) -> tuple[dict[tuple[str, str], dict[str, Any]], list[str]]:
    """Choose instruments; tell those whose numbers the format cannot hold."""
    if request.symbols:
        named = (instruments_named(warehouse.root, symbol, request.exchange) for symbol in request.symbols)
        rows = [row for found in named for row in found]
    else:
        rows = warehouse.rows(INSTRUMENTS)
    chosen = {
        (row["exchange"], row["symbol"]): row for row in rows if request.exchange in (None, row["exchange"])
    }
    if not chosen:
        there = ", ".join(sorted({row["exchange"] for row in rows}))
        raise WarehouseError(f"no instrument of {request.exchange} in {warehouse.root}; there are: {there}")
    wide = sorted(key for key, row in chosen.items() if row["is_decimal"] and request.form in IN_DOUBLES)
    for key in wide:
        del chosen[key]
    too_wide = [" ".join(key) for key in wide]
    if not chosen:
        others = ", ".join(form for form in FORMS[request.what] if form not in IN_DOUBLES)
        raise SettingsError(
            f"{', '.join(too_wide)}: numbers of DECIMAL(38,18), but {request.form} has doubles: export as "
            f"{others}"
        )
    if request.form is Form.TARDIS:
        for key in chosen:
            vendor_names(*key)  # one without a name is told before anything is written
    return chosen, too_wide


def _overlaps(warehouse: Warehouse, request: Request, keys: Sequence[Slice]) -> list[Slice]:
    """Choose the symbol-hours that may have rows of the times that are wanted."""
    if (request.since, request.until) == _ALWAYS:
        return [*keys]
    ends: dict[Slice, tuple[int, int]] = {}
    for row in warehouse.rows(HOURS):
        key = row["exchange"], row["symbol"], row["hour"]
        first, last = ends.get(key, (INT64_MAX, 0))
        ends[key] = min(first, row["first_time"]), max(last, row["last_time"])
    return [
        key
        for key in keys
        if key not in ends
        or (
            ends[key][0] - CLOCK_TOLERANCE < request.until and ends[key][1] + CLOCK_TOLERANCE >= request.since
        )
    ]


def _references(
    warehouse: Warehouse,
    request: Request,
    instruments: dict[tuple[str, str], dict[str, Any]],
    failed: dict[Slice, list[str]],
) -> list[dict[str, Any]]:
    """Name the files of every symbol-hour that is wanted, the days of most hours first."""
    replayed = request.form is Form.HFTBACKTEST
    files = warehouse.files_of_both(_TABLES[request.what])
    stored = [key for key in files if key[:2] in instruments]
    openings = warehouse.files_of_both(CHECKPOINTS) if replayed else {}
    books = warehouse.files_of_both(BOOKS) if replayed else {}
    seeds = find_seeds(warehouse) if replayed else {}
    if replayed:
        stored = [key for key in stored if key in openings]
    if not stored:
        raise WarehouseError(
            f"warehouse {warehouse.root} has no {request.what} yet: run `deltabook reconstruct`"
        )
    wanted = {key for key in _overlaps(warehouse, request, stored) if key not in failed}
    days: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for place, key in enumerate(stored):
        if key not in wanted:
            continue
        instrument, before = instruments[key[:2]], stored[place - 1] if place else None
        day = _day(key[2])
        last = place + 1 == len(stored) or stored[place + 1][:2] != key[:2]
        follows = before in wanted and before[:2] == key[:2] and _day(before[2]) == day
        days[*key[:2], day].append(
            {"exchange": key[0], "symbol": key[1], "date": day, "hour": key[2], "data_files": files[key]}
            | {name: instrument[name] for name in ("feed", "price_scale", "size_scale", "is_decimal")}
            | {"book_files": books.get(key, []), "checkpoint_file": next(iter(openings.get(key, [])), "")}
            | {"follows": follows, "is_last": last}
            | seeds.get(key, NO_SEED)
        )
    return [row for day in sorted(days.values(), key=len, reverse=True) for row in day]


def _day(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour // DAY * 86_400, UTC):%Y-%m-%d}"


def _asked(request: Request, instruments: dict[tuple[str, str], dict[str, Any]], staging: Path) -> Asked:
    scaled = [row for row in instruments.values() if not row["is_decimal"]]
    is_wide = len(scaled) < len(instruments)
    price, size = (
        type_of([row[name] for row in scaled] or [0], is_wide) for name in ("price_scale", "size_scale")
    )
    levels = request.levels or LEVELS
    return Asked(request.what, request.form, str(staging), levels, request.since, request.until, price, size)


def _nothing(request: Request, failed: list[Slice], rows: Sequence[Any]) -> str:
    left_out = _summed(row.left_out for row in rows)
    why = [f"{count:,} books are {status}" for status, count in left_out.items()]
    if failed:
        why.append(f"{len(failed):,} symbol-hours failed validation: --all has them")
    if not why and (request.since, request.until) != _ALWAYS:
        why.append("nothing lies between --from and --to")
    return f"no {request.what} to export as {request.form}: {'; '.join(why) or 'the warehouse has none'}"


def _summed(counts: Any) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for one in counts:
        for name, count in dict(one).items():
            found[name] += count
    return dict(sorted(found.items()))


def _manifest(
    warehouse: Warehouse,
    request: Request,
    files: list[dict[str, Any]],
    failed: dict[Slice, list[str]],
    too_wide: list[str],
) -> dict[str, Any]:
    """Return what the manifest tells."""
    versions = warehouse.versions_read or {}
    # A run may have ended since.
    runs = [row for row in warehouse.rows(RUNS) if dict(row["versions"]) == versions]
    newest = max(runs, key=lambda row: row["finished"])
    columns = FOREIGN[request.form] if request.form in FOREIGN else COLUMNS[request.what]
    return {
        "deltabook": version("deltabook"),
        "run_id": newest["run_id"],
        "versions": dict(sorted(versions.items())),
        "what": request.what,
        "format": request.form,
        "symbols": [*request.symbols],
        "exchange": request.exchange,
        "from": show_time(request.since) if request.since else None,
        "to": show_time(request.until) if request.until < INT64_MAX else None,
        "levels": (request.levels or LEVELS) if request.form in OF_LEVELS else None,
        "partitions": [*PARTITIONS] if request.form is Form.PARQUET else [],
        "columns": [
            {"name": column.name, "type": _type_name(column), "doc": _doc(column)} for column in columns
        ],
        "rows": sum(row["rows"] for row in files),
        "rows_by_status": _summed(row["statuses"] for row in files),
        "hours_left_out": [
            {"exchange": key[0], "symbol": key[1], "hour": hour_text(key[2]), "reasons": reasons}
            for key, reasons in failed.items()
        ],
        "instruments_left_out": too_wide,
        "files": [
            {name: row[name] for name in ("path", "rows", "bytes", "sha256", *_KEYS)}
            | {name: show_time(row[name]) for name in ("first_time", "last_time")}
            | {"rows_by_status": dict(row["statuses"]), "books_left_out": dict(row["left_out"])}
            | ({"shift": row["shift"]} if request.form is Form.HFTBACKTEST else {})
            for row in files
        ],
    }


def _type_name(column: Column) -> str:
    return column.type.replace("BIGINT", "DECIMAL") if column.scale else column.type


def _doc(column: Column) -> str:
    unit = "units of price" if column.scale == "price_scale" else "units of size"
    return (
        column.doc.replace(f"scaled by 10^{column.scale}", f"exact, in {unit}")
        if column.scale
        else column.doc
    )
