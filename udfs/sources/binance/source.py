"""Source `binance`: captures of Binance spot, USD-M and COIN-M streams.

A line is `<receive time, ns> <JSON>`, `<receive time, s>: <JSON>` (a cryptofeed dump), or the JSON
alone, gzip or not; the JSON is a message of the combined stream (`{"stream":…,"data":…}`), a bare
message, or a REST depth snapshot. `<URL> -> <receive time, s>: <JSON>` is an answer to a request:
the URL says the market and the symbol of a snapshot; other answers, and connections, are skipped.
A file that starts with `symbol,timestamp,…` is a T_DEPTH table (see `binance_depth_csv`).

- `depthUpdate` and REST snapshots become book updates, `trade` and `aggTrade` trades, `bookTicker`
  and the partial book streams (`@depth5`, `@depth10`, `@depth20`) golden rows. Other messages, known
  or not, are skipped; what is not JSON, or lacks a field, goes to quarantine.
- Markets are told apart by fields: `pu`, `T` (depth), no `M` (trades), `e` (tickers) mean futures;
  a symbol like `BTCUSD_PERP` or `BTCUSD_241227` means COIN-M.
- A snapshot that names no symbol belongs to the only symbol of its file whose depth is there.
- Times are milliseconds, microseconds or nanoseconds, decided by magnitude, one unit a file.
- Spot ids prove a book complete by `U == previous u + 1`, futures by `pu == previous u`; ids of
  trades rise by one.

Rules: github binance/binance-spot-api-docs, web-socket-streams; Binance derivatives documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.sources.binance import fast_scan as scan
from deltabook.udfs.sources.binance.depth_csv import is_depth_csv, parse_depth_csv
from deltabook.udfs.sources.binance.strict_lines import SPOT, instrument, place_snapshot, read_line
from deltabook.udfs.sources.common.file_source import FileSource, TimeUnit, line_blocks
from deltabook.udfs.sources.common.limits import Limits, check_levels
from deltabook.udfs.sources.common.message_files import Line, split_line
from deltabook.udfs.sources.common.records import Records, column_batch, labels
from deltabook.udfs.sources.csv.tables import short_blocks

_MOST_LINES = 1 << 20
_NO_NAMES = ("", ""), ("", "")
_RECORD_OF = {
    scan.DEPTH: ("book_update", ""),
    scan.TRADE: ("trade", ""),
    scan.AGG_TRADE: ("agg_trade", ""),
    scan.TICKER: ("golden", "book_ticker"),
    scan.PARTIAL_BOOK: ("golden", "vendor_book"),
}


class BinanceSource(FileSource):
    """Reads Binance captures; see the module for the format."""

    by_lines = True

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "binance"

    def parse(self, stream: IO[bytes], path: str) -> Iterator[pa.RecordBatch]:
        """Yield the records of one capture file (see `FileSource.parse`)."""
        blocks = short_blocks(line_blocks(stream, path), _MOST_LINES)
        first = next(blocks, b"")
        blocks = chain([first], blocks)
        if is_depth_csv(first):
            yield from parse_depth_csv(blocks, path, self.limits)
        else:
            yield from Parser(path, limits=self.limits).parse(blocks)


class Parser:
    """Reads the lines of one capture; its state is what crosses the blocks of the file.

    Parameters
    ----------
    path : str
        The file's name.
    strict : bool
        Whether every line takes the strict way; both ways give the same.
    limits : Limits
        What a message may hold.
    """

    def __init__(self, path: str, strict: bool = False, limits: Limits = Limits()):
        self.path = path
        self.limits = limits
        self.strict = strict
        self.unit = TimeUnit()
        self.books: set[tuple[str, str]] = set()
        self.pending: list[tuple[int, bytes, Line, dict[str, Any]]] = []

    def parse(self, blocks: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
        """Yield the records of blocks of whole lines."""
        rows = 0
        for block in blocks:
            scanned = scan.scan_block(block, DEFAULT_SCALE, DEFAULT_SCALE)
            kinds = scanned.lines[:, scan.KIND].copy()
            names = [_instruments(spelled) for spelled in scanned.symbols]
            # The strict way says why a name is refused.
            strict = np.array([self.strict or name is None for name in names] + [False])
            kinds[strict[scanned.lines[:, scan.SYMBOL_CODE]]] = scan.SLOW
            kinds[scanned.level_counts() > self.limits.most_levels] = scan.SLOW
            if (kinds > scan.BLANK).any():
                yield self._fast_batch(scanned, kinds, [name or _NO_NAMES for name in names], rows)
            slow = Records(self.path)
            for row in np.flatnonzero(kinds == scan.SLOW).tolist():
                start, end = scanned.lines[row, [scan.START, scan.END]]
                self._strict(slow, block[start:end].removesuffix(b"\r"), rows + row + 1)
            if len(slow):
                yield slow.batch()
            rows += len(kinds)
        if self.pending:
            placed = Records(self.path)
            for waiting in self.pending:
                self._place(placed, *waiting)
            yield placed.batch()

    def _fast_batch(
        self,
        scanned: scan.Scan,
        kinds: NDArray[np.int64],
        names: list[tuple[tuple[str, str], tuple[str, str]]],
        rows: int,
    ) -> pa.RecordBatch:
        chosen = np.flatnonzero(kinds > scan.BLANK)
        lines, kinds = scanned.lines[chosen], kinds[chosen]
        codes = lines[:, scan.SYMBOL_CODE] * 2 + (lines[:, scan.FUTURES] > 0)
        markets = [market for pair in names for market in pair]
        self.books |= {markets[code] for code in np.unique(codes[kinds == scan.DEPTH]).tolist()}
        event_times = lines[:, scan.EVENT_TIME]
        trade_times = lines[:, scan.TRADE_TIME]
        # Trades and futures carry their transaction time T; spot depth has only E.
        printed = np.where(trade_times >= 0, trade_times, event_times)
        is_trade = (kinds == scan.TRADE) | (kinds == scan.AGG_TRADE)
        side = np.where(lines[:, scan.BUYER_IS_MAKER] > 0, 2, 1)
        side[~is_trade | (lines[:, scan.IN_BOOK] <= 0)] = 0
        columns: dict[str, Any] = {
            "record": labels(kinds, [_RECORD_OF.get(kind, ("", ""))[0] for kind in range(7)]),
            "kind": labels(kinds, [_RECORD_OF.get(kind, ("", ""))[1] for kind in range(7)]),
            "exchange": labels(codes, [exchange for exchange, _ in markets]),
            "symbol": labels(codes, [symbol for _, symbol in markets]),
            "timestamp": self.unit.nanoseconds(printed),
            "received": lines[:, scan.RECEIVED],
            "sequence": lines[:, scan.LAST_ID],
            "source_row": chosen + (rows + 1),
            "first_sequence": np.where(kinds == scan.DEPTH, lines[:, scan.FIRST_ID], NOT_GIVEN),
            "prev_sequence": np.where(kinds == scan.DEPTH, lines[:, scan.PREVIOUS_ID], NOT_GIVEN),
            "trade_id": np.where(is_trade, lines[:, scan.LAST_ID], NOT_GIVEN),
            "side": labels(side, ["", "buy", "sell"]),
            "price": lines[:, scan.PRICE],
            "size": lines[:, scan.SIZE],
        }
        for name, field, values in (
            ("bid_prices", scan.BIDS_END, scanned.bid_prices),
            ("bid_sizes", scan.BIDS_END, scanned.bid_sizes),
            ("ask_prices", scan.ASKS_END, scanned.ask_prices),
            ("ask_sizes", scan.ASKS_END, scanned.ask_sizes),
        ):
            ends = scanned.lines[:, field]
            starts = np.concatenate(([0], ends[:-1]))
            columns[name] = _lists(starts[chosen], ends[chosen], values)
        return column_batch(self.path, columns, len(chosen))

    def _strict(self, records: Records, raw: bytes, row: int) -> None:
        try:
            line = split_line(raw)
            record = read_line(line, self.limits.most_levels) if line else None
            check_levels(record or {}, self.limits.most_levels)
        except (ValueError, InputError) as error:
            records.quarantine(row, raw, str(error))
            return
        if line is None or record is None:
            return
        if "pending" in record:
            self.pending.append((row, raw, line, record["pending"]))
            return
        if record["record"] == "book_update":
            self.books.add((record["exchange"], record["symbol"]))
        records.add(record | {"source_row": row, "timestamp": self.unit.one(record["timestamp"])})

    def _place(self, records: Records, row: int, raw: bytes, line: Line, message: dict[str, Any]) -> None:
        """Add a snapshot that names no symbol, now that the file's books are known."""
        candidates = sorted(book for book in self.books if (book[0] != SPOT) == ("T" in message))
        if len(candidates) != 1:
            found = ", ".join(symbol for _, symbol in candidates[:5]) or "none"
            reason = "a snapshot names no symbol, and its file must hold the depth of just one"
            records.quarantine(row, raw, f"{reason}: found {found}")
            return
        try:
            record = place_snapshot(message, *candidates[0])
            check_levels(record, self.limits.most_levels)
        except ValueError as error:
            records.quarantine(row, raw, str(error))
            return
        time = self.unit.one(record["timestamp"])
        records.add(record | {"source_row": row, "received": line.received, "timestamp": time})


def _instruments(spelled: str) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Return what a name means on spot and on the futures markets, or None if it is refused."""
    try:
        return instrument(spelled, False), instrument(spelled, True)
    except InputError:
        return None


def _lists(starts: NDArray[np.int64], ends: NDArray[np.int64], values: NDArray[np.int64]) -> pa.Array:
    """Make the lists ``values[starts[i]:ends[i]]``; without a copy where they lie end to end."""
    lengths = ends - starts
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    if np.array_equal(starts[1:], ends[:-1]):
        values = values[starts[0] : ends[-1]] if len(starts) else values[:0]
    else:
        values = values[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])]
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
