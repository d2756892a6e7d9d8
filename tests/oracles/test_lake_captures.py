"""A Crypto Lake day made from a small capture has the intended faults, and its true books are right."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake_captures import MARKETS, UNIT, find_captures, judge_books, read_capture, write_lake_day

DIFFS, IDS = 200, 5
T0 = 1_723_161_595_000_000_000  # five seconds before midnight UTC
STEP = 100_000_000
CENT = UNIT // 100
NAMES = {"exchange": "BINANCE", "symbol": "BTC-USDT"}
LEVELS = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")


def dollars(value):
    return f"{value // 100}.{value % 100:02d}000000"


def levels_of(changes):
    return [[dollars(price), dollars(size)] for price, size in changes.items()]


def simulate_books():
    """Books in cents, [bids, asks] after each diff: a walking mid, and levels that come and go."""
    random = np.random.default_rng(5)
    mid, books = 10_000, []
    last = [{}, {}]
    for _ in range(DIFFS):
        mid += int(random.integers(-1, 2))
        book = [{}, {}]
        for side, sign in enumerate((-1, 1)):
            for away in range(1, 40):
                price = mid + sign * away
                kept = last[side].get(price, 0)
                if random.random() < 0.8:
                    book[side][price] = (
                        kept if kept and random.random() < 0.8 else int(random.integers(1, 500))
                    )
        books.append(book)
        last = book
    return books


@pytest.fixture(scope="module")
def books():
    return simulate_books()


@pytest.fixture(scope="module")
def capture(books, tmp_path_factory):
    """Diff n has the ids 5n + 1 to 5n + 5; the snapshot, after the third diff, holds the first two."""
    files = [[], []]
    before = [{}, {}]
    for index, book in enumerate(books):
        time, last_id = T0 + index * STEP, IDS * (index + 1)
        lines = files[index // 150]
        sides = [
            {price: new.get(price, 0) for price in old | new if old.get(price) != new.get(price)}
            for old, new in zip(before, book, strict=True)
        ]
        before = book
        bids, asks = map(levels_of, sides)
        ids = {"E": time // 10**6 + 900, "U": last_id - IDS + 1, "u": last_id, "b": bids, "a": asks}
        bid, ask = max(book[0]), min(book[1])
        best = dict(zip("bBaA", map(dollars, (bid, book[0][bid], ask, book[1][ask])), strict=True))
        trade = {"t": index, "T": time // 10**6, "p": best["a"], "q": "0.50000000", "m": index % 2 == 0}
        lines.append((time, {"stream": "x@depth@100ms", "data": ids}))
        lines.append((time + 10, {"stream": "x@trade", "data": trade}))
        if index % 10:  # the ticker of every tenth diff is missing
            lines.append((time + 20, {"stream": "x@bookTicker", "data": {"u": last_id - 1} | best}))
        if index == 2:
            bids, asks = map(levels_of, books[1])
            lines.append((time + 30, {"lastUpdateId": 2 * IDS, "bids": bids, "asks": asks}))
    folder, paths = tmp_path_factory.mktemp("capture"), []
    for number, lines in enumerate(files):
        paths.append(folder / f"{number}.gz")
        paths[-1].write_bytes(
            gzip.compress(b"".join(b"%d %s\n" % (t, json.dumps(d).encode()) for t, d in lines))
        )
    return read_capture(paths)


def read(day, table):
    return pa.concat_tables(pq.ParquetFile(path).read() for path in day.paths[table]).to_pydict()


def delta_keys(day):
    rows = read(day, "book_delta_v2")
    return list(
        zip(*(rows[name] for name in ("sequence_number", "side_is_bid", "price", "size")), strict=True)
    )


def book_of(row, columns, depth=20):
    """Levels of a row of `book`, in cents: [bids, asks] as lists of (price, size)."""
    sides = []
    for side in ("bid", "ask"):
        cells = [
            [columns[f"{side}_{level}_{what}"][row] for what in ("price", "size")] for level in range(depth)
        ]
        sides.append([(round(p * 100), round(s * 100)) for p, s in cells if p is not None])
    return sides


def true_tops(book, depth=20):
    return [sorted(book[0].items(), reverse=True)[:depth], sorted(book[1].items())[:depth]]


def test_diffs_before_the_snapshot_are_kept_and_older_ones_dropped(capture):
    assert [diff.last for diff in capture.diffs] == [IDS * (index + 1) for index in range(2, DIFFS)]


def test_a_missing_diff_is_an_error(capture, tmp_path):
    line = {"stream": "x@depth", "data": {"E": 1, "U": 9, "u": 9, "b": [], "a": []}}
    path = tmp_path / "gap.gz"
    snapshot = {"lastUpdateId": 7, "bids": [], "asks": []}
    path.write_bytes(gzip.compress(f"1 {json.dumps(snapshot)}\n2 {json.dumps(line)}\n".encode()))
    with pytest.raises(ValueError, match="diff 9 follows 8, expected 7"):
        read_capture([path])


def test_day_starts_in_mid_stream_and_its_truth_is_the_book(capture, books, tmp_path):
    day = write_lake_day(tmp_path, capture, **NAMES)
    first = 2 + 30  # three seconds after the first applied diff
    assert day.ids.tolist() == [IDS * (index + 1) for index in range(first, DIFFS)]
    assert day.received[0] == T0 + first * STEP
    assert [path.parent.name for path in day.paths["book"]] == ["dt=2024-08-08", "dt=2024-08-09"]
    truth = [true_tops(books[index]) for index in range(first, DIFFS)]
    found = [
        [[(price // CENT, size // CENT) for price, size in side] for side in sides]
        for _, *sides in day.iterate_levels(20)
    ]
    assert found == truth
    assert day.best.tolist() == [[v * CENT for side in tops for v in side[0]] for tops in truth]
    assert [[(p // CENT, s // CENT) for p, s in side] for side in day.top_levels(500, 20)] == true_tops(
        books[99]
    )
    with_ticker = np.arange(first, DIFFS) % 10 > 0
    assert not day.judged[-1]  # the last ticker is older
    assert day.judged[:-1][with_ticker[:-1]].all()
    book = {True: dict(books[first - 1][0]), False: dict(books[first - 1][1])}
    for sequence, is_bid, price, size in delta_keys(day):
        book[is_bid][round(price * 100)] = round(size * 100)
        last = sequence
    assert [{p: s for p, s in book[is_bid].items() if s} for is_bid in (True, False)] == books[-1]
    assert last == IDS * DIFFS
    assert len(read(day, "trades")["trade_id"]) == day.counts["trades"] == DIFFS - first


def test_lost_deletes_are_near_top_and_really_missing(capture, tmp_path):
    clean = write_lake_day(tmp_path / "clean", capture, **NAMES)
    day = write_lake_day(tmp_path / "lost", capture, **NAMES, lost_deletes=0.3, lost_near_top_levels=5)
    lost = set(delta_keys(clean)) - set(delta_keys(day))
    assert len(lost) == day.counts["lost_deletes"] == day.lost.sum()
    assert 0.2 < len(lost) / day.counts["near_top_deletes"] < 0.4
    for sequence, is_bid, price, size in lost:
        near = day.capture.books()
        before = next(book for diff, book in near if diff.last == sequence - IDS)
        levels = (before.bids if is_bid else before.asks).top(5)
        assert size == 0
        assert round(price * UNIT) in [level for level, _ in levels]
    everything = write_lake_day(tmp_path / "all", capture, **NAMES, lost_deletes=1.0)
    assert everything.counts["lost_deletes"] == everything.counts["near_top_deletes"] > 200


def test_share_of_the_vendors_books_is_crossed_or_wrong_and_the_rest_true(capture, books, tmp_path):
    day = write_lake_day(
        tmp_path, capture, **NAMES, vendor_crossed=0.3, vendor_wrong=0.2, book_every_ns=STEP, tables=("book",)
    )
    columns = read(day, "book")
    assert columns["sequence_number"] == day.book_ids.tolist()
    shares = [np.mean(day.book_faults == fault) for fault in ("crossed", "wrong")]
    assert shares == pytest.approx([0.3, 0.2], abs=0.1)
    for row, (sequence, fault) in enumerate(
        zip(day.book_ids.tolist(), day.book_faults.tolist(), strict=True)
    ):
        bids, asks = book_of(row, columns)
        truth = true_tops(books[sequence // IDS - 1])
        assert len(bids) == len(asks) == 20
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert (bids[0] > asks[0]) == (fault == "crossed")
        assert ([bids, asks] == truth) == (not fault)
        if fault == "wrong":
            assert (bids[0], asks[0]) != (truth[0][0], truth[1][0])


def test_ids_restart_and_a_stretch_is_missing(capture, tmp_path):
    day = write_lake_day(tmp_path, capture, **NAMES, restart_ids_at=0.5, missing_stretch=(0.2, 0.3))
    (restart,) = np.flatnonzero(np.diff(day.epochs) == 1) + 1
    assert day.ids[restart : restart + 2].tolist() == [IDS, 2 * IDS]
    assert np.unique(np.diff(day.received)).tolist() == [STEP, 18 * STEP]
    assert np.unique(np.diff(day.book_ids)).min() < 0
    assert sorted(set(read(day, "book_delta_v2")["sequence_number"])) == sorted(set(day.ids.tolist()))


def test_files_without_ids_in_the_spelling_of_files(capture, tmp_path):
    day = write_lake_day(tmp_path, capture, **NAMES, without_ids=True, spelling="file", late_ns=10 * STEP)
    columns = read(day, "book_delta_v2")
    assert set(columns) == {
        "timestamp",
        "receipt_timestamp",
        "sequence_number",
        "side_is_bid",
        "price",
        "size",
    }
    assert set(columns["sequence_number"]) == {0}
    assert sorted(set(columns["receipt_timestamp"])) == day.keys.tolist()
    assert day.keys[0] == T0 + 42 * STEP
    assert {time % 256 for time in columns["timestamp"]} == {0}  # rounded as floats are
    assert {"amount", "id"} < set(read(day, "trades"))
    absent = write_lake_day(
        tmp_path / "absent", capture, **NAMES, without_ids="absent", tables=["book_delta_v2"]
    )
    assert "sequence_number" not in read(absent, "book_delta_v2")


def test_judge_counts_books_that_are_told_and_right(capture, tmp_path):
    day = write_lake_day(tmp_path, capture, **NAMES, tables=("book_1m", "level_1"))
    assert day.counts["book_1m"] == 1
    truth = day.levels(3)
    lists = {name: truth[:, part].tolist() for part, name in enumerate(LEVELS)}
    status = ["unverifiable"] * len(truth)
    status[0] = "unseeded"
    judged = np.flatnonzero(day.judged)
    lists["bid_prices"][judged[5]] = [value - CENT for value in lists["bid_prices"][judged[5]]]
    lists["ask_sizes"][judged[7]][2] += 1
    rows = pa.table({"sequence": day.keys, "status": status, **lists})
    for table in (rows, as_decimals(rows)):
        judgement = judge_books(table, day, depth=3)
        told = len(judged) - int(judged[0] == 0)
        assert (judgement.told, judgement.right, judgement.wrong) == (told, told - 1, 1)
        assert judgement.levels_right == told - 2
        assert judgement.first_wrong[0]["key"] == day.keys[judged[5]]
    sparse = judge_books(rows.take([0]), day)
    assert (sparse.judged, sparse.told, sparse.share_right) == (len(judged), 0, 1.0)
    assert judge_books(rows.slice(0, 0), day).told == 0
    restarted = write_lake_day(tmp_path / "restarted", capture, **NAMES, restart_ids_at=0.5, tables=())
    rows = pa.table({"sequence": restarted.ids, "epoch": restarted.epochs, "status": status, **lists})
    assert judge_books(rows, restarted).wrong == 1


def as_decimals(rows):
    for name in LEVELS:
        values = [
            [None if v < 0 else pa.scalar(v).cast(pa.decimal128(19)).as_py().scaleb(-8) for v in side]
            for side in rows[name].to_pylist()
        ]
        rows = rows.set_column(
            rows.column_names.index(name), name, pa.array(values, pa.list_(pa.decimal128(38, 18)))
        )
    return rows


@pytest.mark.real_data
@pytest.mark.parametrize("market", MARKETS)
def test_true_book_of_a_real_capture_equals_the_tickers(real_data, tmp_path, market):
    exchange, symbol, paths = find_captures(market)
    day = write_lake_day(tmp_path, paths, exchange=exchange, symbol=symbol, tables=())
    assert len(day.ids) > 6_000
    assert (day.exchange == day.best[:, [0, 2]]).all(axis=1).mean() >= 0.999
