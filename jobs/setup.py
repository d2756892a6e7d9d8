"""The last step of an install: fetch Delta's JARs and compile the kernels, so that the first run need not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.jobs.demo import write_captures
from deltabook.jobs.session import spark_session
from deltabook.jobs.settings import load_settings
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import Cadence
from deltabook.schemas.tables import FLAT_EVENTS
from deltabook.udfs.decimals import DEFAULT_SCALE
from deltabook.udfs.ordering import order_hour
from deltabook.udfs.rebuild import Opening, Rebuilder
from deltabook.udfs.sources.binance import BinanceSource


def compile_kernels() -> None:
    """Take a short simulated capture through every kernel; numba keeps what it compiles on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_captures(Path(folder), messages=20)[0]
        reader = BinanceSource({"path": str(path)}).reader(None)
        records = pa.Table.from_batches(reader.read(reader.partitions()[0]))
    messages = records.filter(pc.is_in(records["record"], pa.array(["book_update", "trade"])))
    messages = messages.append_column("epoch", pa.repeat(pa.scalar(0, pa.int64()), messages.num_rows))
    feed = FEEDS["binance"]
    events = order_hour(messages, FLAT_EVENTS.arrow.empty_table(), 0, feed).combine_chunks()
    scales = (DEFAULT_SCALE, DEFAULT_SCALE)
    rebuilder = Rebuilder("BINANCE", "BTC-USDT", feed, 20, Cadence.CHANGE, scales, Opening())
    for batch in events.to_batches():
        rebuilder.feed_batch(batch)


if __name__ == "__main__":
    spark_session(load_settings(None, {})).stop()
    compile_kernels()
