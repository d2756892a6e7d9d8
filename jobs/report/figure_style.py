"""Build parts of plotly figures in the style of the report: axes, layouts, colours and packed numbers."""

from __future__ import annotations

import base64
import html
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from deltabook.jobs.console.formats import format_time
from deltabook.jobs.report.books import BookSeries
from deltabook.jobs.report.time_grid import Integers

TICKS = 6
"""Number of evenly spaced labels of a time axis with pauses. The end of each pause has a label too."""
MILLISECOND = 1e6
"""Nanoseconds in a millisecond. Times in plotly are ms since 1970."""
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
"""Colours by theme and name. Figures refer to a colour by `@name`."""

Attributes = dict[str, object]
"""Attributes of a part of a plotly figure, such as a trace, an axis or the layout."""


class Figure(TypedDict):
    """A plotly figure: its traces, and its layout."""

    data: list[Attributes]
    layout: Attributes


def escape_tags(text: object) -> str:
    """Return a text with `<`, `>` and `&` escaped, because plotly interprets HTML tags.

    Parameters
    ----------
    text : object
        Text that comes from data, such as a symbol or a file name.
    """
    return html.escape(str(text), quote=False)


def pack_numbers(values: NDArray[np.generic], kind: str = "f8") -> dict[str, str]:
    """Return numbers as plotly's base64 array, which is half as long as text and can hold NaN.

    Parameters
    ----------
    values : array
        Numbers of any shape. A matrix is packed row by row.
    kind : str
        Type of each number: f8 (float64), f4 (float32) or u2 (uint16).
    """
    data = np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()
    return {"dtype": kind, "bdata": base64.b64encode(data).decode()}


def resolve_colours(value: object, theme: dict[str, str]) -> object:
    """Return a figure with each colour name, such as `@ink`, replaced by the colour.

    Parameters
    ----------
    value : object
        A figure, or a part of one.
    theme : dict
        Colours by name, such as ``THEMES["light"]``.
    """
    if isinstance(value, dict):
        return {name: resolve_colours(part, theme) for name, part in value.items()}
    if isinstance(value, list):
        return [resolve_colours(part, theme) for part in value]
    return theme.get(value[1:], value) if isinstance(value, str) and value.startswith("@") else value


def axis(title: str = "", **more: object) -> Attributes:
    """Return an axis in the style of the report.

    Parameters
    ----------
    title : str
        Title beside the axis.
    **more : object
        Further attributes of plotly's axis.
    """
    plain: Attributes = {"gridcolor": "@grid", "linecolor": "@axis", "tickcolor": "@axis", "zeroline": False}
    ticks: Attributes = {
        "ticks": "outside",
        "ticklen": 4,
        "automargin": True,
        "title": {"text": title, "standoff": 8},
    }
    return plain | ticks | more


def time_axis(books: BookSeries, **more: object) -> Attributes:
    """Return the time axis of the figures of one instrument.

    If the recording has pauses, the values on the axis are column numbers of the time grid, and the labels
    are times. Otherwise the values are times too.

    Parameters
    ----------
    books : BookSeries
        Books whose time grid the axis shows.
    **more : object
        Further attributes of plotly's axis.
    """
    grid = books.grid
    if len(grid.starts) == 1:
        ends = [grid.starts[0] / MILLISECOND, (grid.starts[0] + grid.count * grid.step) / MILLISECOND]
        return axis("", type="date", range=ends, hoverformat="%Y-%m-%d %H:%M:%S.%L", **more)
    columns = labelled_columns(books)
    texts = [format_time(int(time)) for time in grid.times()[columns]]
    ticks: Attributes = {
        "tickvals": columns.tolist(),
        "ticktext": [f"{text[11:19]}<br>{text[:10]}" for text in texts],
    }
    return axis("", range=[0, grid.count], **ticks, **more)


def labelled_columns(books: BookSeries) -> Integers:
    """Return the columns of the time grid that get a label: the ends of pauses, and some in between.

    Parameters
    ----------
    books : BookSeries
        Books whose time grid the axis shows.
    """
    grid = books.grid
    columns = np.unique(np.append(grid.first, np.linspace(0, grid.count - 1, TICKS).astype(int)))
    is_far = np.diff(columns, append=grid.count) > grid.count / TICKS / 2
    return columns[is_far | np.isin(columns, grid.first)][: 3 * TICKS]


def time_values(books: BookSeries, times: Integers) -> Attributes:
    """Return the attribute `x` of a plotly trace: the positions of times on `time_axis`.

    If the recording has pauses, also return the attribute `text`: the times, which `hover_time` shows.

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
    """Return the part of a plotly hover template that shows the time of a point.

    Parameters
    ----------
    books : BookSeries
        Books whose time grid the axis shows.
    """
    return "%{x|%H:%M:%S.%L}" if len(books.grid.starts) == 1 else "%{text}"


def layout(height: int, **more: object) -> Attributes:
    """Return the layout of a chart in the style of the report.

    Parameters
    ----------
    height : int
        Height, pixels.
    **more : object
        Axes and further attributes of plotly's layout.
    """
    legend: Attributes = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"}
    plain: Attributes = {
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
