"""The command `plan`: cores, hours and room that a market takes, by straight lines through measured runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltabook.jobs.console.formats import size_text
from deltabook.jobs.report.html import pages
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import FULL_DEPTH, NANOSECONDS_PER_SECOND, Cadence, Writing, step_of

HOURS_A_MONTH, DAYS_A_MONTH = 730, 365 / 12
CORES_MEASURED = 2
"""The fitted seconds are those of two cores at work: a second is two core-seconds."""
MEASURED_TO = {"symbols": 64, "hours": 32, "changes an hour": 8_000_000, "levels": 100}
"""The most of each that the benchmarks ran; what is more is foretold by straight lines."""

_BOUNDS = (
    "Straight lines through runs of up to 64 symbols, 32 hours, 8 M changes an hour and 100 levels, "
    "every run within 31 % of them: the range in brackets."
)


@dataclass(frozen=True)
class Coefficient:
    """One measured figure.

    Attributes
    ----------
    value
        The figure; of `levels`, and what depends on them, one at each depth measured.
    what
        Its unit, and what it is of.
    source
        The benchmark that gives it.
    """

    value: float | list[float]
    what: str
    source: str


_FIT, _CAPTURES = "scaling, the fit of its two-core runs", "captures of Binance"
COEFFICIENTS = {
    "ingest_run": Coefficient(0.483, "s a run of ingest, two cores", _FIT),
    "ingest_hour": Coefficient(0.03114, "s a symbol-hour", _FIT),
    "ingest_million": Coefficient(0.1461, "s a million level changes", _FIT),
    "rebuild_run": Coefficient(0.189, "s a run of reconstruct, two cores", _FIT),
    "rebuild_hour": Coefficient(0.00992, "s a symbol-hour", _FIT),
    "rebuild_million": Coefficient(0.1014, "s a million level changes", _FIT),
    "residual": Coefficient(0.31, "of the fitted time: the farthest run", _FIT),
    "levels": Coefficient([1, 20, 100], "levels a side, for the next three", "scaling, and " + _CAPTURES),
    "depth_time": Coefficient([0.64, 1, 1.69], "of the time of rebuilding", "scaling"),
    "row_bytes": Coefficient([26, 91, 210], "bytes a row of books, the larger of two markets", _CAPTURES),
    "change_share": Coefficient([0.87, 0.96, 0.99], "rows a message, cadence change", _CAPTURES),
    "message_time": Coefficient(1.13, "of the time of rebuilding, cadence message", "rebuilding"),
    "fine_step_time": Coefficient(0.94, "of it, a step below 1s (measured: 100ms)", "rebuilding"),
    "step_time": Coefficient(0.74, "of it, a step of 1s or more (measured: 1s)", "rebuilding"),
    "grid_time": Coefficient(0.1, "of it more, each further step", "rebuilding"),
    "judging_million": Coefficient(0.094, "s a million level changes, suites without golden", "requirements"),
    "json_million": Coefficient(0.314, "s a million more, JSON in gzip, not Parquet", "pipeline"),
    "messages_most": Coefficient(10, "messages a second at most: a stream of each 100 ms", _CAPTURES),
    "messages_half": Coefficient(16, "level changes a second at which it has half of them", _CAPTURES),
    "raw_message": Coefficient(21, "bytes a message, JSON in gzip, with trades and best prices", _CAPTURES),
    "raw_change": Coefficient(8.4, "bytes a level change, the same", _CAPTURES),
    "events_file": Coefficient(9_600, "bytes a file of events", _CAPTURES),
    "events_message": Coefficient(47, "bytes a message", _CAPTURES),
    "events_change": Coefficient(4.4, "bytes a level change, with the trades beside it", _CAPTURES),
    "books_file": Coefficient(5_300, "bytes a file of books or grids", _CAPTURES),
    "checkpoints_file": Coefficient(4_900, "bytes a file of checkpoints", _CAPTURES),
    "checkpoint": Coefficient(36_000, "bytes a full book of thousands of levels", _CAPTURES),
    "checkpoint_every": Coefficient(500_000, "level changes of an hour between two", "the default setting"),
    "memory_jvm": Coefficient(0.7, "GiB of the JVM", "memory"),
    "memory_core": Coefficient(1.15, "GiB of Python a core, hours to 8 M level changes", "requirements"),
}
"""All that a plan depends on.

Captures of Binance are BTC-USDT of spot (651 s, 458 level changes a second) and of USD-M (480 s, 836), each
run at 1, 20 and 100 levels, and eight quieter symbols (30 s each, 0.2 to 134 a second). The lines fitted to
them are within 26 % for messages, 23 % for events, 13 % for raw files. That USD-M stream was a faster one:
18.8 messages a second. Half a minute compresses worse than an hour, so events of quiet symbols are too many
bytes rather than too few: simulated hours of five changes a message take 5 bytes a change, where the lines
say 14.
"""


def plan(
    symbols: int, updates: float, writing: Writing, months: float, cores: int | None = None
) -> dict[str, Any]:
    """Foretell what it takes to ingest and rebuild a market, all symbols being like the average one.

    Parameters
    ----------
    symbols : int
        How many.
    updates : float
        Level changes a second of each.
    writing : Writing
        Depth and cadences of the rows of books.
    months : float
        Of 730 hours; a run a day takes them in.
    cores : int, optional
        How many there are; by default as many as finish in a day.

    Returns
    -------
    dict
        What is asked, counts, core-hours, hours, bytes by table, memory; `drivers`, what share of each is due
        to what; `beyond`, in what it is more than was measured.

    Raises
    ------
    SettingsError
        If a number is not above 0, or the depth is full.
    """
    given = {"symbols": symbols, "updates": updates, "months": months, "cores": cores}
    wrong = [f"{name} {value:g}" for name, value in given.items() if value is not None and not value > 0]
    if wrong or not all(math.isfinite(value) for value in given.values() if value is not None):
        raise SettingsError(f"{', '.join(wrong) or 'a number'}: expected numbers above 0")
    if writing.depth == FULL_DEPTH:
        raise SettingsError("depth full: how many levels that is differs by market; give the number a side")
    k: dict[str, Any] = {name: one.value for name, one in COEFFICIENTS.items()}
    hours, runs = months * HOURS_A_MONTH, months * DAYS_A_MONTH
    symbol_hours = symbols * hours
    changes = symbol_hours * 3600 * updates
    rate = k["messages_most"] * updates / (updates + k["messages_half"])
    messages = symbol_hours * 3600 * rate
    rows = {"books": 0.0, "grids": 0.0}
    for table, cadences in (("books", (writing.cadence,)), ("grids", writing.grids)):
        for cadence in cadences:
            rows[table] += symbol_hours * 3600 * _rows_a_second(k, cadence, rate, writing.depth)
    at_depth = _at(k, "depth_time", writing.depth)
    rebuilt = at_depth * (_cadence_time(k, writing.cadence) + k["grid_time"] * len(writing.grids))
    seconds = {
        "runs": runs * (k["ingest_run"] + k["rebuild_run"] * rebuilt),
        "symbol-hours": symbol_hours * (k["ingest_hour"] + k["rebuild_hour"] * rebuilt),
        "level changes": changes / 1e6 * (k["ingest_million"] + k["rebuild_million"] * rebuilt),
    }
    hourly = updates * 3600
    checkpoints = symbol_hours * (1 + math.floor(hourly / k["checkpoint_every"]))
    parts = {
        "core_hours": {what: one * CORES_MEASURED / 3600 for what, one in seconds.items()},
        "raw": {"messages": messages * k["raw_message"], "level changes": changes * k["raw_change"]},
        "events": {
            "files": symbol_hours * k["events_file"],
            "messages": messages * k["events_message"],
            "level changes": changes * k["events_change"],
        },
        "checkpoints": {
            "files": symbol_hours * k["checkpoints_file"],
            "states": checkpoints * k["checkpoint"],
        },
        "books": {
            "files": symbol_hours * k["books_file"],
            "rows": rows["books"] * _at(k, "row_bytes", writing.depth),
        },
        "grids": {
            "files": symbol_hours * len(writing.grids) * k["books_file"],
            "rows": rows["grids"] * _at(k, "row_bytes", writing.depth),
        },
    }
    total = {name: sum(of.values()) for name, of in parts.items()}
    core_hours = total.pop("core_hours")
    besides = changes / 1e6 * CORES_MEASURED / 3600
    whole = core_hours + besides * (k["judging_million"] + k["json_million"])
    measured = {"symbols": symbols, "hours": hours, "changes an hour": hourly, "levels": writing.depth}
    used = cores or math.ceil(whole / 24)
    return {
        "asked": {
            **given,
            "depth": writing.depth,
            "cadence": ",".join((writing.cadence, *writing.grids)),
        },
        "symbol_hours": symbol_hours,
        "level_changes": changes,
        "messages": messages,
        "book_rows": rows["books"],
        "grid_rows": rows["grids"],
        "core_hours": core_hours,
        "core_hours_least": core_hours / (1 + k["residual"]),
        "core_hours_most": core_hours / (1 - k["residual"]),
        "core_hours_judged_json": whole,
        "cores": used,
        "hours": core_hours / used,
        "hours_judged_json": whole / used,
        "bytes": total,
        "bytes_kept": sum(total.values()) - total["raw"],
        "files": symbol_hours * (3 + len(writing.grids)),
        "memory_gib": k["memory_jvm"] + used * _memory(k, hourly),
        "memory_gib_a_core": _memory(k, hourly),
        "drivers": {name: _shares(of) for name, of in parts.items()},
        "beyond": [name for name, most in MEASURED_TO.items() if measured[name] > most],
    }


def _at(k: dict[str, Any], name: str, depth: int) -> float:
    """Read a figure at a depth: lines between those measured, the last one going on."""
    levels, values = k["levels"], k[name]
    at = 0 if depth <= levels[1] else 1
    slope = (values[at + 1] - values[at]) / (levels[at + 1] - levels[at])
    value: float = values[at] + (depth - levels[at]) * slope
    return value


def _rows_a_second(k: dict[str, Any], cadence: str, rate: float, depth: int) -> float:
    """No step has more rows than one, nor than the changes of the top: those are no more than messages."""
    if cadence == Cadence.MESSAGE:
        return rate
    changing = rate * min(1, _at(k, "change_share", depth))
    if cadence == Cadence.CHANGE:
        return changing
    return min(changing, NANOSECONDS_PER_SECOND / step_of(cadence))


def _cadence_time(k: dict[str, Any], cadence: str) -> float:
    if cadence == Cadence.CHANGE:
        return 1
    if cadence == Cadence.MESSAGE:
        value: float = k["message_time"]
    else:
        value = k["fine_step_time" if step_of(cadence) < NANOSECONDS_PER_SECOND else "step_time"]
    return value


def _memory(k: dict[str, Any], hourly: float) -> float:
    value: float = k["memory_core"] * max(1, hourly / MEASURED_TO["changes an hour"])
    return value


def _shares(parts: dict[str, float]) -> dict[str, float]:
    total = sum(parts.values())
    return {what: part / total if total else 0.0 for what, part in parts.items()}


def plan_rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Tell a plan for people.

    Parameters
    ----------
    found : dict
        As `plan` returns it.

    Returns
    -------
    list of (str, str, str)
        What, how much, and what drives it.
    """
    drivers, sizes = {name: _driven(of) for name, of in found["drivers"].items()}, found["bytes"]
    least, most = _number(found["core_hours_least"]), _number(found["core_hours_most"])
    cores, wanted = _number(found["cores"]), found["asked"]["cores"]
    named = f"hours on {cores} cores" if wanted else f"hours on {cores} cores, enough for a day"
    whole = _number(found["core_hours_judged_json"])
    kept = [
        (name, size_text(round(sizes[name])), drivers[name])
        for name in ("events", "checkpoints", "books", "grids")
        if sizes[name]
    ]
    return [
        ("symbol-hours", _number(found["symbol_hours"]), "symbols, months"),
        ("level changes", _number(found["level_changes"] / 1e6) + " M", "symbols, months, updates"),
        ("book messages", _number(found["messages"] / 1e6) + " M", "updates, to the most a stream sends"),
        ("rows of books", _number(found["book_rows"] / 1e6) + " M", "messages; cadence"),
        ("core-hours", f"{_number(found['core_hours'])} ({least} to {most})", drivers["core_hours"]),
        ("of JSON, judged", f"{whole} core-hours", "level changes more: JSON, suites"),
        (named, f"{_number(found['hours'])} (of JSON, judged: {_number(found['hours_judged_json'])})",
         "core-hours; of no use are more cores than symbols"),
        ("raw files", size_text(round(sizes["raw"])), drivers["raw"]),
        *kept,
        ("all tables", size_text(round(found["bytes_kept"])), f"{_number(found['files'])} files"),
        ("memory a core", _number(found["memory_gib_a_core"]) + " GiB", "the largest symbol-hours at work"),
        ("memory of all", _number(found["memory_gib"]) + " GiB", "cores, and a JVM on each machine"),
    ]  # fmt: skip


def caveat(found: dict[str, Any]) -> str:
    """Say how far a plan goes beyond what was measured.

    Parameters
    ----------
    found : dict
        As `plan` returns it.
    """
    beyond = ", ".join(found["beyond"])
    return (f"More than was measured: {beyond}. " if beyond else "") + _BOUNDS


def _number(value: float) -> str:
    return f"{math.floor(value + 0.5):,}" if value >= 100 else f"{float(f'{value:.3g}'):g}"


def _driven(shares: dict[str, float]) -> str:
    percents = {what: math.floor(share * 100 + 0.5) for what, share in shares.items()}
    return ", ".join(f"{percent} % {what}" for what, percent in percents.items() if percent)


def write_plan(found: dict[str, Any], out: Path) -> None:
    """Write a plan as one HTML page, which computes again what is changed in its fields; it needs no network.

    Parameters
    ----------
    found : dict
        As `plan` returns it.
    out : Path
        The file; its folder is made.
    """
    model: dict[str, Any] = {name: one.value for name, one in COEFFICIENTS.items()}
    model |= {"measured_to": MEASURED_TO, "cores_measured": CORES_MEASURED}
    model |= {"hours_a_month": HOURS_A_MONTH, "days_a_month": DAYS_A_MONTH}
    text = (
        pages()
        .get_template("plan.html.j2")
        .render(
            asked=found["asked"],
            rows=plan_rows(found),
            caveat=caveat(found),
            bounds=_BOUNDS,
            coefficients=COEFFICIENTS,
            model=model,
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
