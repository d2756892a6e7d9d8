"""The command `plan`: estimate cores, hours, disk space and memory from linear fits to benchmark runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from deltabook.jobs.console.formats import format_size
from deltabook.jobs.report.html import open_templates
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import FULL_DEPTH, NANOSECONDS_PER_SECOND, Cadence, RowPolicy, step_of

HOURS_A_MONTH, DAYS_A_MONTH = 730, 365 / 12
CORES_MEASURED = 2
"""Number of cores in the benchmark runs. One second of a benchmark run is two core-seconds."""
MEASURED_TO = {"symbols": 64, "hours": 32, "changes an hour": 8_000_000, "levels": 100}
"""Largest values that the benchmarks measured. Estimates for larger values extrapolate the linear fits."""

_BOUNDS = (
    "Linear fits to runs of up to 64 symbols, 32 hours, 8 M level changes per hour and 100 levels. "
    "Each fitted time is within 31 % of the measured time. The range in brackets allows for this error."
)


@dataclass(frozen=True)
class Coefficient:
    """A measured number from which estimates are computed.

    Attributes
    ----------
    value : float or list of float
        The number. If the number depends on the depth of the books: one number for each depth in the
        coefficient `levels`.
    what : str
        Unit and meaning of the number.
    source : str
        Benchmark that measured the number.
    """

    value: float | list[float]
    what: str
    source: str


_FIT, _CAPTURES = "scaling, the fit of its two-core runs", "captures of Binance"
COEFFICIENTS = {
    "ingest_run": Coefficient(0.483, "seconds per run of ingest, on two cores", _FIT),
    "ingest_hour": Coefficient(0.03114, "seconds per symbol-hour", _FIT),
    "ingest_million": Coefficient(0.1461, "seconds per million level changes", _FIT),
    "rebuild_run": Coefficient(0.189, "seconds per run of reconstruct, on two cores", _FIT),
    "rebuild_hour": Coefficient(0.00992, "seconds per symbol-hour", _FIT),
    "rebuild_million": Coefficient(0.1014, "seconds per million level changes", _FIT),
    "residual": Coefficient(0.31, "largest error of a fitted time, as a share of the measured time", _FIT),
    "levels": Coefficient(
        [1, 20, 100], "levels per side, for the next three coefficients", "scaling, and " + _CAPTURES
    ),
    "depth_time": Coefficient([0.64, 1, 1.69], "factor of the rebuilding time, by levels", "scaling"),
    "row_bytes": Coefficient(
        [26, 91, 210], "bytes per row of books, by levels; the larger of two markets", _CAPTURES
    ),
    "change_share": Coefficient(
        [0.87, 0.96, 0.99], "rows of books per message, by levels, with cadence change", _CAPTURES
    ),
    "message_time": Coefficient(1.13, "factor of the rebuilding time with cadence message", "rebuilding"),
    "fine_step_time": Coefficient(
        0.94, "factor of the rebuilding time with a step below 1s (measured: 100ms)", "rebuilding"
    ),
    "step_time": Coefficient(
        0.74, "factor of the rebuilding time with a step of 1s or more (measured: 1s)", "rebuilding"
    ),
    "grid_time": Coefficient(
        0.1, "amount that each further step adds to the factor of the rebuilding time", "rebuilding"
    ),
    "judging_million": Coefficient(
        0.094, "seconds per million level changes, for all suites but the golden comparison", "requirements"
    ),
    "json_million": Coefficient(
        0.314, "seconds per million level changes, added if files are JSON in gzip, not Parquet", "pipeline"
    ),
    "messages_most": Coefficient(
        10, "largest number of messages per second, of a stream with updates every 100 ms", _CAPTURES
    ),
    "messages_half": Coefficient(
        16, "level changes per second at which a stream has half of the largest number of messages", _CAPTURES
    ),
    "raw_message": Coefficient(
        21, "bytes of JSON in gzip per message, with trades and best prices", _CAPTURES
    ),
    "raw_change": Coefficient(8.4, "bytes of JSON in gzip per level change", _CAPTURES),
    "events_file": Coefficient(9_600, "bytes per file of events", _CAPTURES),
    "events_message": Coefficient(47, "bytes of events per message", _CAPTURES),
    "events_change": Coefficient(4.4, "bytes per level change; includes the bytes of trades", _CAPTURES),
    "books_file": Coefficient(5_300, "bytes per file of books or grids", _CAPTURES),
    "checkpoints_file": Coefficient(4_900, "bytes per file of checkpoints", _CAPTURES),
    "checkpoint": Coefficient(36_000, "bytes per full book with thousands of levels", _CAPTURES),
    "checkpoint_every": Coefficient(
        500_000, "level changes between two checkpoints of an hour", "the default setting"
    ),
    "memory_jvm": Coefficient(0.7, "GiB of memory for the JVM", "memory"),
    "memory_core": Coefficient(
        1.15, "GiB of memory for Python per core, in hours with up to 8 M level changes", "requirements"
    ),
}
"""Maps names to the measured numbers from which estimates are computed.

The source "captures of Binance" means ten recordings:

- BTC-USDT on spot: 651 s with 458 level changes per second, rebuilt at 1, 20 and 100 levels.
- BTC-USDT on USD-M futures: 480 s with 836 level changes per second, rebuilt at 1, 20 and 100 levels. This
  stream had 18.8 messages per second, more than the other streams.
- Eight quieter symbols: 30 s each, with 0.2 to 134 level changes per second.

The fits to these captures are wrong by at most 26 % for messages, 23 % for events and 13 % for raw files. For
quiet symbols, the estimated size of `events` is too high, because half a minute of data compresses worse than
an hour: in simulated hours with five level changes per message, events take 5 bytes per change, while the fit
gives 14.
"""


class EstimateInputs(TypedDict):
    """The arguments of an estimate. Each key has the name of an option of the command `plan`."""

    symbols: int
    updates: float
    months: float
    cores: int | None
    depth: int
    cadence: str


class Estimate(TypedDict):
    """Resources to ingest and rebuild a market.

    Fields whose names end in `_least` and `_most` are the two ends of a range. Fields whose names end in
    `_judged_json` are estimates for raw files in JSON and validated results. `bytes` maps the name of each
    table, and `raw` for the raw files, to a size. `bytes_kept` is the size of all tables together. `drivers`
    maps the name of each result to the share of the result that each input causes. `beyond` lists the inputs
    that exceed `MEASURED_TO`.
    """

    asked: EstimateInputs
    symbol_hours: float
    level_changes: float
    messages: float
    book_rows: float
    grid_rows: float
    core_hours: float
    core_hours_least: float
    core_hours_most: float
    core_hours_judged_json: float
    cores: int
    hours: float
    hours_judged_json: float
    bytes: dict[str, float]
    bytes_kept: float
    files: float
    memory_gib: float
    memory_gib_a_core: float
    drivers: dict[str, dict[str, float]]
    beyond: list[str]


def estimate_resources(
    symbols: int, updates: float, writing: RowPolicy, months: float, cores: int | None = None
) -> Estimate:
    """Estimate the resources to ingest and rebuild a market in which all symbols have the same activity.

    Parameters
    ----------
    symbols : int
        Number of symbols.
    updates : float
        Level changes per second and symbol, on average.
    writing : RowPolicy
        Settings that decide how many rows `books` and `grids` have, and how many levels each row has.
    months : float
        Length of the recording in months of 730 hours. The estimate assumes that one run per day ingests the
        new part of the recording.
    cores : int, optional
        Number of cores; default: the fewest cores that finish all work in one day.

    Returns
    -------
    Estimate
        The arguments, and the estimated counts, hours, bytes and memory.

    Raises
    ------
    SettingsError
        If a number is not above 0 or not finite, or if the depth is `full`.
    """
    given: dict[str, float | None] = {
        "symbols": symbols,
        "updates": updates,
        "months": months,
        "cores": cores,
    }
    wrong = [f"{name} {value:g}" for name, value in given.items() if value is not None and not value > 0]
    if wrong or not all(math.isfinite(value) for value in given.values() if value is not None):
        raise SettingsError(f"{', '.join(wrong) or 'a number'}: expected numbers above 0")
    if writing.depth == FULL_DEPTH:
        raise SettingsError(
            "depth full: the number of levels differs by market; give a number of levels per side"
        )
    k = _scalar_coefficients()
    hours, runs = months * HOURS_A_MONTH, months * DAYS_A_MONTH
    symbol_hours = symbols * hours
    changes = symbol_hours * 3600 * updates
    rate = k["messages_most"] * updates / (updates + k["messages_half"])
    messages = symbol_hours * 3600 * rate
    rows = {"books": 0.0, "grids": 0.0}
    for table, cadences in (("books", (writing.cadence,)), ("grids", writing.grids)):
        for cadence in cadences:
            rows[table] += symbol_hours * 3600 * _rows_a_second(cadence, rate, writing.depth)
    depth_time = _figure_at_depth("depth_time", writing.depth)
    rebuilt = depth_time * (_cadence_time(writing.cadence) + k["grid_time"] * len(writing.grids))
    seconds = {
        "runs": runs * (k["ingest_run"] + k["rebuild_run"] * rebuilt),
        "symbol-hours": symbol_hours * (k["ingest_hour"] + k["rebuild_hour"] * rebuilt),
        "level changes": changes / 1e6 * (k["ingest_million"] + k["rebuild_million"] * rebuilt),
    }
    hourly = updates * 3600
    checkpoints = symbol_hours * (1 + math.floor(hourly / k["checkpoint_every"]))
    parts = {
        "core_hours": {part: value * CORES_MEASURED / 3600 for part, value in seconds.items()},
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
            "rows": rows["books"] * _figure_at_depth("row_bytes", writing.depth),
        },
        "grids": {
            "files": symbol_hours * len(writing.grids) * k["books_file"],
            "rows": rows["grids"] * _figure_at_depth("row_bytes", writing.depth),
        },
    }
    total = {name: sum(shares.values()) for name, shares in parts.items()}
    core_hours = total.pop("core_hours")
    core_hours_per_second = changes / 1e6 * CORES_MEASURED / 3600
    judged = core_hours + core_hours_per_second * (k["judging_million"] + k["json_million"])
    measured = {"symbols": symbols, "hours": hours, "changes an hour": hourly, "levels": writing.depth}
    used = cores or math.ceil(judged / 24)
    memory = k["memory_core"] * max(1, hourly / MEASURED_TO["changes an hour"])
    return {
        "asked": {
            "symbols": symbols,
            "updates": updates,
            "months": months,
            "cores": cores,
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
        "core_hours_judged_json": judged,
        "cores": used,
        "hours": core_hours / used,
        "hours_judged_json": judged / used,
        "bytes": total,
        "bytes_kept": sum(total.values()) - total["raw"],
        "files": symbol_hours * (3 + len(writing.grids)),
        "memory_gib": k["memory_jvm"] + used * memory,
        "memory_gib_a_core": memory,
        "drivers": {name: _shares(shares) for name, shares in parts.items()},
        "beyond": [name for name, most in MEASURED_TO.items() if measured[name] > most],
    }


def _scalar_coefficients() -> dict[str, float]:
    """Return {name: value} of all coefficients that do not depend on the depth."""
    return {
        name: coefficient.value
        for name, coefficient in COEFFICIENTS.items()
        if not isinstance(coefficient.value, list)
    }


def _coefficients_by_depth() -> dict[str, list[float]]:
    """Return {name: list of values} of all coefficients that depend on the depth.

    The entry `levels` has the measured depths. All other lists have one value for each measured depth.
    """
    return {
        name: coefficient.value
        for name, coefficient in COEFFICIENTS.items()
        if isinstance(coefficient.value, list)
    }


def _figure_at_depth(name: str, depth: int) -> float:
    """Return a coefficient at a depth, by linear interpolation between the measured depths.

    Beyond the largest measured depth, the value is extrapolated from the last two measured depths.
    """
    by_depth = _coefficients_by_depth()
    levels, values = by_depth["levels"], by_depth[name]
    index = 0 if depth <= levels[1] else 1
    slope = (values[index + 1] - values[index]) / (levels[index + 1] - levels[index])
    return values[index] + (depth - levels[index]) * slope


def _rows_a_second(cadence: str, rate: float, depth: int) -> float:
    """Return the number of rows of one symbol per second, at a cadence and a rate of messages per second.

    A cadence that is a time step gives at most one row per step, and at most as many rows as the cadence
    `change`.
    """
    if cadence == Cadence.MESSAGE:
        return rate
    changing = rate * min(1, _figure_at_depth("change_share", depth))
    if cadence == Cadence.CHANGE:
        return changing
    return min(changing, NANOSECONDS_PER_SECOND / step_of(cadence))


def _cadence_time(cadence: str) -> float:
    """Return the time of rebuilding at a cadence, divided by the time at the cadence `change`."""
    if cadence == Cadence.CHANGE:
        return 1
    k = _scalar_coefficients()
    if cadence == Cadence.MESSAGE:
        return k["message_time"]
    return k["fine_step_time" if step_of(cadence) < NANOSECONDS_PER_SECOND else "step_time"]


def _shares(parts: dict[str, float]) -> dict[str, float]:
    """Return a dict that maps the name of each part to the part divided by the sum of all parts."""
    total = sum(parts.values())
    return {name: part / total if total else 0.0 for name, part in parts.items()}


def list_estimate_rows(estimate: Estimate) -> list[tuple[str, str, str]]:
    """Return an estimate as rows of a table of text.

    Parameters
    ----------
    estimate : Estimate
        Result of `estimate_resources`.

    Returns
    -------
    list of (str, str, str)
        For each result: the name, the value, and the inputs on which the result depends.
    """
    drivers = {name: _describe_shares(shares) for name, shares in estimate["drivers"].items()}
    sizes = estimate["bytes"]
    low, high = _rounded(estimate["core_hours_least"]), _rounded(estimate["core_hours_most"])
    cores, is_given = _rounded(estimate["cores"]), estimate["asked"]["cores"]
    hours_name = (
        f"hours on {cores} cores" if is_given else f"hours on {cores} cores, enough to finish in a day"
    )
    judged = _rounded(estimate["core_hours_judged_json"])
    hours = f"{_rounded(estimate['hours'])} (from JSON, validated: {_rounded(estimate['hours_judged_json'])})"
    memory = _rounded(estimate["memory_gib_a_core"])
    table_rows = [
        (name, format_size(round(sizes[name])), drivers[name])
        for name in ("events", "checkpoints", "books", "grids")
        if sizes[name]
    ]
    return [
        ("symbol-hours", _rounded(estimate["symbol_hours"]), "symbols, months"),
        ("level changes", _rounded(estimate["level_changes"] / 1e6) + " M", "symbols, months, updates"),
        (
            "book messages",
            _rounded(estimate["messages"] / 1e6) + " M",
            "updates, up to the largest rate of a stream",
        ),
        ("rows of books", _rounded(estimate["book_rows"] / 1e6) + " M", "messages; cadence"),
        ("core-hours", f"{_rounded(estimate['core_hours'])} ({low} to {high})", drivers["core_hours"]),
        ("from JSON, validated", f"{judged} core-hours", "more per level change: JSON, suites"),
        (hours_name, hours, "core-hours; more cores than symbols do not help"),
        ("raw files", format_size(round(sizes["raw"])), drivers["raw"]),
        *table_rows,
        ("all tables", format_size(round(estimate["bytes_kept"])), f"{_rounded(estimate['files'])} files"),
        ("memory per core", memory + " GiB", "the largest symbol-hours in progress"),
        ("memory in total", _rounded(estimate["memory_gib"]) + " GiB", "cores, and one JVM per machine"),
    ]


def describe_limits(estimate: Estimate) -> str:
    """Return a text that names the inputs beyond the measured range, and the errors of the fits.

    Parameters
    ----------
    estimate : Estimate
        Result of `estimate_resources`.
    """
    beyond = ", ".join(estimate["beyond"])
    return (f"Beyond the measured range: {beyond}. " if beyond else "") + _BOUNDS


def _rounded(value: float) -> str:
    """Return a number as text: a whole number from 100 on, else three significant digits."""
    return f"{math.floor(value + 0.5):,}" if value >= 100 else f"{float(f'{value:.3g}'):g}"


def _describe_shares(shares: dict[str, float]) -> str:
    percents = {name: math.floor(share * 100 + 0.5) for name, share in shares.items()}
    return ", ".join(f"{percent} % {name}" for name, percent in percents.items() if percent)


def write_estimate_page(estimate: Estimate, out: Path) -> None:
    """Write an estimate as one HTML page without external files.

    A reader can change the inputs in the page. A script in the page then computes the estimate again.

    Parameters
    ----------
    estimate : Estimate
        Result of `estimate_resources`.
    out : Path
        File to write. If the folder of the file does not exist, it is created.
    """
    model: dict[str, object] = {name: coefficient.value for name, coefficient in COEFFICIENTS.items()}
    model |= {"measured_to": MEASURED_TO, "cores_measured": CORES_MEASURED}
    model |= {"hours_a_month": HOURS_A_MONTH, "days_a_month": DAYS_A_MONTH}
    text = (
        open_templates()
        .get_template("plan.html.j2")
        .render(
            asked=estimate["asked"],
            rows=list_estimate_rows(estimate),
            limits=describe_limits(estimate),
            bounds=_BOUNDS,
            coefficients=COEFFICIENTS,
            model=model,
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
