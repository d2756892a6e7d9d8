"""Draw the depth map: resting size by price and time in a band around the mid, with trades."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deltabook.jobs.report.books import BookSeries, Floats
from deltabook.jobs.report.figure_style import (
    MILLISECOND,
    Attributes,
    Figure,
    axis,
    hover_time,
    layout,
    pack_numbers,
    time_axis,
    time_values,
)

BAND_LEVELS = 10
"""Default of the parameter `levels`: the band ends at the median distance of this level from the mid."""
BINS = 200
"""Maximum number of price bins."""
MOVES = 2.0
"""If the highest and the lowest mid differ by more band heights than this, prices are relative to the mid."""
COLOUR_SCALE = "Viridis"
"""Colour scale for sizes. It is perceptually uniform and readable without colour vision.

Plotly and matplotlib both know this name.
"""
GROUND, INK, GRID = "#440154", "#f4f4f4", "rgba(255,255,255,0.14)"
"""Colours of the map. GROUND is the low end of the colour scale, and the colour of cells without size."""
BID_COLOUR, ASK_COLOUR, SUSPECT_COLOUR = "#7fd4ff", "#ff9d5c", "#ff6b6b"
_CODES = 65_534
"""Largest difference between two packed sizes, which are 16-bit integers from 1 on."""
_MARKERS = (5.0, 14.0)
"""Smallest possible diameter of a trade's marker, and diameter of the largest trade's marker, in pixels."""


@dataclass(frozen=True)
class DepthMap:
    """Data that a depth map shows.

    Attributes
    ----------
    books : BookSeries
        The sampled books that the map shows.
    base : float64[count]
        Price that is subtracted from the prices of each column: the mid, or 0 if prices are absolute.
    is_relative : bool
        Whether prices are relative to the mid.
    low, width : float
        Lower end of the lowest price bin, and height of a bin, in units of price.
    sizes : float64[bins, count]
        Resting size of each price bin in each column; 0 if there is no size.
    """

    books: BookSeries
    base: Floats
    is_relative: bool
    low: float
    width: float
    sizes: Floats

    @property
    def high(self) -> float:
        """Upper end of the highest price bin."""
        return self.low + self.width * len(self.sizes)

    @property
    def price_title(self) -> str:
        """Title of the price axis: `price`, or `price less mid`."""
        return "price less mid" if self.is_relative else "price"


def measure_depth(books: BookSeries, levels: int = BAND_LEVELS) -> DepthMap:
    """Return the resting size by price and time, in a band around the mid.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument. At least one book must have both sides.
    levels : int
        Level that sets the height of the band. On each side of the mid, the band ends at the median distance
        of this level from the mid.

    Returns
    -------
    DepthMap
        The map. Its prices are usually absolute, from the lowest mid minus the height of the band to the
        highest mid plus the height of the band. If the highest and the lowest mid differ by more than the
        limit `MOVES`, the prices of the map are relative to the mid.
    """
    mids = books.column_mids
    known = mids[np.isfinite(mids)]
    band = _band_height(books, mids, levels)
    is_relative = float(np.ptp(known)) > MOVES * band
    base = mids if is_relative else np.zeros(len(mids))
    low, high = (-band, band) if is_relative else (float(known.min()) - band, float(known.max()) + band)
    tick = _smallest_step(books)
    width = tick * max(np.ceil((high - low) / tick / BINS), 1)
    low -= tick / 2
    sizes = _sum_by_price(books, base, low, width, int((high - low) // width) + 1)
    return DepthMap(books, base, is_relative, low, width, sizes)


def draw_depth(books: BookSeries, levels: int = BAND_LEVELS, is_packed: bool = True) -> tuple[Figure, str]:
    """Return the depth map as a plotly figure, with best prices, trades and shaded suspect periods.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument. At least one book must have both sides.
    levels : int
        Level that sets the height of the band around the mid, as in `measure_depth`.
    is_packed : bool
        True: pack sizes as integers, which the script of the report's page decodes. False: give plain
        numbers, which plotly reads.

    Returns
    -------
    (Figure, str)
        The figure, and the title of its price axis. If prices are relative to the mid, a second panel shows
        the mid and the trades at absolute prices.
    """
    depth = measure_depth(books, levels)
    edges = _column_edges(books)
    data = [_draw_heat(depth, edges, is_packed), *_draw_best(depth)]
    data += [trades | {"yaxis": "y2" if depth.is_relative else "y"} for trades in _draw_trades(books)]
    view = [depth.low, depth.high]
    own: Attributes = {"gridcolor": GRID, "tickformat": ",~g"}
    time = time_axis(books) | {"gridcolor": GRID}
    price = axis(depth.price_title, range=view) | own
    axes = {"xaxis": time, "yaxis": price}
    if depth.is_relative:
        data.append(_draw_mid(books))
        time["anchor"] = "y2"
        price["domain"] = [0.42, 1]
        axes["yaxis2"] = axis("mid", domain=[0, 0.36]) | own
    common: Attributes = {"showlegend": False, "shapes": _draw_stretches(books, edges)}
    common |= {"plot_bgcolor": GROUND}
    figure: Figure = {"data": data, "layout": layout(540 if depth.is_relative else 440, **common, **axes)}
    return figure, depth.price_title


def _band_height(books: BookSeries, mids: Floats, levels: int) -> float:
    """Return the median distance of level `levels` from the mid, over both sides and all columns.

    If a side has fewer levels, its deepest level counts.
    """
    distances = np.concatenate(
        [
            np.nanmax(np.abs(prices[:, :levels] - mids[:, None]), axis=1, initial=0)
            for prices in (books.bid_prices, books.ask_prices)
        ]
    )
    is_known = np.concatenate([np.isfinite(mids)] * 2)
    return float(np.median(distances[is_known])) or _smallest_step(books)


def _smallest_step(books: BookSeries) -> float:
    """Return the smallest difference between two prices of the books, an estimate of the tick."""
    prices = np.concatenate([books.bid_prices.ravel(), books.ask_prices.ravel()])
    steps = np.diff(np.unique(prices[np.isfinite(prices)]))
    largest = float(np.nanmax(np.abs(prices)))
    steps = steps[steps > 1e-9 * largest]
    return float(steps.min()) if len(steps) else largest * 1e-4 or 1.0


def _sum_by_price(books: BookSeries, base: Floats, low: float, width: float, bins: int) -> Floats:
    """Return the sum of the sizes in each price bin and column, as float64[bins, count].

    `bins` is the number of price bins. `base`, `low` and `width` are as in `DepthMap`.
    """
    sums = np.zeros((bins, len(base)))
    for prices, sizes in ((books.bid_prices, books.bid_sizes), (books.ask_prices, books.ask_sizes)):
        rows = np.floor((prices - base[:, None] - low) / width)
        is_shown = np.isfinite(rows) & (rows >= 0) & (rows < bins)
        columns = np.broadcast_to(np.arange(len(base))[:, None], rows.shape)
        np.add.at(sums, (rows[is_shown].astype(int), columns[is_shown]), sizes[is_shown])
    return sums


def _column_edges(books: BookSeries) -> Floats:
    """Return the start of each column and the end of the last column, as values on `time_axis`."""
    grid = books.grid
    columns = np.arange(grid.count + 1)
    is_continuous = len(grid.starts) == 1
    return (grid.starts[0] + columns * grid.step) / MILLISECOND if is_continuous else columns.astype(float)


def _draw_heat(depth: DepthMap, edges: Floats, is_packed: bool) -> Attributes:
    books = depth.books
    values = time_values(books, books.grid.times())
    bar: Attributes = {"title": {"text": "size", "side": "top"}, "thickness": 10}
    bar |= {"outlinewidth": 0, "x": 1.01}
    trace: Attributes = {
        "type": "heatmap",
        "x": pack_numbers(edges),
        "y0": depth.low + depth.width / 2,
        "dy": depth.width,
        "colorscale": COLOUR_SCALE,
        "hovertemplate": hover_time(books) + "<br>%{y}<br>resting %{customdata:.6~g}<extra></extra>",
        "showscale": True,
        "colorbar": bar,
    }
    texts = {name: value for name, value in values.items() if name == "text"}
    if is_packed:
        return trace | {"packed": _pack_sizes(depth.sizes) | texts}
    low, high = colour_range(depth.sizes)
    decades = np.arange(np.ceil(low), np.floor(high) + 1)
    bar |= {"tickvals": decades.tolist(), "ticktext": [f"{10**power:g}" for power in decades]}
    with np.errstate(divide="ignore"):
        logs = np.where(depth.sizes > 0, np.log10(depth.sizes), np.nan)
    trace |= {"z": logs, "customdata": depth.sizes, "zmin": low, "zmax": max(high, low + 1e-6)}
    if "text" in texts:
        trace["text"] = [texts["text"]] * len(depth.sizes)
    return trace


def colour_range(sizes: Floats) -> tuple[float, float]:
    """Return log10 of the sizes at both ends of the colour scale: the 5 % and 99.5 % quantiles.

    Parameters
    ----------
    sizes : float64[...]
        Resting sizes; 0 stands for no size.
    """
    logs = np.log10(sizes[sizes > 0]) if (sizes > 0).any() else np.zeros(1)
    low, high = np.quantile(logs, [0.05, 0.995]).tolist()
    return low, high


def _pack_sizes(sizes: Floats) -> Attributes:
    """Return sizes packed as 16-bit integers, which the script of the report's page decodes.

    The code 0 means no size. A code c above 0 means the size ``10 ** ((c - 1) / scale + low)``. `ends` has
    log10 of the sizes at both ends of the colour scale.
    """
    is_present = sizes > 0
    logs = np.log10(sizes, where=is_present, out=np.zeros_like(sizes))
    known = logs[is_present] if is_present.any() else np.zeros(1)
    low, high = float(known.min()), float(known.max())
    scale = _CODES / max(high - low, 1e-9)
    codes = np.where(is_present, np.rint((logs - low) * scale) + 1, 0)
    numbers: Attributes = {
        "columns": sizes.shape[1],
        "low": low,
        "scale": scale,
        "ends": list(colour_range(sizes)),
    }
    return pack_numbers(codes, "u2") | numbers


def _draw_best(depth: DepthMap) -> list[Attributes]:
    books = depth.books
    sides = (("best ask", books.ask_prices, ASK_COLOUR), ("best bid", books.bid_prices, BID_COLOUR))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "y": pack_numbers(prices[:, 0] - depth.base),
            "line": {"color": colour, "width": 1.4, "shape": "hv"},
            "hovertemplate": f"{hover_time(books)}<br>{name} %{{y}}<extra></extra>",
            **time_values(books, books.grid.times()),
        }
        for name, prices, colour in sides
    ]


def _draw_mid(books: BookSeries) -> Attributes:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "mid",
        "y": pack_numbers(books.column_mids),
        "yaxis": "y2",
        "line": {"color": INK, "width": 1.2},
        "hovertemplate": f"{hover_time(books)}<br>mid %{{y}}<extra></extra>",
        **time_values(books, books.grid.times()),
    }


def _draw_trades(books: BookSeries) -> list[Attributes]:
    trades = books.trades
    if not len(trades.times):
        return []
    share = trades.sizes / max(float(trades.sizes.max()), 1e-300)
    diameters = _MARKERS[0] + (_MARKERS[1] - _MARKERS[0]) * np.sqrt(share)
    traces: list[Attributes] = []
    for name, chosen, colour, symbol in (
        ("buy", trades.is_buy, BID_COLOUR, "triangle-up"),
        ("sell", ~trades.is_buy, ASK_COLOUR, "triangle-down"),
    ):
        look = {"symbol": symbol, "color": colour, "line": {"color": GROUND, "width": 0.7}}
        hover = f"{hover_time(books)}<br>{name} %{{customdata:.8~g}} at %{{y}}<extra></extra>"
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "y": pack_numbers(trades.prices[chosen]),
                "customdata": pack_numbers(trades.sizes[chosen]),
                "marker": look | {"size": pack_numbers(diameters[chosen], "f4")},
                "hovertemplate": hover,
                **time_values(books, trades.times[chosen]),
            }
        )
    return traces


def list_suspect_columns(books: BookSeries) -> list[tuple[int, int]]:
    """Return the stretches of columns with a suspect book, as (first column, column after the last).

    Parameters
    ----------
    books : BookSeries
        Books of one instrument.
    """
    ends = np.flatnonzero(np.diff(books.is_suspect, prepend=False, append=False)).reshape(-1, 2)
    return [(start, end) for start, end in ends.tolist()]


def _draw_stretches(books: BookSeries, edges: Floats) -> list[Attributes]:
    """Return plotly shapes: a shade behind suspect columns, and a line at each pause that was cut out."""
    whole: Attributes = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    shade = whole | {"type": "rect", "fillcolor": SUSPECT_COLOUR, "opacity": 0.3, "line": {"width": 0}}
    mark = whole | {"type": "line", "line": {"color": INK, "width": 1, "dash": "dot"}}
    shades = [shade | {"x0": edges[start], "x1": edges[end]} for start, end in list_suspect_columns(books)]
    pauses = books.grid.first[1:].tolist()
    return shades + [mark | {"x0": edges[column], "x1": edges[column]} for column in pauses]
