"""Make simulated captures for tests, parse or select their lines, and write lines to files."""

import gzip
import json
from functools import cache
from pathlib import Path

from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market


@cache
def simulated_lines(messages: int = 120, market_type: str = "spot", symbol: str = "BTCUSDT", seed: int = 3):
    """Lines of a short capture; the same call gives the same lines."""
    return tuple(capture_lines(Market(seed), messages, symbol, market_type=market_type))


def message_of(line: bytes) -> dict:
    message = json.loads(line.split(b" ", 1)[1])
    return message.get("data", message)


def is_depth(line: bytes) -> bool:
    return b"@depth@" in line[:80]


def depth_rows(lines) -> list[int]:
    """Indices of the diffs."""
    return [row for row, line in enumerate(lines) if is_depth(line)]


def write(path: Path, lines, *, compress: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(lines)
    path.write_bytes(gzip.compress(data, 1, mtime=0) if compress else data)
    return path


def with_wrong_tickers(lines, every: int) -> list[bytes]:
    """The lines, with another size of the best bid in one of `every` tickers."""
    changed, tickers = [], 0
    for line in lines:
        if b"@bookTicker" in line[:80]:
            tickers += 1
            if tickers % every == 0:
                line = line.replace(b'"B":"', b'"B":"1')
        changed.append(line)
    return changed
