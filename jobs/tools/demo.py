"""Captures and query of the command `demo`: two simulated markets as Binance files."""

from __future__ import annotations

import gzip
from pathlib import Path

from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

MESSAGES = 3000
"""Depth messages per symbol: five minutes at 100 ms."""

QUERY = (
    "SELECT symbol, time, bid_size, bid_price, ask_price, ask_size, status "
    "FROM book ORDER BY time DESC, symbol LIMIT 4"
)
"""The query at the end of the demo."""


def write_captures(folder: Path, messages: int = MESSAGES, seed: int = 7) -> list[Path]:
    """Write the captures of two simulated symbols: diffs, trades, tickers, a REST snapshot, true books.

    Parameters
    ----------
    folder : Path
        Folder of the files; created if missing.
    messages : int
        Depth messages per symbol.
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
