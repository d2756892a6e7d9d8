"""Read one exported file with the library that users of its format use. Usage: python readers.py READER ….

The script runs in the Python that has this library.
"""

from __future__ import annotations

import json
import sys

READERS = {}


def reader(function):
    READERS[function.__name__] = function
    return function


@reader
def hftbacktest(path: str, tick: str, lot: str) -> dict:
    """Its validator, and its book after the last event."""
    import numpy as np
    from hftbacktest import BUY_EVENT, BacktestAsset, HashMapMarketDepthBacktest
    from hftbacktest.data import validate_event_order
    from hftbacktest.types import event_dtype

    events = np.load(path)["data"]
    assert events.dtype == event_dtype
    validate_event_order(events)
    asset = BacktestAsset().data([path]).linear_asset(1.0).constant_order_latency(0, 0)
    asset.risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
    backtest = HashMapMarketDepthBacktest([asset.tick_size(float(tick)).lot_size(float(lot))])
    assert backtest._goto_end() in (0, 1)
    depth = backtest.depth(0)
    held = depth.snapshot()
    rows, is_bid = held.copy(), (held["ev"] & BUY_EVENT) > 0
    depth.snapshot_free(held)
    ticks = np.rint(rows["px"] / float(tick)).astype(np.int64)
    sides = [
        dict(zip(ticks[which].tolist(), rows["qty"][which].tolist(), strict=True))
        for which in (is_bid, ~is_bid)
    ]
    return {"rows": len(events), "bids": sides[0], "asks": sides[1]}


@reader
def lakeapi(address: str) -> dict:
    """What it makes of a file that it has fetched."""
    from lakeapi.main import _download_one

    frame = _download_one(None, address, "nobody")
    times = [frame[name].astype("int64").tolist() for name in ("origin_time", "received_time")]
    levels = frame.drop(columns=["origin_time", "received_time", "sequence_number"])
    return {
        "columns": list(frame.columns),
        "rows": [*zip(*times, frame["sequence_number"].tolist(), levels.values.tolist(), strict=True)],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(READERS[sys.argv[1]](*sys.argv[2:])) + "\n")
