"""The command `plot`: write the depth map of one symbol as an HTML page or an image. Starts no Spark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from deltabook.jobs.console.formats import format_time, parse_time
from deltabook.jobs.report.books import LEVELS, BookSeries, read_books, read_trades
from deltabook.jobs.report.data_files import WHOLE, DataFile, Period, list_data_files
from deltabook.jobs.report.depth import BAND_LEVELS, draw_depth
from deltabook.jobs.report.figure_style import THEMES, escape_tags, resolve_colours
from deltabook.jobs.tables.instrument_lookup import find_instrument
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.tables import BOOKS, EVENTS, form_of
from deltabook.udfs.storage.locations import parse_location

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

IMAGE_FORMATS = (".png", ".svg", ".pdf")
"""Extensions of the image files that deltabook writes with matplotlib."""
_PAGE_FORMATS = (".html", ".htm")
_PAGE_HEIGHT = 720


class PlotResult(TypedDict):
    """Result of `write_plot`: `plot` is the path of the written file, and `bytes` is its size."""

    plot: str
    bytes: int


def depth_figure(
    warehouse: Path | str,
    symbol: str,
    start: int | str | None = None,
    end: int | str | None = None,
    exchange: str | None = None,
    levels: int = BAND_LEVELS,
    known_only: bool = False,
) -> Figure:
    """Return the depth map of a symbol as an interactive plotly figure.

    The map shows the resting size by price and time in a band around the mid, the best prices, the largest
    trades, and periods in which the book is suspect.

    Parameters
    ----------
    warehouse : Path or str
        Folder of the tables. Their published versions are read.
    symbol : str
        Symbol as in the tables, such as BTC-USDT.
    start, end : int, str or None
        Start (inclusive) and end (exclusive): ns since 1970 UTC, or text that `parse_time` reads. None: no
        bound.
    exchange : str, optional
        Exchange of the symbol. It is required if several exchanges list the symbol.
    levels : int
        Level that sets the height of the band. On each side of the mid, the band ends at the median distance
        of this level from the mid.
    known_only : bool
        Whether books are cut to their known levels.

    Returns
    -------
    plotly.graph_objects.Figure
        Interactive figure. ``figure.show()`` draws it in a notebook, ``figure.write_html(path)`` writes a
        page.

    Raises
    ------
    WarehouseError
        If the warehouse has no published tables, the symbol does not exist, or the symbol has no books in the
        period.

    Examples
    --------
    >>> depth_figure("books", "BTC-USDT", "2024-08-08T23:55Z", "2024-08-08T23:57Z")  # doctest: +SKIP
    """
    from plotly.graph_objects import Figure  # takes a second to import

    bounds = [parse_time(time) if isinstance(time, str) else time for time in (start, end)]
    books, title = read_symbol_books(
        parse_location(warehouse), symbol, (bounds[0], bounds[1]), exchange, levels, known_only
    )
    figure, _ = draw_depth(books, levels, is_packed=False)
    theme = THEMES["light"]
    drawn = Figure(resolve_colours(figure, theme))
    margins = {"l": 8, "r": 8, "t": 48, "b": 8}
    drawn.update_layout(
        title=escape_tags(title), height=_PAGE_HEIGHT, margin=margins, paper_bgcolor=theme["paper"]
    )
    return drawn


def write_plot(
    warehouse: Path,
    symbol: str,
    out: Path,
    period: Period = WHOLE,
    exchange: str | None = None,
    levels: int = BAND_LEVELS,
    known_only: bool = False,
) -> PlotResult:
    """Write the depth map of a symbol to a file.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables. Their published versions are read.
    symbol : str
        Symbol as in the tables.
    out : Path
        File to write. Its extension chooses the format: .html, .png, .svg or .pdf. Its folder is created.
    period : (int or None, int or None)
        Start (inclusive) and end (exclusive), ns since 1970 UTC.
    exchange : str, optional
        Exchange of the symbol. It is required if several exchanges list the symbol.
    levels : int
        Level that sets the height of the band around the mid, as in `depth_figure`.
    known_only : bool
        Whether books are cut to their known levels.

    Raises
    ------
    SettingsError
        If the extension is not supported, or an image is requested without matplotlib.
    WarehouseError
        As in `depth_figure`.
    """
    extension = out.suffix.lower()
    if extension not in (*_PAGE_FORMATS, *IMAGE_FORMATS):
        raise SettingsError(f"--out {out}: expected a file that ends in .html, {', '.join(IMAGE_FORMATS)}")
    if extension in _PAGE_FORMATS:
        figure = depth_figure(warehouse, symbol, *period, exchange, levels, known_only)
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.write_html(out, include_plotlyjs=True, div_id="depth", config={"displaylogo": False})
    else:
        try:
            from deltabook.jobs.report.depth_image import write_depth_image  # imports matplotlib
        except ImportError:
            raise SettingsError(
                f"--out {out}: images need matplotlib: run `pip install 'deltabook[plot]'`, or choose a file "
                "that ends in .html"
            ) from None
        books, title = read_symbol_books(warehouse, symbol, period, exchange, levels, known_only)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_depth_image(books, levels, title, out)
    return {"plot": str(out), "bytes": out.stat().st_size}


def read_symbol_books(
    warehouse: Path,
    symbol: str,
    period: Period,
    exchange: str | None,
    levels: int,
    known_only: bool = False,
) -> tuple[BookSeries, str]:
    """Return the books and largest trades of a symbol within a period, and a title for their figure.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    symbol : str
        Symbol as in the tables.
    period : (int or None, int or None)
        Start (inclusive) and end (exclusive), ns since 1970 UTC.
    exchange : str or None
        Exchange of the symbol. It is required if several exchanges list the symbol.
    levels : int
        Number of levels per side to read; at least `LEVELS` are read.
    known_only : bool
        Whether books are cut to their known levels.

    Raises
    ------
    WarehouseError
        If the period has no book with both sides. The message states the period for which books exist.
    """
    instrument = find_instrument(warehouse, symbol, exchange)
    stored = TableReader(warehouse.absolute(), require_published(warehouse))
    key = (instrument["exchange"], instrument["symbol"])
    name = " ".join(key)
    files: dict[str, list[DataFile]] = {}
    for table in (BOOKS, EVENTS):
        files[table.name] = list_data_files(stored, form_of(table, instrument["is_decimal"])).get(key, [])
    if not files[BOOKS.name]:
        raise WarehouseError(f"{name} has no books yet: run `deltabook reconstruct`")
    books = read_books(files[BOOKS.name], instrument, period, max(levels, LEVELS), known_only)
    if books is None or not np.isfinite(books.column_mids).any():
        first = min(file.first for file in files[BOOKS.name])
        last = max(file.last for file in files[BOOKS.name])
        raise WarehouseError(
            f"{name} has no book with both sides in that time: its books run from {format_time(first)} to "
            f"{format_time(last)}"
        )
    books.trades = read_trades(files[EVENTS.name], instrument, period)
    first, last = int(books.grid.starts[0]), int(books.grid.ends[-1])
    return books, f"{name}, {format_time(first)[:19]}Z to {format_time(last)[:19]}Z"
