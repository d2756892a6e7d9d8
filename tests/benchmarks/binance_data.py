"""Write Binance USD-M captures with the same level changes as the simulated Crypto Lake files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from lake_data import HOUR_NANOSECONDS, LOTS, START, TICKS
from level_changes import LevelChanges
from structures import ranks

FIRST_ID = 1_000


def write_capture(path: Path, changes: LevelChanges, symbol: str) -> None:
    """Write a gzip capture of an hour: a REST snapshot, then a diff and a ticker a message.

    The last id of message i is ``FIRST_ID + 10 * i``; the tickers are the exchange's own best prices.
    """
    step, _ = ranks(changes, 1)
    prices, sizes = step(0, changes.messages)
    text = {"p": [f"{price / TICKS:.2f}" for price in changes.prices.tolist()]}
    text["s"] = [f"{size / LOTS:.5f}" for size in changes.sizes.tolist()]
    offsets = changes.offsets.tolist()
    bids = np.add.reduceat(changes.is_bid, changes.offsets[:-1], dtype=np.int64).tolist()
    span = HOUR_NANOSECONDS // (changes.messages + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(".partial")
    with gzip.open(partial, "wb", compresslevel=1) as file:
        for index in range(changes.messages):
            start, middle, end = offsets[index], offsets[index] + bids[index], offsets[index + 1]
            b, a = (_levels(text, *bounds) for bounds in ((start, middle), (middle, end)))
            time = START + index * span
            clock, last = time // 1_000_000, FIRST_ID + 10 * index
            if index == 0:
                body = f'{{"lastUpdateId":{last},"E":{clock},"T":{clock},"bids":[{b}],"asks":[{a}]}}'
            else:
                body = (
                    f'{{"stream":"{symbol.lower()}@depth@0ms","data":{{"e":"depthUpdate","E":{clock},"T":{clock},'
                    f'"s":"{symbol}","U":{last - 9},"u":{last},"pu":{last - 10},"b":[{b}],"a":[{a}]}}}}'
                )
            file.write(f"{time} {body}\n".encode())
            if index:
                (bid, ask), (bid_size, ask_size) = (
                    [side[index] for side in part] for part in (prices, sizes)
                )
                line = (
                    f'{time} {{"stream":"{symbol.lower()}@bookTicker","data":{{"e":"bookTicker","u":{last},'
                    f'"s":"{symbol}","b":"{bid / TICKS:.2f}","B":"{bid_size / LOTS:.5f}",'
                    f'"a":"{ask / TICKS:.2f}","A":"{ask_size / LOTS:.5f}","T":{clock},"E":{clock}}}}}\n'
                )
                file.write(line.encode())
    partial.rename(path)


def _levels(text: dict[str, list[str]], start: int, end: int) -> str:
    pairs = zip(text["p"][start:end], text["s"][start:end], strict=True)
    return ",".join(f'["{price}","{size}"]' for price, size in pairs)
