"""The command `report`: write an HTML page with verdicts and figures of the books. Starts no Spark."""

from __future__ import annotations

import json
import math
import time
from importlib.resources import files
from pathlib import Path
from typing import TypedDict

import numpy as np
from markupsafe import Markup

from deltabook.expectations.suites import WORST_FIRST
from deltabook.jobs.console.formats import format_duration, format_short_time
from deltabook.jobs.report import figures
from deltabook.jobs.report import runs as run_history
from deltabook.jobs.report.books import LEVELS, SECONDS, BookSeries, read_books, read_trades
from deltabook.jobs.report.data_files import WHOLE, DataFile, Period, list_data_files
from deltabook.jobs.report.depth import BAND_LEVELS, draw_depth
from deltabook.jobs.report.figure_style import THEMES, Figure
from deltabook.jobs.report.html import open_templates
from deltabook.jobs.report.inputs import STATUSES, Instrument, ReportInputs, read_report_inputs
from deltabook.jobs.report.runs import Drift, ListedRun
from deltabook.jobs.report.statistics import (
    TAIL_ALPHA,
    conditional_volatility,
    describe_distributions,
    find_garch,
)
from deltabook.jobs.report.timeline import GAPS_SHOWN, lay_out_timeline, list_gaps
from deltabook.jobs.report.verdict import (
    compare_with_golden,
    describe_levels,
    list_divergences,
    summarize_verdict,
)
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import BOOKS, EVENTS, form_of

SYMBOLS = 6
"""Number of instruments that are drawn by default. They are the instruments with the most rows of `books`."""
_SECTIONS = {
    "verdict": "Verdict",
    "files": "Raw files",
    "coverage": "Coverage",
    "books": "Books",
    "golden": "Golden",
    "statistics": "Statistics",
    "runs": "Runs",
    "throughput": "Throughput",
}

Figures = dict[str, Figure]
"""Maps the id of each chart of the page to its figure."""

PageValues = dict[str, object]
"""Maps the names that the template of the page uses to values."""


class ReportResult(TypedDict):
    """Result of `write_report`.

    `report` is the path of the file, `bytes` is its size, and `report_seconds` is the time in seconds that it
    took to make the report. `verdict` is the overall verdict, and `verdicts` maps the name of each suite to
    its verdict. `drifts` describes the drifts of the newest run. `symbols` lists the shown instruments, and
    `symbols_left_out` counts all other instruments.
    """

    report: str
    bytes: int
    verdict: str
    verdicts: dict[str, str]
    drifts: list[str]
    symbols: list[str]
    symbols_left_out: int
    report_seconds: float


def write_report(
    warehouse: Path,
    out: Path,
    symbols: list[str] | None = None,
    since: str | None = None,
    period: Period = WHOLE,
    levels: int = BAND_LEVELS,
    known_only: bool = False,
) -> ReportResult:
    """Write the report of a warehouse as one HTML file that needs no other files.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables. Their published versions are read.
    out : Path
        File to write. Its folder is created.
    symbols : list of str, optional
        Symbols whose books and distributions are shown. A symbol selects the instruments of all exchanges.
        Default: the instruments with the most rows of `books`; `SYMBOLS` is their number. The verdict always
        covers all instruments.
    since : str, optional
        First run to list: the id of a run, or a time as ISO 8601 text. With a time, runs that started at this
        time or later are listed. Default: the newest runs.
    period : (int or None, int or None)
        Start (inclusive) and end (exclusive) of the books to draw, ns since 1970 UTC. All other parts of the
        report cover the whole recording.
    levels : int
        Level that sets the height of the depth map's band around the mid, as in `depth.measure_depth`.
    known_only : bool
        Whether the drawn books are cut to their known levels.

    Raises
    ------
    WarehouseError
        If the warehouse has no published tables yet, or a symbol does not exist. The message lists the
        existing symbols.
    SettingsError
        If `since` is neither the id of a run nor a time.
    """
    started = time.monotonic()
    inputs = read_report_inputs(warehouse)
    runs = run_history.select_runs(inputs, since)
    shown, left_out, book_files = _choose_instruments(inputs, symbols)
    drawn: Figures = {}
    summary = summarize_verdict(inputs)
    books = _describe_all_books(inputs, book_files, period, levels, known_only, drawn)
    page: PageValues = {
        "name": inputs.stored.root.name,
        "sections": list(_SECTIONS.items()),
        "statuses": STATUSES,
        "verdict_words": WORST_FIRST,
        "summary": summary,
        "files": run_history.describe_raw_files(inputs),
        "timeline": lay_out_timeline(inputs),
        "gaps": list_gaps(inputs),
        "gaps_shown": GAPS_SHOWN,
        "levels": LEVELS,
        "band_levels": levels,
        "known_only": known_only,
        "period": _describe_period(period),
        "shown": shown,
        "named": bool(symbols),
        "left_out": [" ".join(key) for key in left_out],
        "books": books,
        "volatility": [book["volatility"] for book in books if book["volatility"]],
        "tail": TAIL_ALPHA,
        "stages": run_history.list_stages(inputs),
        "versions": run_history.collect_versions(inputs),
        "themes": THEMES,
    }
    page |= _describe_golden(inputs, drawn) | _describe_statistics(inputs, shown, drawn)
    drifts, run_values = _describe_runs(inputs, runs, drawn)
    page |= run_values
    out.parent.mkdir(parents=True, exist_ok=True)
    size = out.write_bytes(_render(page, drawn).encode())
    newest = inputs.runs[-1]["run_id"]
    return {
        "report": str(out),
        "bytes": size,
        "verdict": summary["overall"],
        "verdicts": {suite["name"]: suite["verdict"] for suite in summary["suites"]},
        "drifts": [row["text"] for row in drifts if row["run_id"] == newest],
        "symbols": [" ".join(key) for key in shown],
        "symbols_left_out": len(left_out),
        "report_seconds": round(time.monotonic() - started, 2),
    }


def _choose_instruments(
    inputs: ReportInputs, symbols: list[str] | None
) -> tuple[list[Instrument], list[Instrument], dict[Instrument, list[DataFile]]]:
    """Return the instruments to show, the instruments left out, and the data files of the books to show."""
    book_files: dict[Instrument, list[DataFile]] = {key: [] for key in inputs.instruments}
    for is_decimal in (False, True):
        files_by_key = list_data_files(inputs.stored, form_of(BOOKS, is_decimal))
        book_files |= {key: files_by_key[key] for key in inputs.instruments if key in files_by_key}
    order = sorted(book_files, key=lambda key: (-sum(file.rows for file in book_files[key]), key))
    known = {symbol for _, symbol in book_files}
    if unknown := set(symbols or ()) - known:
        raise WarehouseError(
            f"no {', '.join(sorted(unknown))} in {inputs.stored.root}; there are: {', '.join(sorted(known))}"
        )
    shown = [key for key in order if key[1] in symbols] if symbols else order[:SYMBOLS]
    left_out = [key for key in order if key not in shown]
    return shown, left_out, {key: book_files[key] for key in shown if book_files[key]}


def _describe_period(period: Period) -> str:
    """Return a period as text; empty if it has no bound."""
    start, end = period
    texts = ["" if start is None else f"from {format_short_time(start)}"]
    texts.append("" if end is None else f"to {format_short_time(end)}")
    return " ".join(filter(None, texts))


def _describe_all_books(
    inputs: ReportInputs,
    book_files: dict[Instrument, list[DataFile]],
    period: Period,
    levels: int,
    known_only: bool,
    drawn: Figures,
) -> list[PageValues]:
    """Read the books of each instrument, add their figures to `drawn`, and return the template's values."""
    forms = {bool(inputs.instruments[key]["is_decimal"]) for key in book_files}
    event_files = {form: list_data_files(inputs.stored, form_of(EVENTS, form)) for form in forms}
    entries = []
    for key, own_files in book_files.items():
        instrument = inputs.instruments[key]
        books = read_books(own_files, instrument, period, max(levels, LEVELS), known_only)
        entry: PageValues = {"id": f"book-{len(drawn)}", "exchange": key[0], "symbol": key[1]}
        if books is not None:
            trade_files = event_files[bool(instrument["is_decimal"])].get(key, [])
            books.trades = read_trades(trade_files, instrument, period)
            entry |= _describe_books(inputs, key, books, levels, drawn)
        else:
            entry |= {"rows": 0, "depth": None, "volatility": None}
        entries.append(entry)
    return entries


def _describe_books(
    inputs: ReportInputs, key: Instrument, books: BookSeries, levels: int, drawn: Figures
) -> PageValues:
    """Add the figures of one instrument's books to `drawn`, and return the template's values."""
    grid = books.grid
    entry: PageValues = {
        "rows": books.rows,
        "first": format_short_time(int(grid.starts[0])),
        "last": format_short_time(int(grid.ends[-1])),
        "trades": books.trades.count,
        "drawn": len(books.trades.times),
        "step": format_duration(grid.step),
        "suspect": books.is_suspect.any(),
        "pauses": len(grid.starts) - 1,
        "depth": None,
        "flow": None,
        "volatility": None,
    }
    if not np.isfinite(books.column_mids).any():
        return entry
    figure, price_title = draw_depth(books, levels)
    entry["depth"] = {"id": _add_figure(drawn, figure), "what": price_title}
    entry["spread"] = {"id": _add_figure(drawn, figures.draw_spread_by_level(books))}
    if flow := figures.draw_order_flow(books):
        figure, fit = flow
        entry["flow"] = {"id": _add_figure(drawn, figure), "is_cut": len(books.seconds) == SECONDS, **fit}
    entry["volatility"] = _describe_volatility(inputs, key, books, drawn)
    return entry


def _describe_volatility(
    inputs: ReportInputs, key: Instrument, books: BookSeries, drawn: Figures
) -> PageValues | None:
    """Add the volatility figure of one instrument to `drawn`, and return the template's values.

    Return None if no GARCH parameters were reported, or if all volatilities are unknown.
    """
    garch = find_garch(inputs, key)
    figure = figures.draw_volatility(books, conditional_volatility(books, garch)) if garch else None
    if figure is None:
        return None
    return {"id": _add_figure(drawn, figure), "exchange": key[0], "symbol": key[1], "garch": garch}


def _describe_golden(inputs: ReportInputs, drawn: Figures) -> PageValues:
    """Add the figures that compare books with golden rows to `drawn`, and return the template's values."""
    compared = compare_with_golden(inputs)
    levels: list[PageValues] = []
    for kind, rows in compared["by_level"].items():
        if len({level for metric_rows in rows.values() for level, _, _ in metric_rows}) > 1:
            levels.append({"kind": kind, "id": _add_figure(drawn, figures.draw_match_by_level(rows))})
        else:
            levels.append({"kind": kind, "id": "", "texts": describe_levels(rows)})
    return {"comparisons": compared, "levels_matched": levels, "divergences": list_divergences(inputs)}


def _describe_statistics(inputs: ReportInputs, shown: list[Instrument], drawn: Figures) -> PageValues:
    """Add the distributions of the shown instruments to `drawn`, and return the template's values."""
    groups = describe_distributions(inputs, shown)
    shown_groups: list[PageValues] = []
    for group in groups:
        charts = [
            {"name": curve.name, "id": _add_figure(drawn, figures.draw_distribution(curve))}
            for curve in group["curves"]
        ]
        shown_groups.append({**group, "curves": charts})
    return {"distributions": shown_groups}


def _describe_runs(
    inputs: ReportInputs, runs: list[ListedRun], drawn: Figures
) -> tuple[list[Drift], PageValues]:
    """Add the charts over runs to `drawn`, and return the listed runs' drifts and the template's values."""
    series = run_history.measure_runs(inputs)
    ids = [run["run_id"] for run in runs]
    labels = {run["run_id"]: run["time"] for run in reversed(runs)}
    charts = []
    for title, unit, is_match in (
        ("Share of books equal to golden rows", "share", True),
        ("Greatest D of each metric", "D", False),
    ):
        if lines := run_history.select_chart_lines(series, ids, is_match):
            figure = figures.draw_over_runs(lines, labels, unit)
            charts.append({"title": title, "id": _add_figure(drawn, figure)})
    drifts = run_history.list_drifts(series, ids)
    return drifts, {
        "runs": runs,
        "run_count": len(inputs.runs),
        "run_charts": charts,
        "drifts": drifts,
        "deviations": f"{run_history.DEVIATIONS:g}",
        "earlier": run_history.EARLIER,
    }


def _add_figure(drawn: Figures, figure: Figure) -> str:
    """Add a figure to the figures of the page, and return the id of its chart."""
    name = f"chart-{len(drawn)}"
    drawn[name] = figure
    return name


def _render(page: PageValues, drawn: Figures) -> str:
    """Return the page as HTML.

    The figures are JSON in a script of the page. Characters that could end this script are escaped.
    """
    templates = open_templates()
    templates.filters["number"] = _format_number
    text = json.dumps(drawn, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    library = (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
    if "</script" in library or "\r" in library:
        raise ValueError("plotly.js cannot be embedded in a page: it contains </script or a carriage return")
    template = templates.get_template("report.html.j2")
    return template.render(page, figures=Markup(text), plotly=Markup(library))


def _format_number(value: float) -> str:
    """Return a number with four significant digits; a dash for NaN."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
