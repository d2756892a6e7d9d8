"""The report's depth map: resting size by price and time, best prices, trades, suspect stretches."""

from __future__ import annotations

from typing import Any

import numpy as np

from deltabook.jobs.report.books import Books, Floats
from deltabook.jobs.report.figures import MILLISECOND, Figure, axis, clock_axis, layout, packed, time_of, when

BINS = 200
"""Rows of price at most."""
FAR = 25.0
"""If mid goes further than so many times the depth that is known, prices are drawn relative to it."""
_CODES = 65_534
_MARKERS = (5.0, 14.0)


def depth_map(books: Books) -> tuple[Figure, str]:
    """Draw resting size by price and time, with the best prices, trades and suspect stretches.

    Parameters
    ----------
    books : Books
        Of one instrument, with at least one book that has both sides.

    Returns
    -------
    (dict, str)
        The figure, and `price`; or `price less mid` if the mid went far beyond the depth that is known: then
        the mid is drawn below, with the trades.
    """
    mids = books.column_mids
    known = mids[np.isfinite(mids)]
    deepest = (
        np.nanmin(books.bid_prices, axis=1, initial=np.inf),
        np.nanmax(books.ask_prices, axis=1, initial=0),
    )
    depth = float(np.median((deepest[1] - deepest[0])[np.isfinite(mids)]))
    is_relative = float(np.ptp(known)) > FAR * depth
    base = mids if is_relative else np.zeros(len(mids))
    low = _end(books.bid_prices[:, 0] - base, deepest[0] - base, 0.002, 0.05, min)
    high = _end(books.ask_prices[:, 0] - base, deepest[1] - base, 0.998, 0.95, max)
    tick = _tick(books)
    width = tick * max(np.ceil((high - low) / tick / BINS), 1)
    low -= tick / 2
    sizes = _by_price(books, base, low, width, int((high - low) // width) + 1)
    edges = _edges(books)
    data = [_heat(books, sizes, edges) | {"y0": low + width / 2, "dy": width}, *_best(books, base)]
    data += [trades | {"yaxis": "y2" if is_relative else "y"} for trades in _trades(books)]
    view = [low, low + width * len(sizes)]
    axes = {
        "xaxis": clock_axis(books),
        "yaxis": axis("price", tickformat=",~g", range=view),
    }
    if is_relative:
        data.append(_mid(books))
        axes["xaxis"]["anchor"] = "y2"
        axes["yaxis"] = axis("price less mid", domain=[0.42, 1], tickformat=",~g", range=view)
        axes["yaxis2"] = axis("mid", domain=[0, 0.36], tickformat=",~g")
    drawn = layout(540 if is_relative else 440, showlegend=False, shapes=_shapes(books, edges), **axes)
    return {"data": data, "layout": drawn}, "price less mid" if is_relative else "price"


def _end(best: Floats, deepest: Floats, all_but: float, most: float, further: Any) -> float:
    """Choose an end of the prices shown: all but a few of the best with their depth, most of the deepest."""
    known = np.isfinite(best)
    best, deepest = best[known], deepest[known]
    of_best = np.quantile(best, all_but) - np.median(best - deepest)
    return float(further(of_best, np.quantile(deepest, most)))


def _tick(books: Books) -> float:
    prices = np.concatenate([books.bid_prices.ravel(), books.ask_prices.ravel()])
    steps = np.diff(np.unique(prices[np.isfinite(prices)]))
    largest = float(np.nanmax(np.abs(prices)))
    steps = steps[steps > 1e-9 * largest]
    return float(steps.min()) if len(steps) else largest * 1e-4 or 1.0


def _by_price(books: Books, base: Floats, low: float, width: float, bins: int) -> Floats:
    """Sum sizes by bin of price and column of time."""
    sizes = np.zeros((bins, len(base)))
    for prices, amounts in ((books.bid_prices, books.bid_sizes), (books.ask_prices, books.ask_sizes)):
        places = np.floor((prices - base[:, None] - low) / width)
        known = np.isfinite(places) & (places >= 0) & (places < bins)
        columns = np.broadcast_to(np.arange(len(base))[:, None], places.shape)
        np.add.at(sizes, (places[known].astype(int), columns[known]), amounts[known])
    return sizes


def _edges(books: Books) -> Floats:
    """Return where columns begin, and the last one ends, on `clock_axis`."""
    clock = books.clock
    columns = np.arange(clock.count + 1)
    is_plain = len(clock.starts) == 1
    return (clock.starts[0] + columns * clock.step) / MILLISECOND if is_plain else columns.astype(float)


def _heat(books: Books, sizes: Floats, edges: Floats) -> dict[str, Any]:
    texts = {key: value for key, value in when(books, books.clock.times()).items() if key == "text"}
    look = {"title": {"text": "size", "side": "top"}, "thickness": 10, "outlinewidth": 0, "x": 1.01}
    return {
        "type": "heatmap",
        "x": packed(edges),
        "packed": _coded(sizes) | texts,
        "colorscale": [[0, "@low"], [0.5, "@middle"], [1, "@high"]],
        "hovertemplate": time_of(books) + "<br>%{y}<br>resting %{customdata:.6~g}<extra></extra>",
        "showscale": True,
        "colorbar": look,
    }


def _coded(sizes: Floats) -> dict[str, Any]:
    """Write sizes as the logarithm in two bytes a cell; 0: none. The page's script turns them back.

    `ends`: between which colours change.
    """
    is_there = sizes > 0
    logs = np.log10(sizes, where=is_there, out=np.zeros_like(sizes))
    known = logs[is_there] if is_there.any() else np.zeros(1)
    low, high = float(known.min()), float(known.max())
    scale = _CODES / max(high - low, 1e-9)
    codes = np.where(is_there, np.rint((logs - low) * scale) + 1, 0)
    ends = np.quantile(known, [0.05, 0.995]).tolist()
    return packed(codes, "u2") | {"columns": sizes.shape[1], "low": low, "scale": scale, "ends": ends}


def _best(books: Books, base: Floats) -> list[dict[str, Any]]:
    sides = (("best ask", books.ask_prices, "@ask"), ("best bid", books.bid_prices, "@bid"))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "y": packed(prices[:, 0] - base),
            "line": {"color": colour, "width": 1.4, "shape": "hv"},
            "hovertemplate": f"{time_of(books)}<br>{name} %{{y}}<extra></extra>",
            **when(books, books.clock.times()),
        }
        for name, prices, colour in sides
    ]


def _mid(books: Books) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "y": packed(books.column_mids),
        "yaxis": "y2",
        "line": {"color": "@ink", "width": 1.2},
        "hovertemplate": f"{time_of(books)}<br>mid %{{y}}<extra></extra>",
        **when(books, books.clock.times()),
    }


def _trades(books: Books) -> list[dict[str, Any]]:
    trades = books.trades
    if not len(trades.times):
        return []
    share = trades.sizes / max(float(trades.sizes.max()), 1e-300)
    diameters = _MARKERS[0] + (_MARKERS[1] - _MARKERS[0]) * np.sqrt(share)
    found = []
    for name, chosen, colour, symbol in (
        ("buy", trades.is_buy, "@buy", "triangle-up"),
        ("sell", ~trades.is_buy, "@sell", "triangle-down"),
    ):
        look = {"symbol": symbol, "color": colour, "line": {"color": "@paper", "width": 0.7}}
        hover = f"{time_of(books)}<br>{name} %{{customdata:.8~g}} at %{{y}}<extra></extra>"
        found.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "y": packed(trades.prices[chosen]),
                "customdata": packed(trades.sizes[chosen]),
                "marker": look | {"size": packed(diameters[chosen], "f4")},
                "hovertemplate": hover,
                **when(books, trades.times[chosen]),
            }
        )
    return found


def _shapes(books: Books, edges: Floats) -> list[dict[str, Any]]:
    """Shade stretches of columns that have suspect rows, and mark the pauses that were left out."""
    ends = np.flatnonzero(np.diff(books.is_suspect, prepend=False, append=False)).reshape(-1, 2)
    whole = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    shade = whole | {"type": "rect", "fillcolor": "@suspect", "opacity": 0.22, "line": {"width": 0}}
    mark = whole | {"type": "line", "line": {"color": "@axis", "width": 1, "dash": "dot"}}
    shades = [shade | {"x0": edges[start], "x1": edges[end]} for start, end in ends.tolist()]
    return shades + [mark | {"x0": edges[at], "x1": edges[at]} for at in books.clock.first[1:].tolist()]
