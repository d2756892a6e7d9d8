"""Draw the charts of the report as plotly figures.

A figure is a dict that can be written as JSON. A colour such as `@ink` is a name in `figure_style.THEMES`.
The script of the report's page replaces such names by colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from deltabook.jobs.report.books import LEVELS, BookSeries, Floats
from deltabook.jobs.report.figure_style import (
    Attributes,
    Figure,
    axis,
    escape_tags,
    hover_time,
    layout,
    pack_numbers,
    time_axis,
    time_values,
)
from deltabook.jobs.report.runs import ChartLine
from deltabook.jobs.report.statistics import QUANTILES, Curve
from deltabook.jobs.report.time_grid import Integers
from deltabook.jobs.report.verdict import MatchesByMetric
from deltabook.schemas.names import NANOSECONDS_PER_SECOND

POINTS = 2_000
"""Maximum number of points of a scatter plot. If there are more, only every n-th point is drawn."""
LINE_POINTS = 1_500
"""Maximum number of points of a line over time. If there are more, means of neighbouring points are drawn."""
RUN_LABELS = 10
"""Maximum number of labels below a chart over runs."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_HUES = 6
_SHOWN_QUANTILES = (1, -2)  # 1 and 99 %


class FlowFit(TypedDict):
    """Line fitted to mid returns against order flow imbalances.

    `count` is the number of seconds. `slope` is in basis points per unit of size.
    """

    count: int
    correlation: float
    slope: float


def _level_axis(count: int) -> Attributes:
    """Return an axis of book levels from 1 to `count`."""
    return axis("level", tick0=1, dtick=max(round(count / 10), 1), range=[0.5, count + 0.5])


def draw_spread_by_level(books: BookSeries) -> Figure:
    """Return a chart of the median spread of each level, with a band from the 5 % to the 95 % quantile.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument. At least one book must have both sides.
    """
    spreads = (books.ask_prices - books.bid_prices)[:, :LEVELS]
    spreads = spreads[:, np.isfinite(spreads).any(axis=0)]
    low, middle, high = np.nanquantile(spreads, [0.05, 0.5, 0.95], axis=0)
    levels = np.arange(1, len(middle) + 1).tolist()
    edge: Attributes = {
        "type": "scatter",
        "mode": "lines",
        "x": levels,
        "line": {"width": 0, "color": "@band"},
    }
    edge |= {"hoverinfo": "skip", "showlegend": False}
    band: Attributes = {"name": "5 to 95 %", "showlegend": True, "fill": "tonexty", "fillcolor": "@band"}
    median: Attributes = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "median",
        "x": levels,
        "y": pack_numbers(middle),
    }
    median |= {
        "line": {"color": "@s0", "width": 2},
        "marker": {"size": 5},
        "customdata": _stack_pairs(low, high),
    }
    median["hovertemplate"] = (
        "L%{x}: %{y:.6~g}<br>5 to 95 %: %{customdata[0]:.6~g} to %{customdata[1]:.6~g}<extra></extra>"
    )
    data = [edge | {"y": pack_numbers(low)}, edge | band | {"y": pack_numbers(high)}, median]
    price = axis("spread, price", rangemode="tozero", tickformat=",~g")
    return {"data": data, "layout": layout(300, xaxis=_level_axis(len(levels)), yaxis=price)}


def _stack_pairs(first: Floats, second: Floats) -> list[list[float]]:
    """Return the elements of two arrays of equal length as pairs."""
    return [list(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)]


def draw_order_flow(books: BookSeries) -> tuple[Figure, FlowFit] | None:
    """Return a scatter plot of mid returns against order flow imbalances, one point per second.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument.

    Returns
    -------
    (Figure, FlowFit) or None
        The figure, and the line that is fitted to the points; None if no line can be fitted.
    """
    returns, flow = books.returns(), books.flow[1:]
    known = np.isfinite(returns)
    returns, flow = returns[known], flow[known]
    if len(flow) < 3 or np.ptp(flow) == 0 or np.ptp(returns) == 0:
        return None
    slope = np.mean((flow - flow.mean()) * (returns - returns.mean())) / np.var(flow)
    start = returns.mean() - slope * flow.mean()
    correlation = float(np.corrcoef(flow, returns)[0, 1])
    fit: FlowFit = {"count": len(flow), "correlation": correlation, "slope": float(slope)}
    chosen = slice(None, None, -(-len(flow) // POINTS))
    ends = np.array([flow.min(), flow.max()])
    hover = "imbalance %{x:.6~g}<br>return %{y:.4~g} bp<extra></extra>"
    points: Attributes = {
        "type": "scatter",
        "mode": "markers",
        "x": pack_numbers(flow[chosen]),
        "y": pack_numbers(returns[chosen]),
    }
    points |= {"marker": {"color": "@s0", "size": 5, "opacity": 0.45}, "hovertemplate": hover}
    line: Attributes = {
        "type": "scatter",
        "mode": "lines",
        "x": pack_numbers(ends),
        "y": pack_numbers(start + slope * ends),
    }
    line |= {"line": {"color": "@s1", "width": 2}, "hoverinfo": "skip"}
    axes = {"xaxis": axis("order flow imbalance, size"), "yaxis": axis("mid return, bp")}
    return {"data": [points, line], "layout": layout(300, showlegend=False, **axes)}, fit


def draw_volatility(books: BookSeries, volatility: Floats) -> Figure | None:
    """Return a chart of conditional volatility over time.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument.
    volatility : float64[n - 1]
        Volatility of each second except the first, basis points; NaN if unknown.

    Returns
    -------
    Figure or None
        The figure; None if all volatilities are NaN.
    """
    if not np.isfinite(volatility).any():
        return None
    width = -(-len(volatility) // LINE_POINTS)
    padded = np.append(volatility, np.full(-len(volatility) % width, np.nan)).reshape(-1, width)
    known = np.isfinite(padded)
    means = np.where(known, padded, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    times: Integers = books.seconds[1::width] * NANOSECONDS_PER_SECOND
    line: Attributes = {
        "type": "scatter",
        "mode": "lines",
        "y": pack_numbers(means),
        "line": {"color": "@s0", "width": 1.4},
    }
    line |= time_values(books, times) | {
        "hovertemplate": hover_time(books) + "<br>%{y:.4~g} bp<extra></extra>"
    }
    axes = {"xaxis": time_axis(books), "yaxis": axis("volatility, bp in 1 s", rangemode="tozero")}
    return {"data": [line], "layout": layout(260, showlegend=False, **axes)}


def draw_match_by_level(metrics: MatchesByMetric) -> Figure:
    """Return a chart of the share of prices and sizes that equal golden rows, by level.

    Parameters
    ----------
    metrics : dict
        Maps `price_match` and `size_match` to lists of (level, number of matches, number of comparisons).
    """
    data: list[Attributes] = []
    lowest: list[float] = []
    looks = (("price_match", "prices", "@s0", 10), ("size_match", "sizes", "@s1", 5))
    for metric, name, colour, size in looks:
        rows = metrics[metric]
        percents = [100 * matched / compared for _, matched, compared in rows]
        lowest.append(min(percents, default=100))
        line: Attributes = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": [row[0] for row in rows],
        }
        line |= {"y": percents, "line": {"color": colour, "width": 1.6}}
        line |= {"marker": {"size": size}, "customdata": [list(row[1:]) for row in rows]}
        line["hovertemplate"] = (
            f"L%{{x}} {name}: %{{customdata[0]:,}} of %{{customdata[1]:,}} (%{{y:.4f}} %)<extra></extra>"
        )
        data.append(line)
    least = min(lowest)
    pad = max((100 - least) * 0.15, 0.002)
    share = axis("equal, %", range=[least - pad, 100 + pad], tickformat=".6~g")
    return {
        "data": data,
        "layout": layout(260, xaxis=_level_axis(max(rows[-1][0] for rows in metrics.values())), yaxis=share),
    }


def draw_distribution(curve: Curve) -> Figure:
    """Return a figure with the cumulative distributions of rebuilt and golden books, and their Q-Q plot.

    Parameters
    ----------
    curve : Curve
        Quantiles of one metric for rebuilt and for golden books.
    """
    data: list[Attributes] = []
    sides = (("golden", curve.golden, "@s1", "solid"), ("rebuilt", curve.rebuilt, "@s0", "dot"))
    for name, quantiles, colour, dash in sides:
        line = {"color": colour, "width": 2.2 if name == "golden" else 1.8, "dash": dash, "shape": "hv"}
        hover = f"{name}: %{{y:.0%}} up to %{{x:.6~g}}<extra></extra>"
        trace: Attributes = {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "hovertemplate": hover,
            "line": line,
        }
        data.append(trace | {"x": pack_numbers(quantiles), "y": pack_numbers(QUANTILES)})
    ends = [
        float(end([curve.rebuilt[index], curve.golden[index]]))
        for end, index in ((np.min, _SHOWN_QUANTILES[0]), (np.max, _SHOWN_QUANTILES[1]))
    ]
    if ends[0] == ends[1]:
        ends = [float(np.min([curve.rebuilt, curve.golden])), float(np.max([curve.rebuilt, curve.golden]))]
    pad = (ends[1] - ends[0]) * 0.06 or abs(ends[0]) * 0.1 or 1.0
    view = [ends[0] - pad, ends[1] + pad]
    plain: Attributes = {"type": "scatter", "xaxis": "x2", "yaxis": "y2"}
    equal: Attributes = {
        "mode": "lines",
        "x": view,
        "y": view,
        "line": {"color": "@axis", "width": 1},
        "hoverinfo": "skip",
    }
    hover = "golden %{x:.6~g}<br>rebuilt %{y:.6~g}<extra></extra>"
    points: Attributes = {"mode": "markers", "marker": {"color": "@s0", "size": 4}, "hovertemplate": hover}
    points |= {"x": pack_numbers(curve.golden), "y": pack_numbers(curve.rebuilt)}
    data += [plain | equal, plain | points]
    small: Attributes = {"nticks": 4, "tickformat": "~g", "range": view}
    axes = {
        "xaxis": axis(escape_tags(curve.unit), domain=[0, 0.42], **small),
        "yaxis": axis(tickformat=".0%", nticks=4),
        "xaxis2": axis("golden", domain=[0.6, 1], anchor="y2", **small),
        "yaxis2": axis("", anchor="x2", **small),
    }
    return {"data": data, "layout": layout(210, showlegend=False, **axes)}


def draw_over_runs(lines: list[ChartLine], labels: Mapping[str, str], title: str) -> Figure:
    """Return a line chart of metric values by run, with a ring around each drift.

    A drift is a value that is far from the values of earlier runs.

    Parameters
    ----------
    lines : list of ChartLine
        Lines from `runs.select_chart_lines`, at least one.
    labels : dict
        Start time of each run as text, by run id, oldest first.
    title : str
        Title of the value axis.
    """
    columns = {run: number for number, run in enumerate(labels)}
    data: list[Attributes] = []
    for number, line in enumerate(lines):
        colour, dash = f"@s{number % _HUES}", _DASHES[number // _HUES % len(_DASHES)]
        name = escape_tags(line["name"])
        rings = [3 if is_drift else 0 for is_drift in line["is_drift"]]
        sizes = [12 if is_drift else 6 for is_drift in line["is_drift"]]
        marker = {"color": colour, "size": sizes, "opacity": 1, "line": {"color": "@failed", "width": rings}}
        look: Attributes = {
            "name": name,
            "line": {"color": colour, "width": 1.6, "dash": dash},
            "marker": marker,
        }
        look["hovertemplate"] = f"{name}<br>%{{text}}<br>%{{y:.6~g}}<extra></extra>"
        points: Attributes = {"x": [columns[run] for run in line["runs"]], "y": line["values"]}
        points["text"] = [escape_tags(labels[run]) for run in line["runs"]]
        data.append({"type": "scatter", "mode": "lines+markers"} | points | look)
    step = max(-(-len(labels) // RUN_LABELS), 1)
    texts = [escape_tags(label[5:19]).replace("T", "<br>") for label in labels.values()]
    ticks: Attributes = {"tickvals": list(range(0, len(labels), step)), "ticktext": texts[::step]}
    axes = {
        "xaxis": axis("", **ticks, range=[-0.5, len(labels) - 0.5]),
        "yaxis": axis(title, tickformat="~g"),
    }
    return {"data": data, "layout": layout(320, showlegend=True, **axes)}
