"""Draw the depth map as an image with matplotlib (`pip install 'deltabook[plot]'`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from deltabook.jobs.console.formats import format_time
from deltabook.jobs.report.books import BookSeries
from deltabook.jobs.report.depth import (
    ASK_COLOUR,
    BID_COLOUR,
    COLOUR_SCALE,
    GROUND,
    INK,
    SUSPECT_COLOUR,
    DepthMap,
    colour_range,
    list_suspect_columns,
    measure_depth,
)
from deltabook.jobs.report.figure_style import labelled_columns
from deltabook.jobs.report.time_grid import Integers

_INCHES, _DPI = (12.0, 6.75), 150
_MARKERS = (10.0, 90.0)  # areas of the markers of the smallest and the largest trade, square points


def write_depth_image(books: BookSeries, levels: int, title: str, out: Path) -> None:
    """Write the depth map of some books as an image, in the format that the file's extension names.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument. At least one book must have both sides.
    levels : int
        Level that sets the height of the band around the mid, as in `depth.measure_depth`.
    title : str
        Title above the map.
    out : Path
        File to write, such as depth.png.
    """
    depth = measure_depth(books, levels)
    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    if depth.is_relative:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        lower.plot(_edges(books)[:-1], books.column_mids, color=INK, linewidth=1)
        lower.set_ylabel("mid")
        lower.set_facecolor(GROUND)
    else:
        upper = lower = figure.subplots()
    _draw_heat(figure, upper, depth)
    _draw_trades(lower, books)
    for axes in {upper, lower}:
        _draw_stretches(axes, books)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    upper.set_ylim(depth.low, depth.high)
    upper.set_title(title, loc="left", fontsize=11)
    _label_times(lower, books)
    figure.savefig(out)


def _edges(books: BookSeries) -> Integers:
    """Return the edges of the columns on the x axis, whose unit is one column: 0, 1, 2 and so on."""
    return np.arange(books.grid.count + 1, dtype=np.int64)


def _draw_heat(figure: Figure, axes: Axes, depth: DepthMap) -> None:
    books = depth.books
    low, high = colour_range(depth.sizes)
    prices = depth.low + depth.width * np.arange(len(depth.sizes) + 1)
    sizes = np.ma.masked_less_equal(depth.sizes, 0)
    norm = LogNorm(10**low, 10 ** max(high, low + 1e-6))
    heat = axes.pcolormesh(
        _edges(books), prices, sizes, cmap=COLOUR_SCALE.lower(), norm=norm, rasterized=True
    )
    figure.colorbar(heat, ax=axes, label="size", pad=0.01)
    for name, best, colour in (
        ("best ask", books.ask_prices, ASK_COLOUR),
        ("best bid", books.bid_prices, BID_COLOUR),
    ):
        line = best[:, 0] - depth.base
        axes.step(_edges(books)[:-1], line, where="post", color=colour, linewidth=1, label=name)
    axes.set_facecolor(GROUND)
    axes.set_ylabel(depth.price_title)
    axes.set_xlim(0, books.grid.count)
    axes.legend(loc="upper left", fontsize=8, labelcolor=INK, facecolor=GROUND, framealpha=0.7)


def _draw_trades(axes: Axes, books: BookSeries) -> None:
    """Draw the largest trades as triangles (up: buy, down: sell) whose area grows with the size."""
    trades = books.trades
    if not len(trades.times):
        return
    areas = _MARKERS[0] + (_MARKERS[1] - _MARKERS[0]) * trades.sizes / max(float(trades.sizes.max()), 1e-300)
    columns = books.grid.steps(trades.times) + 0.5
    for chosen, marker, colour in ((trades.is_buy, "^", BID_COLOUR), (~trades.is_buy, "v", ASK_COLOUR)):
        axes.scatter(
            columns[chosen],
            trades.prices[chosen],
            areas[chosen],
            color=colour,
            marker=marker,
            edgecolors=GROUND,
            linewidths=0.5,
        )


def _draw_stretches(axes: Axes, books: BookSeries) -> None:
    """Shade the columns with a suspect book, and mark the pauses that were cut out."""
    for start, end in list_suspect_columns(books):
        axes.axvspan(start, end, color=SUSPECT_COLOUR, alpha=0.3, zorder=0, linewidth=0)
    for column in books.grid.first[1:].tolist():
        axes.axvline(column, color=INK, linewidth=0.8, linestyle=":")


def _label_times(axes: Axes, books: BookSeries) -> None:
    """Label columns with their time (UTC). The first label of each date has the date too."""
    columns = labelled_columns(books)
    texts, date = [], ""
    for time in books.grid.times()[columns].tolist():
        text = format_time(time)
        texts.append(text[11:19] + ("" if text[:10] == date else f"\n{text[:10]}"))
        date = text[:10]
    axes.set_xticks(columns, texts)
    axes.set_xlabel("UTC")
