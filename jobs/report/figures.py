"""The report's charts as plotly figures: plain dicts, their colours names that the page's script looks up."""

from __future__ import annotations

import base64
import html
from typing import Any

import numpy as np

from deltabook.jobs.console.formats import show_time
from deltabook.jobs.report.books import Books, Floats, Integers
from deltabook.jobs.report.statistics import QUANTILES, Curve
from deltabook.schemas.names import NANOSECONDS_PER_SECOND

POINTS = 2_000
"""Points of a scatter at most: evenly chosen in time."""
TICKS = 6
"""Labels of an axis of time with pauses, besides those of their ends."""
LINE_POINTS = 1_500
"""Points of a line over time at most: of more, means of as many neighbours."""
MILLISECOND = 1e6
"""ns; plotly's times are ms since 1970."""
_DASHES = ("solid", "dash", "dot", "dashdot")
RUN_LABELS = 10
"""Labels below a chart over runs."""
_HUES = 6
_SHOWN = (1, -2)  # quantiles: 1 and 99 %

Figure = dict[str, Any]


def escaped(text: object) -> str:
    """Escape what comes from data: plotly reads tags in names, titles and hover texts.

    Parameters
    ----------
    text : object
        Any.
    """
    return html.escape(str(text), quote=False)


def packed(values: Any, kind: str = "f8") -> dict[str, str]:
    """Write numbers as plotly's typed arrays: half the bytes of text, and NaN allowed.

    Parameters
    ----------
    values : array
        Of one dimension.
    kind : str
        f8, f4 or u2.
    """
    data = np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()
    return {"dtype": kind, "bdata": base64.b64encode(data).decode()}


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Return an axis.

    Parameters
    ----------
    title : str
        What it shows.
    **more : Any
        Other attributes.
    """
    plain = {"gridcolor": "@grid", "linecolor": "@axis", "tickcolor": "@axis", "zeroline": False}
    ticks = {"ticks": "outside", "ticklen": 4, "automargin": True, "title": {"text": title, "standoff": 8}}
    return plain | ticks | more


def clock_axis(books: Books, **more: Any) -> dict[str, Any]:
    """Return an axis of time; where the recording paused, of its columns instead, which leave pauses out.

    Parameters
    ----------
    books : Books
        Whose clock.
    **more : Any
        Other attributes.
    """
    clock = books.clock
    if len(clock.starts) == 1:
        ends = [clock.starts[0] / MILLISECOND, (clock.starts[0] + clock.count * clock.step) / MILLISECOND]
        return axis(type="date", range=ends, hoverformat="%Y-%m-%d %H:%M:%S.%L", **more)
    places = np.unique(np.append(clock.first, np.linspace(0, clock.count - 1, TICKS).astype(int)))
    far = np.diff(places, append=clock.count) > clock.count / TICKS / 2
    places = places[far | np.isin(places, clock.first)][: 3 * TICKS]
    texts = [show_time(int(time)) for time in clock.times()[places]]
    ticks = {"tickvals": places.tolist(), "ticktext": [f"{text[11:19]}<br>{text[:10]}" for text in texts]}
    return axis(range=[0, clock.count], **ticks, **more)


def when(books: Books, times: Integers) -> dict[str, Any]:
    """Return where times lie on `clock_axis`, and what a hover text calls them (see `time_of`).

    Parameters
    ----------
    books : Books
        Whose clock.
    times : int64[n]
        ns since 1970.
    """
    clock = books.clock
    if len(clock.starts) == 1:
        return {"x": packed(times / MILLISECOND)}
    steps = clock.steps(times)
    along = np.clip((times - clock.times()[steps]) / clock.step, 0, 1)
    return {"x": packed(steps + along), "text": [show_time(time)[:23] for time in times.tolist()]}


def time_of(books: Books) -> str:
    """Return the part of a hover text that tells the time.

    Parameters
    ----------
    books : Books
        Whose clock.
    """
    return "%{x|%H:%M:%S.%L}" if len(books.clock.starts) == 1 else "%{text}"


def layout(height: int, **more: Any) -> dict[str, Any]:
    """Return what all charts have in common.

    Parameters
    ----------
    height : int
        Pixels.
    **more : Any
        Axes and other attributes.
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


def _levels(count: int) -> dict[str, Any]:
    return axis("level", tick0=1, dtick=max(round(count / 10), 1), range=[0.5, count + 0.5])


def spread_by_level(books: Books) -> Figure:
    """Draw the median spread of each level, and its 5 to 95 % band.

    Parameters
    ----------
    books : Books
        Of one instrument, with at least one book.
    """
    spreads = books.ask_prices - books.bid_prices
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
        "y": packed(middle),
    }
    median |= {"line": {"color": "@s0", "width": 2}, "marker": {"size": 5}, "customdata": _pairs(low, high)}
    median["hovertemplate"] = (
        "L%{x}: %{y:.6~g}<br>5 to 95 %: %{customdata[0]:.6~g} to %{customdata[1]:.6~g}<extra></extra>"
    )
    data = [edge | {"y": packed(low)}, edge | band | {"y": packed(high)}, median]
    price = axis("spread, price", rangemode="tozero", tickformat=",~g")
    return {"data": data, "layout": layout(300, xaxis=_levels(len(levels)), yaxis=price)}


def _pairs(one: Floats, other: Floats) -> list[list[float]]:
    return np.stack([one, other], axis=1).tolist()  # type: ignore[no-any-return]


def order_flow(books: Books) -> tuple[Figure, dict[str, float]] | None:
    """Draw returns of mid over each second against the order flow imbalance within it.

    Parameters
    ----------
    books : Books
        Of one instrument.

    Returns
    -------
    (dict, dict) or None
        The figure, and `count`, `correlation` and `slope` of the line; None if there is no line to draw.
    """
    returns, flow = books.returns(), books.flow[1:]
    known = np.isfinite(returns)
    returns, flow = returns[known], flow[known]
    if len(flow) < 3 or np.ptp(flow) == 0 or np.ptp(returns) == 0:
        return None
    slope = np.mean((flow - flow.mean()) * (returns - returns.mean())) / np.var(flow)
    start = returns.mean() - slope * flow.mean()
    told = {"count": len(flow), "correlation": float(np.corrcoef(flow, returns)[0, 1]), "slope": float(slope)}
    chosen = slice(None, None, -(-len(flow) // POINTS))
    ends = np.array([flow.min(), flow.max()])
    hover = "imbalance %{x:.6~g}<br>return %{y:.4~g} bp<extra></extra>"
    points = {"type": "scatter", "mode": "markers", "x": packed(flow[chosen]), "y": packed(returns[chosen])}
    points |= {"marker": {"color": "@s0", "size": 5, "opacity": 0.45}, "hovertemplate": hover}
    line = {"type": "scatter", "mode": "lines", "x": packed(ends), "y": packed(start + slope * ends)}
    line |= {"line": {"color": "@s1", "width": 2}, "hoverinfo": "skip"}
    axes = {"xaxis": axis("order flow imbalance, size"), "yaxis": axis("mid return, bp")}
    return {"data": [points, line], "layout": layout(300, showlegend=False, **axes)}, told


def volatility_line(books: Books, volatility: Floats) -> Figure | None:
    """Draw conditional volatility over time.

    Parameters
    ----------
    books : Books
        Of one instrument.
    volatility : float64[n - 1]
        Basis points, for each second but the first.

    Returns
    -------
    dict or None
        None if there is none.
    """
    if not np.isfinite(volatility).any():
        return None
    width = -(-len(volatility) // LINE_POINTS)
    padded = np.append(volatility, np.full(-len(volatility) % width, np.nan)).reshape(-1, width)
    known = np.isfinite(padded)
    means = np.where(known, padded, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    times: Integers = books.seconds[1::width] * NANOSECONDS_PER_SECOND
    line = {"type": "scatter", "mode": "lines", "y": packed(means), "line": {"color": "@s0", "width": 1.4}}
    line |= when(books, times) | {"hovertemplate": time_of(books) + "<br>%{y:.4~g} bp<extra></extra>"}
    axes = {"xaxis": clock_axis(books), "yaxis": axis("volatility, bp in 1 s", rangemode="tozero")}
    return {"data": [line], "layout": layout(260, showlegend=False, **axes)}


def match_by_level(of_kind: dict[str, list[tuple[int, int, int]]]) -> Figure:
    """Draw the share of prices and of sizes that are equal, level by level.

    Parameters
    ----------
    of_kind : dict
        Of `price_match` and `size_match`, (level, matched, compared).
    """
    data: list[dict[str, Any]] = []
    looks = (("price_match", "prices", "@s0", 10), ("size_match", "sizes", "@s1", 5))
    for metric, name, colour, size in looks:
        rows = of_kind[metric]
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
        "layout": layout(260, xaxis=_levels(max(line["x"][-1] for line in data)), yaxis=share),
    }


def curves(curve: Curve) -> Figure:
    """Draw both sides' cumulative distributions, and beside them quantile against quantile.

    Parameters
    ----------
    curve : Curve
        One metric.
    """
    data: list[dict[str, Any]] = []
    sides = (("golden", curve.golden, "@s1", "solid"), ("rebuilt", curve.rebuilt, "@s0", "dot"))
    for name, quantiles, colour, dash in sides:
        line = {"color": colour, "width": 2.2 if name == "golden" else 1.8, "dash": dash, "shape": "hv"}
        hover = f"{name}: %{{y:.0%}} up to %{{x:.6~g}}<extra></extra>"
        told = {"type": "scatter", "mode": "lines", "name": name, "hovertemplate": hover, "line": line}
        data.append(told | {"x": packed(quantiles), "y": packed(QUANTILES)})
    ends = [
        float(end([curve.rebuilt[at], curve.golden[at]]))
        for end, at in ((np.min, _SHOWN[0]), (np.max, _SHOWN[1]))
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
    points |= {"x": packed(curve.golden), "y": packed(curve.rebuilt)}
    data += [plain | equal, plain | points]
    small: dict[str, Any] = {"nticks": 4, "tickformat": "~g", "range": view}
    axes = {
        "xaxis": axis(escaped(curve.unit), domain=[0, 0.42], **small),
        "yaxis": axis(tickformat=".0%", nticks=4),
        "xaxis2": axis("golden", domain=[0.6, 1], anchor="y2", **small),
        "yaxis2": axis(anchor="x2", **small),
    }
    return {"data": data, "layout": layout(210, showlegend=False, **axes)}


def over_runs(lines: list[dict[str, Any]], labels: dict[str, str], title: str) -> Figure:
    """Draw values run over run, drifts ringed.

    Parameters
    ----------
    lines : list of dict
        As `runs.lines` returns them, at least one.
    labels : dict
        What stands below each run, by id, oldest first.
    title : str
        Of the values.
    """
    places = {run: number for number, run in enumerate(labels)}
    data = []
    for number, line in enumerate(lines):
        colour, dash = f"@s{number % _HUES}", _DASHES[number // _HUES % len(_DASHES)]
        name = escaped(line["name"])
        rings = [3 if is_drift else 0 for is_drift in line["is_drift"]]
        sizes = [12 if is_drift else 6 for is_drift in line["is_drift"]]
        marker = {"color": colour, "size": sizes, "opacity": 1, "line": {"color": "@failed", "width": rings}}
        told = {"name": name, "line": {"color": colour, "width": 1.6, "dash": dash}, "marker": marker}
        told["hovertemplate"] = f"{name}<br>%{{text}}<br>%{{y:.6~g}}<extra></extra>"
        points = {"x": [places[run] for run in line["runs"]], "y": line["values"]}
        points["text"] = [escaped(labels[run]) for run in line["runs"]]
        data.append({"type": "scatter", "mode": "lines+markers"} | points | told)
    step = max(-(-len(labels) // RUN_LABELS), 1)
    texts = [escaped(label[5:19]).replace("T", "<br>") for label in labels.values()]
    ticks: dict[str, Any] = {"tickvals": list(range(0, len(labels), step)), "ticktext": texts[::step]}
    axes = {"xaxis": axis(**ticks, range=[-0.5, len(labels) - 0.5]), "yaxis": axis(title, tickformat="~g")}
    return {"data": data, "layout": layout(320, showlegend=True, **axes)}
