"""The last step of `make setup`: do slow work in advance, so that the first run is fast.

This step fetches Delta's JARs and compiles the numba kernels. The step also writes an archive of the Java
classes that a short run loads. A JVM maps this archive into memory instead of loading the classes. The
archive takes 180 MB in the Python environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.jobs.pipeline.stages import (
    ingest_stage,
    open_warehouse,
    reconstruct_stage,
    run_stages,
    validate_stage,
)
from deltabook.jobs.process.java import get_archive_folder
from deltabook.jobs.queries.sql import prepare_query, print_rows
from deltabook.jobs.runtime.session import spark_session
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tools.demo import QUERY, write_captures
from deltabook.schemas.feeds import feed_of
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import RowPolicy
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.ordering.clock_jumps import find_decreasing_times
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.ordering.id_resets import assign_epochs
from deltabook.udfs.rebuild.checkpoints import BookState
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.simulator import crypto_lake, kraken, tardis
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.sources.registry import SOURCES

_MESSAGES = 20


def compile_kernels(folder: Path) -> None:
    """Run all kernels on short simulated captures, so that numba compiles them and stores the code on disk.

    Parameters
    ----------
    folder : Path
        Empty folder for the captures.
    """
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
        records = pa.concat_tables([_read_records(source, path) for path in paths])
        for symbol in pc.unique(records["symbol"]).to_pylist():
            _rebuild(source, records.filter(pc.equal(records["symbol"], symbol)))
    find_decreasing_times(np.array([0, 10**12, 1]))


def _read_records(source: str, path: Path) -> pa.Table:
    """Return the book updates and trades that a source reads from a capture."""
    reader = SOURCES[source]({"path": str(path)}).reader(None)
    records = pa.Table.from_batches([batch for part in reader.partitions() for batch in reader.read(part)])
    return records.filter(pc.is_in(records["record"], pa.array(["book_update", "trade"])))


def _rebuild(source: str, messages: pa.Table) -> None:
    """Rebuild the book of one symbol from its messages, and discard the result."""
    exchange, symbol = (messages[name][0].as_py() for name in ("exchange", "symbol"))
    feed = feed_of(source, exchange)
    epochs = assign_epochs(messages["sequence"].to_numpy(), messages["timestamp"].to_numpy(), [])
    events = order_chunk(
        messages.append_column("epoch", pa.array(epochs)), FLAT_EVENTS.arrow.empty_table(), 0, feed
    )
    numbers = Scaled(DEFAULT_SCALE, DEFAULT_SCALE)
    rebuilder = Rebuilder(exchange, symbol, feed, RowPolicy(), numbers, BookState())
    for batch in events.combine_chunks().to_batches():
        rebuilder.apply_events(batch)


def archive_classes(folder: Path) -> None:
    """Write the archive of Java classes that later JVMs load.

    A new process runs every job and a query on a short capture. When the JVM of this process ends, the JVM
    writes all classes that it has loaded to the archive.

    Parameters
    ----------
    folder : Path
        Empty folder for the capture and its tables.
    """
    partial = get_archive_folder() / "partial"
    partial.parent.mkdir(parents=True, exist_ok=True)
    for old in [*partial.parent.glob("*.jsa"), partial]:
        old.unlink(missing_ok=True)
    # The JVM outlives its Python process while it writes the archive. Because the output is captured, `run`
    # waits until the JVM has ended too.
    subprocess.run(
        [sys.executable, "-m", __spec__.name, str(folder)],
        env=os.environ | {"SPARK_SUBMIT_OPTS": f'"-XX:ArchiveClassesAtExit={partial}"'},
        capture_output=True,
        check=False,
    )
    if partial.exists():
        partial.rename(partial.with_name(f"{partial.stat().st_size}.jsa"))


def rehearse(folder: Path) -> None:
    """Run every job and a query on a short simulated capture.

    Parameters
    ----------
    folder : Path
        Empty folder for the capture and its tables.
    """
    settings = load_settings(None, {"warehouse": folder / "warehouse"})
    captures = write_captures(folder / "captures", _MESSAGES)
    run_stages(settings, [ingest_stage("binance", captures), reconstruct_stage(), validate_stage()])
    print_rows(prepare_query(open_warehouse(settings), QUERY), "table", sys.stdout)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        rehearse(Path(sys.argv[1]))
    else:
        spark_session(load_settings(None, {})).stop()
        with tempfile.TemporaryDirectory() as scratch:
            compile_kernels(Path(scratch))
            archive_classes(Path(scratch))
