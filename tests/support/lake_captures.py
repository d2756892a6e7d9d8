"""Turn a recorded Binance capture into a Crypto Lake day with the vendor's faults, and keep true books.

This file is an oracle, so it imports nothing of deltabook. All prices and sizes are integers, scaled by 10^8.
A value of -1 means that the value is not given.

- Capture: lines of the form `<receive time, ns> <JSON>`. The true book starts from the REST snapshot. All
  diffs with ids above the snapshot's id follow in the order of their ids, even if they were received before
  the snapshot. A broken chain of ids is an error.
- Day: it starts `START_NS` after the first applied diff, by the receive clock. Files are split at UTC
  midnight.
- The exchange's best prices after a diff: those of the last ticker with an id up to the diff's `u`, even if
  the id is below `U`. If there is no such ticker, the best prices have not changed.
- A message is judged if the exchange's best prices equal those of the true book, and a ticker with an id of
  at least `u` exists. Otherwise the ticker is older than the last change of the diff. This rule leaves out 3
  messages of the spot captures, and no message of the USD-M captures.

Usage: python tests/support/lake_captures.py OUT --market spot|usdm [--lost-deletes 0.01 …]
"""

from __future__ import annotations

import argparse
import gzip
import json
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import gcd
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from places import REAL_DATA

DIGITS = 8
UNIT = 10**DIGITS
SECOND, MINUTE, DAY = 10**9, 60 * 10**9, 86_400 * 10**9
START_NS = 3 * SECOND
"""Time between the first applied diff and the first written one, ns."""
DEPTHS = {"book": 20, "level_1": 1, "book_1m": 1_000, "deep_book_1m": 1_000}
"""Levels per side. `level_1` has the rows and the faults of `book`; tables by the minute have no faults."""
TABLES = ("book_delta_v2", "trades", *DEPTHS)
NOT_GIVEN = -1
_HEAD = [("origin_time", pa.int64()), ("received_time", pa.int64()), ("sequence_number", pa.int64())]
_FILE_NAMES = {"origin_time": "timestamp", "received_time": "receipt_timestamp"}
_FILE_NAMES |= {"quantity": "amount", "trade_id": "id"}
_TIME_ROUNDING = 256
"""A receive time that looks like a rounded float may come back changed by so much, ns."""
TOLD = ("verified", "checked", "unverifiable")
MARKETS = {
    "spot": ("BINANCE", "BTC-USDT", ("spot/btcusdt_20240808.gz", "spot/btcusdt_20240809.gz")),
    "usdm": ("BINANCE_FUTURES", "BTC-USDT-PERP", ("usdm/btcusdt_20240718.gz", "usdm/btcusdt_20240719.gz")),
}
"""{market: (exchange, symbol, captures below `binance` of the real data)}."""


def find_captures(market: str) -> tuple[str, str, list[Path]]:
    """Return exchange, symbol and files of a market's real captures."""
    exchange, symbol, names = MARKETS[market]
    return exchange, symbol, [REAL_DATA / "binance" / name for name in names]


Level = tuple[int, int]  # price, size
Levels = list[Level]


class Diff(NamedTuple):
    """One depth update: ids `U`, `u`, the id that it follows, times in ns, and changes of (price, size)."""

    first: int
    last: int
    follows: int
    received: int
    origin: int
    bids: Levels
    asks: Levels


class Trade(NamedTuple):
    """One trade; times in ns."""

    id: int
    received: int
    origin: int
    side: str
    price: int
    size: int


class Side:
    """One side of a book: sizes by price, and its prices from the best on (those of bids are negated)."""

    def __init__(self, sign: int):
        self.sign, self.sizes, self.order = sign, dict[int, int](), list[int]()

    def change(self, price: int, size: int) -> None:
        key = self.sign * price
        if size:
            if price not in self.sizes:
                insort(self.order, key)
            self.sizes[price] = size
        elif self.sizes.pop(price, 0):
            del self.order[bisect_left(self.order, key)]

    def is_within(self, price: int, depth: int) -> bool:
        """Return whether a level at this price is one of the best `depth` levels."""
        return price in self.sizes and bisect_left(self.order, self.sign * price) < depth

    def top(self, depth: int) -> Levels:
        return [(self.sign * key, self.sizes[self.sign * key]) for key in self.order[:depth]]


class Book:
    """The true book, bids and asks."""

    def __init__(self, bids: Levels, asks: Levels):
        self.bids, self.asks = Side(-1), Side(1)
        self.apply(bids, asks)

    def apply(self, bids: Levels, asks: Levels) -> None:
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, size in levels:
                side.change(price, size)


@dataclass(frozen=True)
class Capture:
    """A snapshot, the diffs above its id, trades, and tickers (id, bid, size, ask, size)."""

    bids: Levels
    asks: Levels
    diffs: list[Diff]
    trades: list[Trade]
    tickers: np.ndarray

    def books(self) -> Iterator[tuple[Diff, Book]]:
        """Yield each diff and the true book after it; it is the same book, changed each time."""
        book = Book(self.bids, self.asks)
        for diff in self.diffs:
            book.apply(diff.bids, diff.asks)
            yield diff, book


def scaled(text: str) -> int:
    """Return a printed number times 10^8, exactly."""
    whole, _, fraction = text.partition(".")
    if len(fraction) > DIGITS:
        raise ValueError(f"expected at most {DIGITS} decimals, found {text}")
    return int(whole + fraction.ljust(DIGITS, "0"))


def read_capture(paths: Sequence[Path]) -> Capture:
    """Read the files of one capture, in their order."""
    snapshot, diffs, trades, tickers = None, [], [], []
    for path in paths:
        with gzip.open(path, "rb") as lines:
            for line in lines:
                time, _, text = line.partition(b" ")
                received, message = int(time), json.loads(text)
                if "lastUpdateId" in message:
                    snapshot = snapshot or message
                    continue
                stream, data = message["stream"], message["data"]
                if "@depth" in stream:
                    sides = (_read_levels(data["b"]), _read_levels(data["a"]))
                    follows = data.get("pu", data["U"] - 1)
                    diffs.append(Diff(data["U"], data["u"], follows, received, data["E"] * 10**6, *sides))
                elif "@bookTicker" in stream:
                    tickers.append((data["u"], *(scaled(data[name]) for name in "bBaA")))
                elif "@trade" in stream and data.get("X", "MARKET") == "MARKET":
                    numbers = (scaled(data["p"]), scaled(data["q"]))
                    side = "sell" if data["m"] else "buy"
                    trades.append(Trade(data["t"], received, data["T"] * 10**6, side, *numbers))
    if snapshot is None:
        raise ValueError(f"no REST snapshot in {', '.join(map(str, paths))}")
    last_id = snapshot["lastUpdateId"]
    applied = sorted(diff for diff in diffs if diff.last > last_id)
    for index, diff in enumerate(applied):
        expected = applied[index - 1].last if index else min(diff.follows, last_id)
        if diff.follows != expected:
            raise ValueError(
                f"diff {diff.last} follows {diff.follows}, expected {expected}: diffs are missing"
            )
    rows = np.array(sorted(tickers), dtype=np.int64).reshape(-1, 5)
    return Capture(_read_levels(snapshot["bids"]), _read_levels(snapshot["asks"]), applied, trades, rows)


def _read_levels(levels: list[list[str]]) -> Levels:
    return [(scaled(price), scaled(size)) for price, size in levels]


@dataclass(frozen=True)
class LakeDay:
    """Written files, and the truth after each written message of `book_delta_v2` (arrays of n, by time)."""

    paths: dict[str, list[Path]]  # files by table
    counts: dict[str, int]  # messages, deletes, lost_messages (all rows lost) …, and rows of each table
    capture: Capture = field(repr=False)
    places: np.ndarray  # int64[n]: of the written messages in `capture.diffs`
    ids: np.ndarray  # int64[n]: as written; 0 without ids
    epochs: np.ndarray  # int64[n]: 1 after the restart of ids, else 0
    keys: np.ndarray  # int64[n]: what books call the message: its id, or without ids its receive time
    received: np.ndarray  # int64[n], ns
    origin: np.ndarray  # int64[n], ns, on the exchange's clock
    exchange: np.ndarray  # int64[n, 2]: the exchange's best bid and ask by its ticker
    best: np.ndarray  # int64[n, 4]: bid price, bid size, ask price, ask size of the true book
    judged: np.ndarray  # bool[n]: whether the exchange's best is certain (see above)
    lost: np.ndarray  # int64[n]: deletes left out of the message
    book_ids: np.ndarray  # int64[m]: of the rows of `book`
    book_faults: np.ndarray  # str[m]: `crossed`, `wrong` or empty

    def iterate_levels(self, depth: int) -> Iterator[tuple[int, Levels, Levels]]:
        """Yield (index of a written message, best bids, best asks) of the true book after it."""
        index = 0
        for place, (_, book) in enumerate(self.capture.books()):
            if index < len(self.places) and place == self.places[index]:
                yield index, book.bids.top(depth), book.asks.top(depth)
                index += 1

    def levels(self, depth: int) -> np.ndarray:
        """Return the true levels after each written message, int64[n, 4, depth], `NOT_GIVEN` beyond the book.

        The parts are bid prices, bid sizes, ask prices and ask sizes.
        """
        result = np.full((len(self.places), 4, depth), NOT_GIVEN)
        if depth == 1:
            result[:, :, 0] = self.best
            return result
        for index, bids, asks in self.iterate_levels(depth):
            result[index, :2, : len(bids)] = np.array(bids).T
            result[index, 2:, : len(asks)] = np.array(asks).T
        return result

    def top_levels(self, key: int, depth: int, epoch: int = 0) -> tuple[Levels, Levels]:
        """Return the true best bids and asks after the message that the books call `key`."""
        (index,) = np.flatnonzero((self.keys == key) & (self.epochs == epoch))
        return next((bids, asks) for at, bids, asks in self.iterate_levels(depth) if at == index)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What the vendor loses and spoils. Faults of deltas and of books are drawn independently."""

    lost_deletes: float = 0.0
    """Share left out of the deletes of near-top levels: the best `lost_near_top_levels` of their side
    of the true book before the diff."""
    lost_near_top_levels: int = 20
    vendor_crossed: float = 0.0
    """Share of rows of `book` with stale levels beyond the other side's best; each row is drawn by itself."""
    vendor_wrong: float = 0.0
    """Share of rows of `book` that are not crossed, but lack 1 to 3 best levels of a side or of both."""
    book_every_ns: int = 333_000_000
    """Time between rows of `book`. A row follows a diff by 1 to 5 ms, on both clocks."""
    late_ns: int = 0
    """Time cut from the start of the day, of all tables."""
    restart_ids_at: float | None = None
    """Fraction of the day's time from which on ids start again near 1, in deltas and books."""
    without_ids: bool | Literal["absent"] = False
    """Whether ids of deltas are 0 (true) or their column is left out; books keep their ids."""
    missing_stretch: tuple[float, float] | None = None
    """Fractions of the day's time between which deltas are left out; the end is exclusive."""
    seed: int = 0


def write_lake_day(
    folder: Path,
    captures: Capture | Sequence[Path],
    *,
    exchange: str,
    symbol: str,
    tables: Sequence[str] = ("book_delta_v2", "trades", "book"),
    spelling: Literal["lakeapi", "file"] = "lakeapi",
    **faults: Any,
) -> LakeDay:
    """Write a capture (or its files, in order) as the vendor ships it, and return the truth.

    `spelling`: `lakeapi` names columns as its reader does, times are timestamps; `file` names them as the
    files do, times are int64 ns, and the exchange's time was a float of seconds. `faults`: see `Faults`.
    """
    if unknown := set(tables) - set(TABLES):
        raise ValueError(f"unknown tables: {', '.join(sorted(unknown))}. Choose from {', '.join(TABLES)}")
    capture = captures if isinstance(captures, Capture) else read_capture(captures)
    recorder = _Recorder(capture, Faults(**faults))
    recorder.record()
    written = {table: recorder.make_table(table) for table in tables}
    paths = {
        name: _write(Path(folder) / name / f"exchange={exchange}" / f"symbol={symbol}", table, spelling)
        for name, table in written.items()
    }
    return recorder.make_day(paths, {name: table.num_rows for name, table in written.items()})


class _Recorder:
    """What the vendor records of a capture, and the truth beside it."""

    def __init__(self, capture: Capture, faults: Faults):
        self.capture, self.faults = capture, faults
        self.start = capture.diffs[0].received + START_NS + faults.late_ns
        length = capture.diffs[-1].received - self.start
        if length < 0:
            raise ValueError("the capture ends before the day starts: lower late_ns")
        self.missing = [self.start + int(part * length) for part in faults.missing_stretch or (0, 0)]
        restart_at = 2 if faults.restart_ids_at is None else faults.restart_ids_at
        self.restart = self.start + int(restart_at * length)
        self.restart_id = next((diff.first for diff in capture.diffs if diff.received >= self.restart), 0)
        self.delta_random, self.book_random = (np.random.default_rng([faults.seed, part]) for part in (0, 1))
        self.tick = gcd(*(price for price, _ in capture.bids + capture.asks))
        self.deltas: list[tuple] = []
        self.messages: list[tuple] = []
        self.books: list[tuple] = []
        self.minutes: list[tuple] = []
        self.counts = dict.fromkeys(("deletes", "near_top_deletes", "lost_deletes", "lost_messages"), 0)

    def record(self) -> None:
        """Fill `deltas`, `messages` (the truth), `books` and `minutes`."""
        every = self.faults.book_every_ns
        book_due, minute_due = self.start + every, -(-self.start // MINUTE) * MINUTE
        book = Book(self.capture.bids, self.capture.asks)
        for place, diff in enumerate(self.capture.diffs):
            epoch = int(diff.received >= self.restart)
            sequence = diff.last - self.restart_id + 1 if epoch else diff.last
            rows, lost = self._make_deltas(diff, sequence, book) if self._is_written(diff) else ([], 0)
            book.apply(diff.bids, diff.asks)
            self.deltas += rows
            if rows:
                best = (*book.bids.top(1)[0], *book.asks.top(1)[0])
                ids = (place, diff.last, sequence, epoch)
                self.messages.append((*ids, diff.received, diff.origin, lost, *best))
            if diff.received >= book_due:
                book_due += every * ((diff.received - book_due) // every + 1)
                self.books.append(self._make_book(diff, sequence, book))
            if diff.received >= minute_due:
                minute_due = (diff.received // MINUTE + 1) * MINUTE
                times = (diff.origin + 10**6, diff.received + 10**6)
                self.minutes.append((*times, sequence, "", book.bids.top(1_000), book.asks.top(1_000)))

    def _is_written(self, diff: Diff) -> bool:
        first, end = self.missing
        return diff.received >= self.start and not first <= diff.received < end

    def _make_deltas(self, diff: Diff, sequence: int, book: Book) -> tuple[list[tuple], int]:
        """Return the rows of a diff, and the number of deletes left out; `book` is the book before it."""
        rows, deletes, near_top, lost = [], 0, 0, 0
        written_id = 0 if self.faults.without_ids else sequence
        for is_bid, side, changes in ((True, book.bids, diff.bids), (False, book.asks, diff.asks)):
            for price, size in changes:
                is_near_top = not size and side.is_within(price, self.faults.lost_near_top_levels)
                is_lost = is_near_top and self.delta_random.random() < self.faults.lost_deletes
                deletes, near_top, lost = deletes + (not size), near_top + is_near_top, lost + is_lost
                if not is_lost:
                    rows.append((diff.origin, diff.received, written_id, is_bid, price / UNIT, size / UNIT))
        found = (deletes, near_top, lost, int(lost and not rows))
        self.counts = {name: self.counts[name] + n for name, n in zip(self.counts, found, strict=True)}
        return rows, lost

    def _make_book(self, diff: Diff, sequence: int, book: Book) -> tuple:
        """Return a row of `book`: times, id, fault, bids, asks."""
        faults, random = self.faults, self.book_random
        delay, draw = int(random.integers(10**6, 5 * 10**6)), random.random()
        sides = [book.bids.top(DEPTHS["book"] + 3), book.asks.top(DEPTHS["book"] + 3)]
        fault, which, count = "", int(random.integers(3)), int(random.integers(1, 4))
        if draw < faults.vendor_crossed:
            fault, which = "crossed", which % 2
            best = sides[1 - which][0][0]
            ticks = np.cumsum(random.integers(1, 30, count))[::-1].tolist()
            away = self.tick if which == 0 else -self.tick  # stale bids are above the best ask
            stale = [(best + away * steps, sides[which][0][1]) for steps in ticks]
            sides[which] = stale + sides[which]
        elif draw < faults.vendor_crossed + faults.vendor_wrong:
            fault = "wrong"
            sides = [levels[count:] if which in (side, 2) else levels for side, levels in enumerate(sides)]
        return (diff.origin + delay, diff.received + delay, sequence, fault, *sides)

    def make_table(self, name: str) -> pa.Table:
        """Return a table of the vendor, with the columns of its reader."""
        if name == "book_delta_v2":
            return _make_table(
                [*_HEAD, ("side_is_bid", pa.bool_()), ("price", pa.float64()), ("size", pa.float64())],
                self.deltas,
            ).drop_columns(["sequence_number"] if self.faults.without_ids == "absent" else [])
        if name == "trades":
            names = [("trade_id", pa.int64()), ("side", pa.string())]
            names += [("price", pa.float64()), ("quantity", pa.float64())]
            rows = [
                (trade.origin, trade.received, trade.id, trade.side, trade.price / UNIT, trade.size / UNIT)
                for trade in self.capture.trades
                if trade.received >= self.start
            ]
            return _make_table([*_HEAD[:2], *names], rows)
        depth, columns = DEPTHS[name], list(_HEAD)
        for side in ("bid", "ask"):
            for level in range(depth):
                columns += [(f"{side}_{level}_price", pa.float64()), (f"{side}_{level}_size", pa.float64())]
        return _make_table(
            columns,
            [
                (*times_and_id, *_flatten(bids, depth), *_flatten(asks, depth))
                for *times_and_id, _, bids, asks in (self.minutes if name.endswith("_1m") else self.books)
            ],
        )

    def make_day(self, paths: dict[str, list[Path]], rows: dict[str, int]) -> LakeDay:
        """Return the truth of the written messages."""
        values = np.array(self.messages, dtype=np.int64).reshape(-1, 11)
        place, last, ids, epochs, received, origin, lost = values[:, :7].T
        best = values[:, 7:]
        tickers = np.vstack([np.full((1, 5), NOT_GIVEN), self.capture.tickers])
        ticker = tickers[np.searchsorted(self.capture.tickers[:, 0], last, side="right")][:, [1, 3]]
        judged = (ticker == best[:, [0, 2]]).all(axis=1) & (last <= tickers[-1, 0])
        keys, ids = (received, np.zeros_like(ids)) if self.faults.without_ids else (ids, ids)
        return LakeDay(
            paths,
            {"messages": len(values)} | self.counts | rows,
            self.capture,
            *(place, ids, epochs, keys, received, origin, ticker, best, judged, lost),
            book_ids=np.array([row[2] for row in self.books], dtype=np.int64),
            book_faults=np.array([row[3] for row in self.books], dtype=str),
        )


def _flatten(levels: Levels, depth: int) -> list[float | None]:
    """Return price and size of each level, filled up with nulls."""
    values = [value / UNIT for level in levels[:depth] for value in level]
    return [*values, *[None] * (2 * depth - len(values))]


def _make_table(columns: list[tuple[str, pa.DataType]], rows: list[tuple]) -> pa.Table:
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [pa.array(column, type_) for column, (_, type_) in zip(values, columns, strict=True)]
    return pa.table(arrays, [name for name, _ in columns])


def _write(folder: Path, table: pa.Table, spelling: str) -> list[Path]:
    """Write a table below `dt=` folders, one file for each UTC day of receive times; return the files."""
    days = table["received_time"].to_numpy() // DAY
    if spelling == "file":
        seconds = table["origin_time"].to_numpy() / SECOND
        table = table.set_column(0, "origin_time", pa.array((seconds * SECOND).astype(np.int64)))
        table = table.rename_columns([_FILE_NAMES.get(name, name) for name in table.column_names])
    else:
        times = [table[index].cast(pa.timestamp("ns")) for index in range(2)]
        table = table.set_column(0, "origin_time", times[0]).set_column(1, "received_time", times[1])
    paths = []
    for day in np.unique(days).tolist():
        path = folder / f"dt={np.datetime64(day, 'D')}" / "1.snappy.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.filter(pa.array(days == day)), path, compression="snappy")
        paths.append(path)
    return paths


@dataclass(frozen=True)
class Judgement:
    """How books compare with the truth, over the judged messages of a day."""

    messages: int
    judged: int  # messages whose best the exchange proves
    told: int  # judged ones with a book of a status in `TOLD`, and with known best levels if rows say so
    right: int  # told ones whose best bid and ask prices are the exchange's
    wrong: int
    levels_right: int  # told ones whose known levels, of the best `depth`, are those of the true book
    first_wrong: list[dict[str, Any]]  # the first ten

    @property
    def share_told(self) -> float:
        return self.told / self.judged if self.judged else 0.0

    @property
    def share_right(self) -> float:
        """Share of told ones that are right; 1 if none is told."""
        return self.right / self.told if self.told else 1.0


def judge_books(rows: pa.Table, day: LakeDay, depth: int = 1, scales: tuple[int, int] = (8, 8)) -> Judgement:
    """Compare rows of the table `books`, in order, with the truth after each message.

    A message is compared with the newest row up to its id: the last one of the greatest `sequence`, within
    its epoch if there is a column `epoch`. Other columns: `status`, `bid_prices`, `bid_sizes`, `ask_prices`,
    `ask_sizes`: decimals, or integers scaled by `scales` digits (of prices, of sizes; at most 8).
    """
    sequence = rows["sequence"].to_numpy()
    has_epochs = "epoch" in rows.column_names
    epoch = rows["epoch"].to_numpy() if has_epochs else np.zeros_like(sequence)
    order = np.lexsort((sequence, epoch))  # stable: rows of one id stay in order
    reach = day.keys + (_TIME_ROUNDING if not day.ids.any() else 0)
    index = np.full(len(reach), NOT_GIVEN)
    for number in np.unique(day.epochs).tolist():
        first, end = np.searchsorted(epoch[order], [number, number + 1]) if has_epochs else (0, len(order))
        here = day.epochs == number
        found = first + np.searchsorted(sequence[order][first:end], reach[here], side="right") - 1
        index[here] = np.where(found >= first, order[np.maximum(found, 0)] if len(order) else 0, NOT_GIVEN)
    exists = index >= 0
    taken = rows.take(pa.array(np.maximum(index, 0))) if len(order) else rows
    status = np.where(exists, taken["status"].to_pylist() if len(order) else "", "")
    told = day.judged & np.isin(status, TOLD)
    known = np.full((len(index), 2), depth)
    if "bid_known_levels" in rows.column_names and len(order):
        known = np.stack([taken[f"{side}_known_levels"].to_numpy() for side in ("bid", "ask")], axis=1)
        told &= (known > 0).all(axis=1)
    levels = np.full((len(index), 4, depth), NOT_GIVEN)
    for part, name in enumerate(("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")):
        if len(order):
            levels[:, part] = _read_levels_of(taken[name].combine_chunks(), depth, scales[part % 2])
    right = told & (levels[:, [0, 2], 0] == day.exchange).all(axis=1)
    is_known = np.arange(depth) < known[:, [0, 0, 1, 1], None]
    levels_right = told & ((levels == day.levels(depth)) | ~is_known).all(axis=(1, 2))
    wrong = np.flatnonzero(told & ~right)
    first_wrong = [
        {
            "message": at,
            "key": int(day.keys[at]),
            "received": int(day.received[at]),
            "status": str(status[at]),
            "row_sequence": int(sequence[index[at]]),
            "book": [price / UNIT for price in levels[at, [0, 2], 0].tolist()],
            "exchange": [price / UNIT for price in day.exchange[at].tolist()],
            "deletes_lost_so_far": int(day.lost[: at + 1].sum()),
        }
        for at in wrong[:10].tolist()
    ]
    counts = [int(np.count_nonzero(part)) for part in (day.judged, told, right)]
    return Judgement(len(index), *counts, len(wrong), int(np.count_nonzero(levels_right)), first_wrong)


def _read_levels_of(column: pa.ListArray, depth: int, scale: int) -> np.ndarray:
    """Return the first `depth` numbers of each list times 10^8, int64[n, depth]; else `NOT_GIVEN`."""
    offsets = column.offsets.to_numpy()
    places = offsets[:-1, None] + np.arange(depth)
    is_given = places < offsets[1:, None]
    numbers = column.values.take(pa.array(places[is_given]))
    result = np.full(places.shape, NOT_GIVEN)
    if pa.types.is_integer(numbers.type):
        result[is_given] = numbers.to_numpy() * 10 ** (DIGITS - scale)
    else:
        result[is_given] = [int(Decimal(number).scaleb(DIGITS)) for number in numbers.to_pylist()]
    return result


def main() -> None:
    """Write a day of the real captures and print its counts."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path, help="folder of the tables")
    parser.add_argument("--market", choices=MARKETS, default="spot")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=["book_delta_v2", "trades", "book"])
    parser.add_argument("--spelling", choices=("lakeapi", "file"), default="lakeapi")
    parser.add_argument("--without-ids", action="store_true", help="write 0 as the id of each delta")
    parser.add_argument("--missing-stretch", nargs=2, type=float, metavar=("FROM", "TO"))
    for name in ("lost_deletes", "vendor_crossed", "vendor_wrong", "restart_ids_at"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(Faults, name))
    for name in ("lost_near_top_levels", "book_every_ns", "late_ns", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Faults, name))
    options = vars(parser.parse_args())
    exchange, symbol, captures = find_captures(options.pop("market"))
    day = write_lake_day(options.pop("out"), captures, exchange=exchange, symbol=symbol, **options)
    print(json.dumps(day.counts | {"judged": int(day.judged.sum())}))  # noqa: T201


if __name__ == "__main__":
    main()
