"""Follow a live feed in micro-batches, without Spark, and rebuild the recorded feed in one batch."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.schemas.feeds import feed_of
from deltabook.schemas.frames import FLAT_EVENTS, RECORDS
from deltabook.schemas.names import HOUR, RowPolicy
from deltabook.schemas.tables import BOOKS
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.numbers.scales import rescale
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.rebuild.checkpoints import BookState
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.storage.containers import open_file
from deltabook.udfs.streaming.live_books import BatchStart, make_batch_function
from deltabook.udfs.streaming.stream_source import START, LiveSource

SECOND = 1_000_000_000


NO_SYMBOL = pa.table({"exchange": pa.array([], pa.string()), "symbol": pa.array([], pa.string())})


class Followed:
    """Follows a folder from micro-batch to micro-batch; what is kept between them goes through JSON."""

    def __init__(self, root: Path, source: str, folder: Path, *, patience=2.0, most_bytes=16 << 20, **how):
        self.root, self.source, self.folder = root, source, folder
        self.patience, self.most_bytes = patience, most_bytes
        self.writing = how.get("writing", RowPolicy())
        self.instruments = how.get("instruments", {})
        self.offset, self.symbols, self.clock = START, {}, -1
        self.counts = defaultdict(int)
        self.files = defaultdict(list)
        self.restart()

    def restart(self):
        """Begin a new stream where the last one ended."""
        options = {"source": self.source, "folder": str(self.folder), "patience": "-1"}
        options |= {"offset": json.dumps(self.offset), "most_bytes": str(self.most_bytes)}
        self.reader = LiveSource(options).streamReader(None)

    def step(self, silent: bool = False) -> bool:
        """Do one micro-batch; return whether anything was new."""
        found = json.loads(json.dumps(self.reader.latestOffset()))
        parts = self.reader.partitions(self.offset, found)
        batches = [batch for part in parts for batch in self.reader.read(part)]
        records = pa.Table.from_batches(batches, schema=RECORDS.arrow)
        before = BatchStart(
            root=str(self.root),
            source=self.source,
            writing=self.writing,
            chunk=HOUR,
            patience=round(self.patience * SECOND),
            clock=self.clock,
            is_silent=silent,
            instruments=self.instruments,
            restarts={},
            symbols=self.symbols,
        )
        carry = make_batch_function(before)
        waiting = [key for key, kept in self.symbols.items() if kept["waiting"]]
        come = zip(*(records[name].to_pylist() for name in ("exchange", "symbol")), strict=True)
        told = {}
        for key in sorted({*come, *waiting}):
            chosen = pc.and_(pc.equal(records["exchange"], key[0]), pc.equal(records["symbol"], key[1]))
            partner = pa.table({"exchange": [key[0]], "symbol": [key[1]]}) if key in waiting else NO_SYMBOL
            for row in carry(tuple(map(pa.scalar, key)), records.filter(chosen), partner).to_pylist():
                if row["symbol_state"]:
                    told[row["exchange"], row["symbol"]] = json.loads(row["symbol_state"])
                    for name, count in told[row["exchange"], row["symbol"]]["counts"].items():
                        self.counts[name] += count
                else:
                    self.files[row["table"]].append(row)
        self.symbols = {**self.symbols, **told}
        self.clock = max([self.clock, *(one["clock"] for one in told.values())])
        is_new, self.offset = found != self.offset, found
        return is_new

    def books(self, symbol: str) -> pa.Table:
        """All rows of books so far of a symbol, in the order in which they were written."""
        parts = []
        for row in self.files["books"]:
            partition = json.loads(row["partition"])
            if partition["symbol"] == symbol:
                table = pq.ParquetFile(self.root / "books" / row["path"]).read()
                date = np.full(table.num_rows, np.datetime64(partition["date"]))
                table = table.append_column("date", pa.array(date, pa.date32()))
                parts.append(table.append_column("symbol", pa.array([symbol] * table.num_rows)))
        return pa.concat_tables(parts).select(BOOKS.names) if parts else BOOKS.arrow.empty_table()

    def quarantine(self) -> list[tuple[str, int]]:
        """Reasons and rows in quarantine."""
        tables = [
            pq.ParquetFile(self.root / "quarantine" / row["path"]).read() for row in self.files["quarantine"]
        ]
        rows = [row for table in tables for row in table.to_pylist()]
        return sorted((row["source_row"], row["reason"]) for row in rows)


def batch_books(source: str, files: list[Path], exchange: str, symbol: str) -> pa.Table:
    """The books of whole files, all of one hour, as the jobs order and rebuild them."""
    records = records_of(source, files)
    of_symbol = pc.and_(pc.equal(records["exchange"], exchange), pc.equal(records["symbol"], symbol))
    records = records.filter(of_symbol)
    records = records.filter(pc.is_in(records["record"], pa.array(["book_update", "trade"])))
    records = rescale(records, 8, 8)
    records = records.append_column("epoch", pa.array(np.zeros(records.num_rows, dtype=np.int64)))
    hour = int(pc.max(records["timestamp"]).as_py()) // HOUR * HOUR
    feed = feed_of(source, exchange)
    events = order_chunk(records, FLAT_EVENTS.arrow.empty_table(), hour, feed)
    rebuilder = Rebuilder(exchange, symbol, feed, RowPolicy(), Scaled(8, 8), BookState())
    rows = rebuilder.apply_events(events.combine_chunks().to_batches()[0])
    return pa.Table.from_batches([rows])


def records_of(source: str, files: list[Path]) -> pa.Table:
    """What a source reads of whole files."""
    batches = []
    for file in files:
        with open_file(str(file)) as stream:
            batches += list(SOURCES[source]({}).parse(stream, str(file)))
    return pa.Table.from_batches(batches, schema=RECORDS.arrow)
