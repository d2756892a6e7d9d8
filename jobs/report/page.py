"""The job `report`: one page that says whether the books are right, and shows why. Starts no Spark."""

from __future__ import annotations

import json
import math
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from deltabook.expectations.suites import WORST_FIRST
from deltabook.jobs.console.formats import length_text, time_text
from deltabook.jobs.report import figures
from deltabook.jobs.report import runs as of_runs
from deltabook.jobs.report.books import LEVELS, SECONDS, Books, File, files_of, read_books, read_trades
from deltabook.jobs.report.depth import depth_map
from deltabook.jobs.report.facts import STATUSES, Facts, Instrument, read_facts
from deltabook.jobs.report.html import pages
from deltabook.jobs.report.statistics import TAIL_ALPHA, distributions, garch_of, volatility
from deltabook.jobs.report.tables import comparisons, divergences, level_texts, verdict
from deltabook.jobs.report.timeline import GAPS_SHOWN, gap_rows, timeline
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import BOOKS, EVENTS, form_of

SYMBOLS = 6
"""Symbols whose books are drawn unless they are named: those with the most rows."""
_SECTIONS = {
    "verdict": "Verdict",
    "coverage": "Coverage",
    "books": "Books",
    "golden": "Golden",
    "statistics": "Statistics",
    "runs": "Runs",
    "throughput": "Throughput",
}


def write_report(
    warehouse: Path, out: Path, symbols: list[str] | None = None, since: str | None = None
) -> dict[str, Any]:
    """Write the report of a warehouse: one HTML file that needs no other, nor a network.

    Parameters
    ----------
    warehouse : Path
        Its published versions are read.
    out : Path
        The file; its folder is made.
    symbols : list of str, optional
        Whose books and distributions are shown, on whatever exchange; by default the `SYMBOLS` with the most
        rows. The verdict is always that of all.
    since : str, optional
        A run's id or a time as ISO 8601: runs from there are told; by default the last ones.

    Returns
    -------
    dict
        `report` (its path), `bytes`, `verdict`, `verdicts` by suite, `drifts` of the newest run as lines,
        `symbols` shown and `symbols_left_out`, `report_seconds`.

    Raises
    ------
    WarehouseError
        If nothing was published yet, or there is no such symbol (names those there are).
    SettingsError
        If `since` is neither a run nor a time.
    """
    started = time.monotonic()
    facts = read_facts(warehouse)
    runs = of_runs.runs_since(facts, since)
    shown, left_out, found = _chosen(facts, symbols)
    drawn: dict[str, figures.Figure] = {}
    told = verdict(facts)
    of_books = [_book(facts, key, data_files, drawn) for key, data_files in found.items()]
    page: dict[str, Any] = {
        "name": facts.stored.root.name,
        "sections": list(_SECTIONS.items()),
        "statuses": STATUSES,
        "verdict_words": WORST_FIRST,
        "verdict_facts": told,
        "timeline": timeline(facts),
        "gaps": gap_rows(facts),
        "gaps_shown": GAPS_SHOWN,
        "levels": LEVELS,
        "shown": shown,
        "named": bool(symbols),
        "left_out": [" ".join(key) for key in left_out],
        "books": of_books,
        "volatility": [book["volatility"] for book in of_books if book["volatility"]],
        "tail": TAIL_ALPHA,
        "stages": of_runs.stages(facts),
        "versions": of_runs.versions(facts),
    }
    page |= _golden(facts, drawn) | _distributions(facts, shown, drawn) | _runs(facts, runs, drawn)
    out.parent.mkdir(parents=True, exist_ok=True)
    size = out.write_bytes(_rendered(page, drawn).encode())
    return {
        "report": str(out),
        "bytes": size,
        "verdict": told["overall"],
        "verdicts": {suite["name"]: suite["verdict"] for suite in told["suites"]},
        "drifts": [row["text"] for row in page["drifts"] if row["run_id"] == facts.runs[-1]["run_id"]],
        "symbols": [" ".join(key) for key in shown],
        "symbols_left_out": len(left_out),
        "report_seconds": round(time.monotonic() - started, 2),
    }


def _chosen(
    facts: Facts, symbols: list[str] | None
) -> tuple[list[Instrument], list[Instrument], dict[Instrument, list[File]]]:
    """Choose the instruments to show; return them, those left out, and the data files of the books shown."""
    found: dict[Instrument, list[File]] = {key: [] for key in facts.instruments}
    for is_decimal in (False, True):
        of_form = files_of(facts.stored, form_of(BOOKS, is_decimal))
        found |= {key: of_form[key] for key, row in facts.instruments.items() if key in of_form}
    order = sorted(found, key=lambda key: (-sum(file.rows for file in found[key]), key))
    unknown = set(symbols or ()) - {symbol for _, symbol in found}
    if unknown:
        there = ", ".join(sorted({symbol for _, symbol in found}))
        raise WarehouseError(f"no {', '.join(sorted(unknown))} in {facts.stored.root}; there are: {there}")
    shown = [key for key in order if key[1] in symbols] if symbols else order[:SYMBOLS]
    left_out = [key for key in order if key not in shown]
    return shown, left_out, {key: found[key] for key in shown if found[key]}


def _book(
    facts: Facts, key: Instrument, found: list[File], drawn: dict[str, figures.Figure]
) -> dict[str, Any]:
    """Read one instrument's books, and draw them; return what the page tells of them."""
    instrument = facts.instruments[key]
    books = read_books(found, instrument)
    trades = files_of(facts.stored, form_of(EVENTS, instrument["is_decimal"])).get(key, [])
    books.trades = read_trades(trades, instrument)
    number = len(drawn)
    ends = {"first": time_text(int(books.clock.starts[0])), "last": time_text(int(books.clock.ends[-1]))}
    told = {"id": f"book-{number}", "exchange": key[0], "symbol": key[1], "rows": books.rows} | ends
    told |= {"trades": books.trades.count, "drawn": len(books.trades.times), "depth": None, "flow": None}
    told |= {"volatility": None, "step": length_text(books.clock.step), "suspect": books.is_suspect.any()}
    told["pauses"] = len(books.clock.starts) - 1
    if not np.isfinite(books.column_mids).any():
        return told
    figure, what = depth_map(books)
    told["depth"] = {"id": _add(drawn, figure), "what": what}
    told["spread"] = {"id": _add(drawn, figures.spread_by_level(books))}
    if flow := figures.order_flow(books):
        told["flow"] = {"id": _add(drawn, flow[0]), "is_cut": len(books.seconds) == SECONDS} | flow[1]
    told["volatility"] = _volatility(facts, key, books, drawn)
    return told


def _volatility(
    facts: Facts, key: Instrument, books: Books, drawn: dict[str, figures.Figure]
) -> dict[str, Any] | None:
    garch = garch_of(facts, key)
    figure = figures.volatility_line(books, volatility(books, garch)) if garch else None
    if figure is None:
        return None
    return {"id": _add(drawn, figure), "exchange": key[0], "symbol": key[1], "garch": garch}


def _golden(facts: Facts, drawn: dict[str, figures.Figure]) -> dict[str, Any]:
    compared = comparisons(facts)
    levels = []
    for kind, rows in compared["by_level"].items():
        if len({level for of_metric in rows.values() for level, _, _ in of_metric}) > 1:
            levels.append({"kind": kind, "id": _add(drawn, figures.match_by_level(rows))})
        else:
            levels.append({"kind": kind, "id": "", "texts": level_texts(rows)})
    return {"comparisons": compared, "levels_matched": levels, "divergences": divergences(facts)}


def _distributions(facts: Facts, shown: list[Instrument], drawn: dict[str, figures.Figure]) -> dict[str, Any]:
    found = distributions(facts, shown)
    for group in found:
        group["curves"] = [
            {"name": curve.name, "id": _add(drawn, figures.curves(curve))} for curve in group["curves"]
        ]
    return {"distributions": found}


def _runs(facts: Facts, runs: list[dict[str, Any]], drawn: dict[str, figures.Figure]) -> dict[str, Any]:
    series = of_runs.series_by_run(facts)
    ids = [run["run_id"] for run in runs]
    labels = {run["run_id"]: run["time"] for run in reversed(runs)}
    charts = []
    for title, unit, is_match in (
        ("Share of books equal to golden rows", "share", True),
        ("Greatest D of each metric", "D", False),
    ):
        if lines := of_runs.lines(series, ids, is_match):
            charts.append({"title": title, "id": _add(drawn, figures.over_runs(lines, labels, unit))})
    return {
        "runs": runs,
        "run_count": len(facts.runs),
        "run_charts": charts,
        "drifts": of_runs.drift_rows(series, ids),
        "deviations": f"{of_runs.DEVIATIONS:g}",
        "earlier": of_runs.EARLIER,
    }


def _add(drawn: dict[str, figures.Figure], figure: figures.Figure) -> str:
    name = f"chart-{len(drawn)}"
    drawn[name] = figure
    return name


def _rendered(page: dict[str, Any], drawn: dict[str, figures.Figure]) -> str:
    """Fill the page in: text is escaped, and figures cannot end the script that they are in."""
    filled = pages()
    filled.filters["number"] = _number
    text = json.dumps(drawn, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    library = (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
    if "</script" in library or "\r" in library:
        raise ValueError("plotly.js cannot stand in a page as it is")
    return filled.get_template("report.html.j2").render(page, figures=Markup(text), plotly=Markup(library))


def _number(value: float) -> str:
    """Print a number with four digits; a dash if it is none."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
