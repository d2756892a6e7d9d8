"""Charts of the report as plotly figures.

A figure is a plain dict. A colour such as `@ink` refers to a name in `THEMES`. The script of the report's
page replaces such names by colours.
"""

from __future__ import annotations

import base64
import html
from typing import Any

import numpy as np

from deltabook.jobs.console.formats import format_time
from deltabook.jobs.report.books import LEVELS, BookSeries, Floats
from deltabook.jobs.report.statistics import QUANTILES, Curve
from deltabook.jobs.report.time_grid import Integers
from deltabook.schemas.names import NANOSECONDS_PER_SECOND

POINTS = 2_000
"""Maximum number of points of a scatter plot. If there are more, points are chosen evenly in time."""
TICKS = 6
"""Number of evenly spaced labels of a time axis with pauses. The end of each pause has a label too."""
LINE_POINTS = 1_500
"""Maximum number of points of a line over time. If there are more, each point is the mean of neighbours."""
MILLISECOND = 1e6
"""ns in a millisecond; plotly's times are ms since 1970."""
RUN_LABELS = 10
"""Maximum number of labels below a chart over runs."""
THEMES = {
    "light": {
        **{"ink": "#1b2430", "paper": "#ffffff", "grid": "#e6eaef", "axis": "#8c97a5", "failed": "#b3261e"},
        **{"band": "rgba(0,114,178,0.16)", "s0": "#0072b2", "s1": "#d55e00", "s2": "#00805f"},
        **{"s3": "#a3518c", "s4": "#8a6d00", "s5": "#5a6675"},
    },
    "dark": {
        **{"ink": "#e4e8ee", "paper": "#181d24", "grid": "#29313b", "axis": "#75818f", "failed": "#ff8a80"},
        **{"band": "rgba(86,180,233,0.20)", "s0": "#56b4e9", "s1": "#ff9d5c", "s2": "#3ec9a0"},
        **{"s3": "#e08fc6", "s4": "#e3c34f", "s5": "#a8b3c0"},
    },
}
"""Colours by theme and name; a figure refers to one as `@name`."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_HUES = 6
_SHOWN_QUANTILES = (1, -2)  # 1 and 99 %

Figure = dict[str, Any]


def escape_tags(text: object) -> str:
    """Return a text with `<`, `>` and `&` escaped, because plotly interprets tags in texts.

    Parameters
    ----------
    text : object
        Text that comes from data, such as a symbol or a file name.
    """
    return html.escape(str(text), quote=False)


def pack_numbers(values: Any, kind: str = "f8") -> dict[str, str]:
    """Return numbers as a typed array of plotly, which takes half the bytes of text and can hold NaN.

    Parameters
    ----------
    values : array
        Numbers of any shape; a matrix is written row by row.
    kind : str
        Type of each number: f8 (float64), f4 (float32) or u2 (uint16).
    """
    data = np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()
    return {"dtype": kind, "bdata": base64.b64encode(data).decode()}


def resolve_colours(value: Any, theme: dict[str, str]) -> Any:
    """Return a figure in which each name of a colour, such as `@ink`, is replaced by the colour.

    Parameters
    ----------
    value : Any
        A figure, or a part of one.
    theme : dict
        Colours by name, such as ``THEMES["light"]``.
    """
    if isinstance(value, dict):
        return {name: resolve_colours(part, theme) for name, part in value.items()}
    if isinstance(value, list):
        return [resolve_colours(part, theme) for part in value]
    return theme.get(value[1:], value) if isinstance(value, str) and value.startswith("@") else value


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Return an axis in the style of the report.

    Parameters
    ----------
    title : str
        Title beside the axis.
    **more : Any
        Further attributes of plotly's axis.
    """
    plain = {"gridcolor": "@grid", "linecolor": "@axis", "tickcolor": "@axis", "zeroline": False}
    ticks = {"ticks": "outside", "ticklen": 4, "automargin": True, "title": {"text": title, "standoff": 8}}
    return plain | ticks | more


def time_axis(books: BookSeries, **more: Any) -> dict[str, Any]:
    """Return the time axis for the figures of some books.

    If the recording has pauses, the axis counts columns of the time grid, with times as labels.

    Parameters
    ----------
    books : BookSeries
        Books whose time grid the axis shows.
    **more : Any
        Further attributes of plotly's axis.
    """
    grid = books.grid
    if len(grid.starts) == 1:
        ends = [grid.starts[0] / MILLISECOND, (grid.starts[0] + grid.count * grid.step) / MILLISECOND]
        return axis(type="date", range=ends, hoverformat="%Y-%m-%d %H:%M:%S.%L", **more)
    columns = labelled_columns(books)
    texts = [format_time(int(time)) for time in grid.times()[columns]]
    ticks = {"tickvals": columns.tolist(), "ticktext": [f"{text[11:19]}<br>{text[:10]}" for text in texts]}
    return axis(range=[0, grid.count], **ticks, **more)


def labelled_columns(books: BookSeries) -> Integers:
    """Return the columns of a time axis that get a label: the end of each pause, and some between pauses.

    Parameters
    ----------
    books : BookSeries
        Books whose time grid the axis shows.
    """
    grid = books.grid
    columns = np.unique(np.append(grid.first, np.linspace(0, grid.count - 1, TICKS).astype(int)))
    is_far = np.diff(columns, append=grid.count) > grid.count / TICKS / 2
    return columns[is_far | np.isin(columns, grid.first)][: 3 * TICKS]


def time_values(books: BookSeries, times: Integers) -> dict[str, Any]:
    """Return the x values of times on `time_axis`, as attributes of a plotly trace.

    If the recording has pauses, also return the texts that `hover_time` shows.

    Parameters
    ----------
    books : BookSeries
        Books whose time grid the axis shows.
    times : int64[n]
        ns since 1970 UTC.
    """
    grid = books.grid
    if len(grid.starts) == 1:
        return {"x": pack_numbers(times / MILLISECOND)}
    steps = grid.steps(times)
    along = np.clip((times - grid.times()[steps]) / grid.step, 0, 1)
    return {"x": pack_numbers(steps + along), "text": [format_time(time)[:23] for time in times.tolist()]}


def hover_time(books: BookSeries) -> str:
    """Return the part of a hover template that shows the time.

    Parameters
    ----------
    books : BookSeries
        Books whose time grid the axis shows.
    """
    return "%{x|%H:%M:%S.%L}" if len(books.grid.starts) == 1 else "%{text}"


def layout(height: int, **more: Any) -> dict[str, Any]:
    """Return the layout of a chart in the style of the report.

    Parameters
    ----------
    height : int
        Height, pixels.
    **more : Any
        Axes and further attributes of plotly's layout.
    """
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"}
    plain = {
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "@ink", "size": 12, "family": "system-ui, sans-serif"},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "hoverlabel": {"bgcolor": "@paper", "bordercolor": "@axis", "font": {"color": "@ink"}},
        "legend": legend | {"itemsizing": "constant"},
        "hovermode": "closest",
        "dragmode": "zoom",
    }
    return plain | more


def _level_axis(count: int) -> dict[str, Any]:
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
    edge: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "x": levels,
        "line": {"width": 0, "color": "@band"},
    }
    edge |= {"hoverinfo": "skip", "showlegend": False}
    band = {"name": "5 to 95 %", "showlegend": True, "fill": "tonexty", "fillcolor": "@band"}
    median: dict[str, Any] = {
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
    return np.stack([first, second], axis=1).tolist()  # type: ignore[no-any-return]


def draw_order_flow(books: BookSeries) -> tuple[Figure, dict[str, float]] | None:
    """Return a chart of the mid return of each second against the order flow imbalance in the same second.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument.

    Returns
    -------
    (dict, dict) or None
        The figure, and a dict of `count` (number of seconds), `correlation`, and `slope` of the fitted line
        (basis points per unit of size). None if no line can be fitted.
    """
    returns, flow = books.returns(), books.flow[1:]
    known = np.isfinite(returns)
    returns, flow = returns[known], flow[known]
    if len(flow) < 3 or np.ptp(flow) == 0 or np.ptp(returns) == 0:
        return None
    slope = np.mean((flow - flow.mean()) * (returns - returns.mean())) / np.var(flow)
    start = returns.mean() - slope * flow.mean()
    correlation = float(np.corrcoef(flow, returns)[0, 1])
    numbers = {"count": len(flow), "correlation": correlation, "slope": float(slope)}
    chosen = slice(None, None, -(-len(flow) // POINTS))
    ends = np.array([flow.min(), flow.max()])
    hover = "imbalance %{x:.6~g}<br>return %{y:.4~g} bp<extra></extra>"
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": pack_numbers(flow[chosen]),
        "y": pack_numbers(returns[chosen]),
    }
    points |= {"marker": {"color": "@s0", "size": 5, "opacity": 0.45}, "hovertemplate": hover}
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": pack_numbers(ends),
        "y": pack_numbers(start + slope * ends),
    }
    line |= {"line": {"color": "@s1", "width": 2}, "hoverinfo": "skip"}
    axes = {"xaxis": axis("order flow imbalance, size"), "yaxis": axis("mid return, bp")}
    return {"data": [points, line], "layout": layout(300, showlegend=False, **axes)}, numbers


def draw_volatility(books: BookSeries, volatility: Floats) -> Figure | None:
    """Return a chart of conditional volatility over time.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument.
    volatility : float64[n - 1]
        Volatility of each second except the first, basis points; NaN if it is not known.

    Returns
    -------
    dict or None
        The figure; None if no volatility is known.
    """
    if not np.isfinite(volatility).any():
        return None
    width = -(-len(volatility) // LINE_POINTS)
    padded = np.append(volatility, np.full(-len(volatility) % width, np.nan)).reshape(-1, width)
    known = np.isfinite(padded)
    means = np.where(known, padded, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    times: Integers = books.seconds[1::width] * NANOSECONDS_PER_SECOND
    line = {
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


def draw_match_by_level(metrics: dict[str, list[tuple[int, int, int]]]) -> Figure:
    """Return a chart of the share of prices and sizes that equal golden rows, by level.

    Parameters
    ----------
    metrics : dict
        Maps `price_match` and `size_match` to lists of (level, matched, compared).
    """
    data: list[dict[str, Any]] = []
    looks = (("price_match", "prices", "@s0", 10), ("size_match", "sizes", "@s1", 5))
    for metric, name, colour, size in looks:
        rows = metrics[metric]
        line: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": [row[0] for row in rows],
        }
        line |= {"y": [100 * row[1] / row[2] for row in rows], "line": {"color": colour, "width": 1.6}}
        line |= {"marker": {"size": size}, "customdata": [list(row[1:]) for row in rows]}
        line["hovertemplate"] = (
            f"L%{{x}} {name}: %{{customdata[0]:,}} of %{{customdata[1]:,}} (%{{y:.4f}} %)<extra></extra>"
        )
        data.append(line)
    least = min(min(line["y"], default=100) for line in data)
    pad = max((100 - least) * 0.15, 0.002)
    share = axis("equal, %", range=[least - pad, 100 + pad], tickformat=".6~g")
    return {
        "data": data,
        "layout": layout(260, xaxis=_level_axis(max(line["x"][-1] for line in data)), yaxis=share),
    }


def draw_distribution(curve: Curve) -> Figure:
    """Return two charts in one figure: the cumulative distributions of both sides, and a Q-Q plot.

    Parameters
    ----------
    curve : Curve
        Distribution of one metric on both sides.
    """
    data: list[dict[str, Any]] = []
    sides = (("golden", curve.golden, "@s1", "solid"), ("rebuilt", curve.rebuilt, "@s0", "dot"))
    for name, quantiles, colour, dash in sides:
        line = {"color": colour, "width": 2.2 if name == "golden" else 1.8, "dash": dash, "shape": "hv"}
        hover = f"{name}: %{{y:.0%}} up to %{{x:.6~g}}<extra></extra>"
        trace = {"type": "scatter", "mode": "lines", "name": name, "hovertemplate": hover, "line": line}
        data.append(trace | {"x": pack_numbers(quantiles), "y": pack_numbers(QUANTILES)})
    ends = [
        float(end([curve.rebuilt[index], curve.golden[index]]))
        for end, index in ((np.min, _SHOWN_QUANTILES[0]), (np.max, _SHOWN_QUANTILES[1]))
    ]
    if ends[0] == ends[1]:
        ends = [float(np.min([curve.rebuilt, curve.golden])), float(np.max([curve.rebuilt, curve.golden]))]
    pad = (ends[1] - ends[0]) * 0.06 or abs(ends[0]) * 0.1 or 1.0
    view = [ends[0] - pad, ends[1] + pad]
    plain: dict[str, Any] = {"type": "scatter", "xaxis": "x2", "yaxis": "y2"}
    equal = {
        "mode": "lines",
        "x": view,
        "y": view,
        "line": {"color": "@axis", "width": 1},
        "hoverinfo": "skip",
    }
    hover = "golden %{x:.6~g}<br>rebuilt %{y:.6~g}<extra></extra>"
    points = {"mode": "markers", "marker": {"color": "@s0", "size": 4}, "hovertemplate": hover}
    points |= {"x": pack_numbers(curve.golden), "y": pack_numbers(curve.rebuilt)}
    data += [plain | equal, plain | points]
    small: dict[str, Any] = {"nticks": 4, "tickformat": "~g", "range": view}
    axes = {
        "xaxis": axis(escape_tags(curve.unit), domain=[0, 0.42], **small),
        "yaxis": axis(tickformat=".0%", nticks=4),
        "xaxis2": axis("golden", domain=[0.6, 1], anchor="y2", **small),
        "yaxis2": axis(anchor="x2", **small),
    }
    return {"data": data, "layout": layout(210, showlegend=False, **axes)}


def draw_over_runs(lines: list[dict[str, Any]], labels: dict[str, str], title: str) -> Figure:
    """Return a chart of values by run. A ring marks each drift: a value far from the values of earlier runs.

    Parameters
    ----------
    lines : list of dict
        Lines from `runs.select_chart_lines`, at least one.
    labels : dict
        Maps the id of each run to its start time as text, oldest first.
    title : str
        Title of the value axis.
    """
    columns = {run: number for number, run in enumerate(labels)}
    data = []
    for number, line in enumerate(lines):
        colour, dash = f"@s{number % _HUES}", _DASHES[number // _HUES % len(_DASHES)]
        name = escape_tags(line["name"])
        rings = [3 if is_drift else 0 for is_drift in line["is_drift"]]
        sizes = [12 if is_drift else 6 for is_drift in line["is_drift"]]
        marker = {"color": colour, "size": sizes, "opacity": 1, "line": {"color": "@failed", "width": rings}}
        look = {"name": name, "line": {"color": colour, "width": 1.6, "dash": dash}, "marker": marker}
        look["hovertemplate"] = f"{name}<br>%{{text}}<br>%{{y:.6~g}}<extra></extra>"
        points = {"x": [columns[run] for run in line["runs"]], "y": line["values"]}
        points["text"] = [escape_tags(labels[run]) for run in line["runs"]]
        data.append({"type": "scatter", "mode": "lines+markers"} | points | look)
    step = max(-(-len(labels) // RUN_LABELS), 1)
    texts = [escape_tags(label[5:19]).replace("T", "<br>") for label in labels.values()]
    ticks: dict[str, Any] = {"tickvals": list(range(0, len(labels), step)), "ticktext": texts[::step]}
    axes = {"xaxis": axis(**ticks, range=[-0.5, len(labels) - 0.5]), "yaxis": axis(title, tickformat="~g")}
    return {"data": data, "layout": layout(320, showlegend=True, **axes)}
