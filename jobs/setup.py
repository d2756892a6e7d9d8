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
    events = order_hour(messages, FLAT_EVENTS.arrow.empty_table(), 0).combine_chunks()
    rebuilder = Rebuilder("BINANCE", "BTCUSDT", FEEDS["BINANCE"], 20, Cadence.CHANGE, Opening())
    for batch in events.to_batches():
        rebuilder.feed_batch(batch)


if __name__ == "__main__":
    spark_session(load_settings(None, {})).stop()
    compile_kernels()
