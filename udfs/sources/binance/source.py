"""Source `binance`: reads captures of Binance spot, USD-M and COIN-M streams, and T_DEPTH tables.

Format: one message per line; plain text, gzip, or a zip with one member. A line is one of

- `<receive time, ns> <JSON>`;
- `<receive time, s>: <JSON>` (a cryptofeed dump);
- `<URL> -> <receive time, s>: <JSON>`, a response to a request; the URL gives the market and the symbol of a
  depth snapshot;
- the JSON alone.

The JSON is a message of the combined stream (`{"stream":…,"data":…}`), a bare message, or a REST depth
snapshot. A file that starts with `symbol,timestamp,…` is a T_DEPTH table: a CSV with one row per level.

- Book updates: `depthUpdate` and REST snapshots.
- Trades: `trade` and `aggTrade`.
- Golden rows: `bookTicker`, and the partial book streams `@depth5`, `@depth10` and `@depth20`.
- Skipped: all other messages, responses to other requests, and connection lines. A line that is not JSON, or
  lacks a required field, goes to quarantine.
- Market: a `depthUpdate` with `pu`, a snapshot or partial book with `T`, a trade without `M`, and a ticker
  with `e` come from a futures market. Futures with a symbol such as `BTCUSD_PERP` or `BTCUSD_241227` are
  COIN-M, all other futures are USD-M.
- A snapshot without a symbol belongs to the symbol whose depth updates are in the same file. The file must
  contain depth updates of exactly one symbol.
- Times: milliseconds, microseconds or nanoseconds. The magnitude of a time shows its unit. All times of a
  file must have the same unit.
- Update ids: on spot, `U` must be the previous `u` + 1; on futures, `pu` must be the previous `u`. A book
  with an unbroken chain is `verified`. Trade ids rise by one.

Rules: github binance/binance-spot-api-docs, web-socket-streams; Binance derivatives documentation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from itertools import chain
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.sources.binance import fast_scan as scan
from deltabook.udfs.sources.binance.depth_csv import is_depth_csv, parse_depth_csv
from deltabook.udfs.sources.binance.strict_lines import (
    SPOT,
    Skipped,
    SnapshotWithoutSymbol,
    instrument,
    read_line,
    snapshot_record,
)
from deltabook.udfs.sources.common.documents import one_message_per_line
from deltabook.udfs.sources.common.envelopes import Line, split_line
from deltabook.udfs.sources.common.file_source import (
    BLANK,
    CONNECTION,
    QUARANTINED,
    TAKEN,
    FileSource,
    LineCounts,
    TimeUnit,
    line_blocks,
)
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.limits import Limits, check_levels
from deltabook.udfs.sources.common.records import RecordColumns, Records, build_batch, label_column
from deltabook.udfs.sources.csv.tables import short_blocks

_MAX_LINES = 1 << 20
"""Largest number of lines that are scanned at once."""
_EVENTS = ("depthUpdate", "trade", "aggTrade", "bookTicker")
_NO_INSTRUMENTS = ("", ""), ("", "")
_RECORD_OF = {
    scan.DEPTH: ("book_update", ""),
    scan.TRADE: ("trade", ""),
    scan.AGG_TRADE: ("agg_trade", ""),
    scan.TICKER: ("golden", "book_ticker"),
    scan.PARTIAL_BOOK: ("golden", "vendor_book"),
}


class BinanceSource(FileSource):
    """Spark data source for Binance captures; the module's docstring describes the format."""

    by_lines = True
    hosts = ("binance.com", "binance.us", "binance.vision", "binance.me")

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "binance"

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message is an event of a market stream, or a depth snapshot."""
        if not isinstance(message, dict):
            return False
        data = message.get("data", message)
        if not isinstance(data, dict):
            return False
        is_event = data.get("e") in _EVENTS and "s" in data
        is_ticker = {"u", "s", "b", "B", "a", "A"} <= data.keys()
        return is_event or is_ticker or ("lastUpdateId" in data and "bids" in data)

    def parse(self, stream: IO[bytes], path: str) -> Generator[pa.RecordBatch, None, LineCounts]:
        """Yield the records of one capture file (see `FileSource.parse`)."""
        blocks = short_blocks(one_message_per_line(line_blocks(stream, path)), _MAX_LINES)
        first_block = next(blocks, b"")
        blocks = chain([first_block], blocks)
        if is_depth_csv(first_block):
            return (yield from parse_depth_csv(blocks, path, self.limits))
        return (yield from CaptureParser(path, limits=self.limits).parse(blocks))


class _UnassignedSnapshot(NamedTuple):
    """A REST snapshot without a symbol, kept until the end of the file.

    At the end of the file, all books of the file are known. Only then can the snapshot be assigned to one of
    these books.

    Attributes
    ----------
    row : int
        Row of the snapshot's line in the file, from 1.
    raw : bytes
        The line as it is in the file.
    line : Line
        The line, split into receive time and message.
    message : dict
        The decoded snapshot.
    """

    row: int
    raw: bytes
    line: Line
    message: JsonObject


class CaptureParser:
    """Parser of the lines of one capture file.

    The fast path (`fast_scan`) reads lines in the compact JSON that Binance prints. The strict path
    (`strict_lines`) reads all other lines. Both paths return the same record for the same line, but only the
    strict path explains errors.

    Parameters
    ----------
    path : str
        Path of the raw file, as column `source_file` stores it.
    strict : bool
        True: every line takes the strict path. Tests use this value to compare the two paths.
    limits : Limits
        Limits of a message and of the file.
    """

    def __init__(self, path: str, strict: bool = False, limits: Limits = Limits()):
        self.path = path
        self.limits = limits
        self.strict = strict
        self.unit = TimeUnit()
        self.lines: LineCounts = Counter()
        """Number of lines by kind, so far."""
        self.books: set[tuple[str, str]] = set()
        """(exchange, symbol) of each book with a depth update so far."""
        self.unassigned: list[_UnassignedSnapshot] = []

    def parse(self, blocks: Iterable[bytes]) -> Generator[pa.RecordBatch, None, LineCounts]:
        """Yield the records of blocks of whole lines; return the number of lines by kind."""
        rows = 0
        for block in blocks:
            scanned = scan.scan_block(block, DEFAULT_SCALE, DEFAULT_SCALE)
            kinds = scanned.lines[:, scan.KIND].copy()
            instruments = [_instruments_of(venue_symbol) for venue_symbol in scanned.symbols]
            # Lines with an invalid symbol take the strict path, which reports the reason.
            is_slow = np.array([self.strict or both is None for both in instruments] + [False])
            kinds[is_slow[scanned.lines[:, scan.SYMBOL_CODE]]] = scan.SLOW
            kinds[scanned.level_counts() > self.limits.most_levels] = scan.SLOW
            if (kinds > scan.BLANK).any():
                accepted = [both or _NO_INSTRUMENTS for both in instruments]
                yield self._make_fast_batch(scanned, kinds, accepted, rows)
            slow = Records(self.path)
            for row in np.flatnonzero(kinds == scan.SLOW).tolist():
                start, end = scanned.lines[row, [scan.START, scan.END]]
                self._read_strict(slow, block[start:end].removesuffix(b"\r"), rows + row + 1)
            if len(slow):
                yield slow.take_batch()
            rows += len(kinds)
            taken, blank = int((kinds > scan.BLANK).sum()), int((kinds == scan.BLANK).sum())
            self.lines.update({TAKEN: taken, BLANK: blank})
        if self.unassigned:
            snapshots = Records(self.path)
            for unassigned in self.unassigned:
                self._assign_snapshot(snapshots, unassigned)
            yield snapshots.take_batch()
        return self.lines

    def _make_fast_batch(
        self,
        scanned: scan.Scan,
        kinds: NDArray[np.int64],
        instruments: list[tuple[tuple[str, str], tuple[str, str]]],
        rows: int,
    ) -> pa.RecordBatch:
        """Return the records of the lines that the fast path read.

        Parameters
        ----------
        scanned : Scan
            The lines of one block as arrays.
        kinds : int64[n]
            Kind of each line of the block. Lines of kind SLOW or BLANK give no record.
        instruments : list of ((exchange, symbol), (exchange, symbol))
            The spot instrument and the futures instrument of each symbol code.
        rows : int
            Number of lines of the file before the block.
        """
        chosen = np.flatnonzero(kinds > scan.BLANK)
        lines, kinds = scanned.lines[chosen], kinds[chosen]
        codes = lines[:, scan.SYMBOL_CODE] * 2 + (lines[:, scan.FUTURES] > 0)
        markets = [market for spot_and_futures in instruments for market in spot_and_futures]
        self.books |= {markets[code] for code in np.unique(codes[kinds == scan.DEPTH]).tolist()}
        event_times = lines[:, scan.EVENT_TIME]
        trade_times = lines[:, scan.TRADE_TIME]
        # Trades and futures messages have the transaction time T. Spot depth messages have only the event
        # time E.
        printed = np.where(trade_times >= 0, trade_times, event_times)
        is_trade = (kinds == scan.TRADE) | (kinds == scan.AGG_TRADE)
        side = np.where(lines[:, scan.BUYER_IS_MAKER] > 0, 2, 1)
        side[~is_trade | (lines[:, scan.IN_BOOK] <= 0)] = 0
        columns: RecordColumns = {
            "record": label_column(kinds, [_RECORD_OF.get(kind, ("", ""))[0] for kind in range(7)]),
            "kind": label_column(kinds, [_RECORD_OF.get(kind, ("", ""))[1] for kind in range(7)]),
            "exchange": label_column(codes, [exchange for exchange, _ in markets]),
            "symbol": label_column(codes, [symbol for _, symbol in markets]),
            "timestamp": self.unit.to_nanoseconds(printed),
            "received": lines[:, scan.RECEIVED],
            "sequence": lines[:, scan.LAST_ID],
            "source_row": chosen + (rows + 1),
            "first_sequence": np.where(kinds == scan.DEPTH, lines[:, scan.FIRST_ID], NOT_GIVEN),
            "prev_sequence": np.where(kinds == scan.DEPTH, lines[:, scan.PREVIOUS_ID], NOT_GIVEN),
            "trade_id": np.where(is_trade, lines[:, scan.LAST_ID], NOT_GIVEN),
            "side": label_column(side, ["", "buy", "sell"]),
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
            columns[name] = _make_lists(starts[chosen], ends[chosen], values)
        return build_batch(self.path, columns, len(chosen))

    def _read_strict(self, records: Records, raw: bytes, row: int) -> None:
        """Read one line on the strict path: add its record, or put the line in quarantine."""
        try:
            line = split_line(raw)
            if not line.payload:
                self.lines[CONNECTION] += 1
                return
            record = read_line(line, self.limits.most_levels)
            if isinstance(record, Skipped):
                self.lines[f"other: {record.kind[:40]}"] += 1
                return
            if isinstance(record, SnapshotWithoutSymbol):
                self.unassigned.append(_UnassignedSnapshot(row, raw, line, record.message))
                return
            check_levels(record, self.limits.most_levels)
        except (ValueError, InputError) as error:
            self._quarantine(records, row, raw, str(error))
            return
        self.lines[TAKEN] += 1
        if record["record"] == "book_update":
            self.books.add((record["exchange"], record["symbol"]))
        records.add(
            record | {"source_row": row, "timestamp": self.unit.time_to_nanoseconds(record["timestamp"])}
        )

    def _quarantine(self, records: Records, row: int, raw: bytes, reason: str) -> None:
        """Put a line in quarantine, and count it."""
        self.lines[QUARANTINED] += 1
        records.quarantine(row, raw, reason)

    def _assign_snapshot(self, records: Records, snapshot: _UnassignedSnapshot) -> None:
        """Add a snapshot without a symbol, now that all books of the file are known."""
        row, raw, line, message = snapshot
        candidates = sorted(book for book in self.books if (book[0] != SPOT) == ("T" in message))
        if len(candidates) != 1:
            symbols = ", ".join(symbol for _, symbol in candidates[:5]) or "none"
            reason = "a snapshot without a symbol needs a file with the depth updates of exactly one symbol"
            self._quarantine(records, row, raw, f"{reason}: found {symbols}")
            return
        try:
            record = snapshot_record(message, *candidates[0])
            check_levels(record, self.limits.most_levels)
        except ValueError as error:
            self._quarantine(records, row, raw, str(error))
            return
        self.lines[TAKEN] += 1
        time = self.unit.time_to_nanoseconds(record["timestamp"])
        records.add(record | {"source_row": row, "received": line.received, "timestamp": time})


def _instruments_of(venue_symbol: str) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Return the spot instrument and the futures instrument of a symbol; None for an invalid symbol."""
    try:
        return instrument(venue_symbol, False), instrument(venue_symbol, True)
    except InputError:
        return None


def _make_lists(starts: NDArray[np.int64], ends: NDArray[np.int64], values: NDArray[np.int64]) -> pa.Array:
    """Return an Arrow array of the lists ``values[starts[i]:ends[i]]``; adjacent lists are not copied."""
    lengths = ends - starts
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    if np.array_equal(starts[1:], ends[:-1]):
        values = values[starts[0] : ends[-1]] if len(starts) else values[:0]
    else:
        values = values[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])]
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
