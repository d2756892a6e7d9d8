"""Write the captures of the command `demo`: two simulated markets in Binance's format."""

from __future__ import annotations

import gzip
from pathlib import Path

from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

MESSAGES = 3000
"""Default number of depth messages (book updates) per symbol: five minutes with one message every 100 ms."""

QUERY = (
    "SELECT symbol, time, bid_size, bid_price, ask_price, ask_size, status "
    "FROM book ORDER BY time DESC, symbol LIMIT 4"
)
"""The SQL query that the demo runs at its end."""


def write_captures(folder: Path, messages: int = MESSAGES, seed: int = 7) -> list[Path]:
    """Write capture files of two simulated symbols, and return their paths.

    A file has book updates, trades, tickers, a REST snapshot, and true books with which rebuilt books are
    compared.

    Parameters
    ----------
    folder : Path
        Folder for the files. It is created if it does not exist.
    messages : int
        Number of depth messages (book updates) per symbol.
    seed : int
        Seed of the simulation; the same seed gives the same bytes.

    Returns
    -------
    list of Path
        One gzip file per symbol.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for offset, (symbol, mid) in enumerate((("BTCUSDT", 6_183_763), ("ETHUSDT", 264_512))):
        market = Market(seed + offset, starting_mid=mid)
        path = folder / f"{symbol.lower()}_20240808.gz"
        with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as out:
            for line in capture_lines(market, messages, symbol):
                out.write(line)
        paths.append(path)
    return paths
