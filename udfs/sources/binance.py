"""Source `binance`: captures of Binance spot, USD-M and COIN-M streams.

A line is `<local receive time, ns> <JSON>` or the JSON alone, gzip or not; the JSON is a message of
the combined stream (`{"stream":…,"data":…}`), a bare message, or a REST depth snapshot.

- `depthUpdate` and REST snapshots become book updates, `trade` and `aggTrade` trades, `bookTicker`
  and the partial book streams (`@depth5`, `@depth10`, `@depth20`) golden rows. Other messages, known
  or not, are skipped; what is not JSON, or lacks a field, goes to quarantine.
- Markets are told apart by fields: `pu`, `T` (depth), no `M` (trades), `e` (tickers) mean futures;
  a symbol like `BTCUSD_PERP` or `BTCUSD_241227` means COIN-M.
- A snapshot that names no symbol belongs to the only symbol of its file whose depth is there.
- Times are milliseconds, microseconds or nanoseconds, decided by magnitude, one unit a file.

Rules: github binance/binance-spot-api-docs, web-socket-streams; Binance derivatives documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN, valid_name
from deltabook.schemas.tables import RECORDS
from deltabook.udfs.sources import binance_scan as scan
from deltabook.udfs.sources.base import EMPTY_RECORD, FileSource, line_blocks, to_batch
from deltabook.udfs.sources.binance_lines import exchange_of, place_snapshot, read_line, scales_of

_SCALE = 8  # what Binance prints at most, on every market
_UNITS = ((2**63 // 10**6, 1_000_000), (2**63 // 10**3, 1_000), (2**63, 1))
"""(exclusive upper bound of a time's magnitude, ns per unit): ms, µs, ns."""
_RECORD_OF = {
    scan.DEPTH: ("book_update", ""),
    scan.TRADE: ("trade", ""),
    scan.AGG_TRADE: ("agg_trade", ""),
    scan.TICKER: ("golden", "book_ticker"),
    scan.PARTIAL_BOOK: ("golden", "vendor_book"),
}


class BinanceSource(FileSource):
    """Reads Binance captures; see the module for the format."""

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "binance"

    def parse(self, stream: IO[bytes], path: str, scales: dict[Any, Any]) -> Iterator[pa.RecordBatch]:
        """Yield the records of one capture file (see `FileSource.parse`)."""
        return _Parser(path, scales).parse(stream)


class _Parser:
    """State across the blocks of one file: its time unit, its symbols, snapshots without one."""

    def __init__(self, path: str, scales: dict[Any, Any]):
        self.path = path
        self.scale_of = scales_of(scales)
        self.set_apart = {symbol for _, symbol in scales}
        self.nanoseconds_per_unit = 0
        self.depth_symbols: set[tuple[str, bool]] = set()
        self.pending: list[dict[str, Any]] = []

    def parse(self, stream: IO[bytes]) -> Iterator[pa.RecordBatch]:
        rows = 0
        for block in line_blocks(stream):
            scanned = scan.scan_block(block, _SCALE, _SCALE)
            kinds = scanned.lines[:, scan.KIND].copy()
            for code, symbol in enumerate(scanned.symbols):
                # A symbol with scales of its own, or with a name that is refused, goes the strict way.
                if symbol in self.set_apart or _refused(symbol):
                    kinds[scanned.lines[:, scan.SYMBOL_CODE] == code] = scan.SLOW
            yield self._fast_batch(scanned, kinds, rows)
            slow = [
                record
                for row in np.flatnonzero(kinds == scan.SLOW).tolist()
                for record in self._strict(
                    block[scanned.lines[row, scan.START] : scanned.lines[row, scan.END]], rows + row + 1
                )
            ]
            if slow:
                yield to_batch(slow)
            rows += len(kinds)
        if self.pending:
            yield to_batch([self._place(record) for record in self.pending])

    def _fast_batch(self, scanned: scan.Scan, kinds: NDArray[np.int64], rows: int) -> pa.RecordBatch:
        chosen = np.flatnonzero(kinds > scan.BLANK)
        lines, kinds = scanned.lines[chosen], kinds[chosen]
        futures = lines[:, scan.FUTURES] > 0
        self._remember_depth(scanned, lines, kinds, futures)
        event_times = lines[:, scan.EVENT_TIME]
        trade_times = lines[:, scan.TRADE_TIME]
        # Trades and futures carry their transaction time T; spot depth has only E.
        printed = np.where(trade_times >= 0, trade_times, event_times)
        is_trade = (kinds == scan.TRADE) | (kinds == scan.AGG_TRADE)
        names = [[exchange_of(symbol, market) for market in (False, True)] for symbol in scanned.symbols]
        codes = lines[:, scan.SYMBOL_CODE]
        side = np.where(lines[:, scan.BUYER_IS_MAKER] > 0, 2, 1)
        side[~is_trade | (lines[:, scan.IN_BOOK] <= 0)] = 0
        columns: dict[str, Any] = {
            "record": _labels(kinds, [_RECORD_OF.get(kind, ("", ""))[0] for kind in range(7)]),
            "kind": _labels(kinds, [_RECORD_OF.get(kind, ("", ""))[1] for kind in range(7)]),
            "exchange": _labels(codes * 2 + futures, [name for pair in names for name in pair]),
            "symbol": _labels(codes, scanned.symbols),
            "timestamp": self._nanoseconds(printed),
            "received": lines[:, scan.RECEIVED],
            "sequence": lines[:, scan.LAST_ID],
            "source_file": _labels(np.zeros(len(chosen), np.int64), [self.path]),
            "source_row": chosen + (rows + 1),
            "is_snapshot": np.zeros(len(chosen), np.bool_),
            "first_sequence": np.where(kinds == scan.DEPTH, lines[:, scan.FIRST_ID], NOT_GIVEN),
            "prev_sequence": np.where(kinds == scan.DEPTH, lines[:, scan.PREVIOUS_ID], NOT_GIVEN),
            "checksum": np.full(len(chosen), NOT_GIVEN),
            "trade_id": np.where(is_trade, lines[:, scan.LAST_ID], NOT_GIVEN),
            "side": _labels(side, ["", "buy", "sell"]),
            "price": lines[:, scan.PRICE],
            "size": lines[:, scan.SIZE],
            "reason": _labels(np.zeros(len(chosen), np.int64), [""]),
            "raw": pa.array([b""], pa.binary()).take(pa.array(np.zeros(len(chosen), np.int64))),
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
        return pa.RecordBatch.from_arrays(
            [pa.array(columns[name]) for name in RECORDS.names], schema=RECORDS.arrow
        )

    def _remember_depth(
        self,
        scanned: scan.Scan,
        lines: NDArray[np.int64],
        kinds: NDArray[np.int64],
        futures: NDArray[np.bool_],
    ) -> None:
        depth = kinds == scan.DEPTH
        for pair in np.unique(lines[depth, scan.SYMBOL_CODE] * 2 + futures[depth]).tolist():
            self.depth_symbols.add((scanned.symbols[pair // 2], bool(pair % 2)))

    def _strict(self, line: bytes, row: int) -> Iterator[dict[str, Any]]:
        line = line.removesuffix(b"\r")
        try:
            record = read_line(line, self.scale_of)
        except (ValueError, InputError) as error:
            yield self._quarantined(line, row, str(error))
            return
        if record is None:
            return
        record |= {"source_file": self.path, "source_row": row}
        if "pending" in record:
            self.pending.append(record | {"line": line})
            return
        if record["record"] == "book_update":
            self.depth_symbols.add((record["symbol"], record["exchange"] != "BINANCE"))
        yield self._timed(record)

    def _place(self, record: dict[str, Any]) -> dict[str, Any]:
        message, line = record.pop("pending"), record.pop("line")
        candidates = sorted(symbol for symbol, futures in self.depth_symbols if futures == ("T" in message))
        if len(candidates) != 1:
            found = ", ".join(candidates[:5]) or "none"
            reason = (
                f"a snapshot names no symbol, and its file must hold the depth of just one: found {found}"
            )
            return self._quarantined(line, record["source_row"], reason)
        try:
            placed = record | place_snapshot(message, candidates[0], self.scale_of)
        except (ValueError, InputError) as error:
            return self._quarantined(line, record["source_row"], str(error))
        return self._timed(placed)

    def _timed(self, record: dict[str, Any]) -> dict[str, Any]:
        printed = np.array([record["timestamp"]], dtype=np.int64)
        return record | {"timestamp": int(self._nanoseconds(printed)[0])}

    def _quarantined(self, line: bytes, row: int, reason: str) -> dict[str, Any]:
        return EMPTY_RECORD | {
            "record": "quarantine",
            "source_file": self.path,
            "source_row": row,
            "reason": reason,
            "raw": line,
        }

    def _nanoseconds(self, printed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Convert times as printed to ns; -1 stays -1. One unit a file, by magnitude."""
        given = printed >= 0
        if not given.any():
            return printed
        units = {_unit(int(printed[given].min())), _unit(int(printed[given].max()))}
        units.add(self.nanoseconds_per_unit or max(units))
        if len(units) > 1:
            raise InputError("event times mix units (milliseconds, microseconds or nanoseconds)")
        self.nanoseconds_per_unit = units.pop()
        return np.where(given, printed * self.nanoseconds_per_unit, NOT_GIVEN)


def _unit(time: int) -> int:
    return next(unit for bound, unit in _UNITS if time < bound)


def _refused(symbol: str) -> bool:
    try:
        valid_name(symbol, "symbol")
    except InputError:
        return True
    return False


def _labels(codes: NDArray[np.int64], labels: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(labels, pa.string())).cast(pa.string())


def _lists(starts: NDArray[np.int64], ends: NDArray[np.int64], values: NDArray[np.int64]) -> pa.Array:
    """Make the lists ``values[starts[i]:ends[i]]``; without a copy where they lie end to end."""
    lengths = ends - starts
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    if np.array_equal(starts[1:], ends[:-1]):
        values = values[starts[0] : ends[-1]] if len(starts) else values[:0]
    else:
        values = values[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])]
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
