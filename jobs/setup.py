"""The last step of an install: fetch Delta's JARs and compile the kernels, so that the first run need not."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.jobs.demo import write_captures
from deltabook.jobs.session import spark_session
from deltabook.jobs.settings import load_settings
from deltabook.schemas.feeds import feed_of
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import Writing
from deltabook.udfs.decimals import DEFAULT_SCALE
from deltabook.udfs.epochs import epochs_of
from deltabook.udfs.numbers import Scaled
from deltabook.udfs.ordering import order_hour
from deltabook.udfs.rebuild import Opening, Rebuilder
from deltabook.udfs.simulator import crypto_lake, kraken, tardis
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.times import off_the_rise

_MESSAGES = 20


def compile_kernels(folder: Path) -> None:
    """Take short simulated captures through every kernel; numba keeps what it compiles on disk."""
    lake = crypto_lake.tables(Market(1), _MESSAGES, "BINANCE", "BTC-USDT")
    lines = tardis.csv_lines(Market(1), _MESSAGES, "binance", "BTCUSDT")
    captures: dict[str, Sequence[Path]] = {
        "binance": write_captures(folder, _MESSAGES),
        "crypto_lake": crypto_lake.write_tables(lake, folder),
        "tardis": [
            path
            for table in lines
            for path in tardis.write_csv(lines[table], folder, table, "binance", "BTCUSDT")
        ],
        "kraken": [kraken.write_dump(kraken.dump_lines(Market(1), _MESSAGES, "XBT/USD"), folder)],
    }
    for source, paths in captures.items():
        records = pa.concat_tables([_records(source, path) for path in paths])
        for symbol in pc.unique(records["symbol"]).to_pylist():
            _rebuild(source, records.filter(pc.equal(records["symbol"], symbol)))
    off_the_rise(np.array([0, 10**12, 1]))


def _records(source: str, path: Path) -> pa.Table:
    reader = SOURCES[source]({"path": str(path)}).reader(None)
    records = pa.Table.from_batches([batch for part in reader.partitions() for batch in reader.read(part)])
    return records.filter(pc.is_in(records["record"], pa.array(["book_update", "trade"])))


def _rebuild(source: str, messages: pa.Table) -> None:
    exchange, symbol = (messages[name][0].as_py() for name in ("exchange", "symbol"))
    feed = feed_of(source, exchange)
    epochs = epochs_of(messages["sequence"].to_numpy(), messages["timestamp"].to_numpy(), [])
    events = order_hour(
        messages.append_column("epoch", pa.array(epochs)), FLAT_EVENTS.arrow.empty_table(), 0, feed
    )
    numbers = Scaled(DEFAULT_SCALE, DEFAULT_SCALE)
    rebuilder = Rebuilder(exchange, symbol, feed, Writing(), numbers, Opening())
    for batch in events.combine_chunks().to_batches():
        rebuilder.feed_batch(batch)


if __name__ == "__main__":
    spark_session(load_settings(None, {})).stop()
    with tempfile.TemporaryDirectory() as scratch:
        compile_kernels(Path(scratch))
