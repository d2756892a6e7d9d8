"""A replay shows the stored book at every id, and shows no message before the message has arrived."""

from __future__ import annotations

import random
import shutil
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captures import depth_rows, message_of, write
from faulted import build, edited, lake, rows

from deltabook.jobs.replay.replayer import Replayer, merge
from deltabook.schemas import tables
from deltabook.schemas.columns import DECIMAL, SIDE_NAMES
from deltabook.schemas.errors import GapError, SettingsError, WarehouseError
from deltabook.schemas.names import HOUR, NOT_GIVEN
from deltabook.udfs.replay import streams
from deltabook.udfs.replay.clocks import Clock, compute_times
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.storage import event_files

START = 1_723_161_255_000_000_000 // HOUR * HOUR
SECOND = 1_000_000_000
SYMBOL = "BTC-USDT"
CLOCKS = list(Clock)


def test_messages_without_a_receive_time_arrive_at_their_order_time_or_with_the_one_before():
    received = np.array([50, -1, 40, -1])
    order_time = np.array([10, 20, 30, 90])
    assert compute_times(Clock.RECEIVED, received, order_time, -1).tolist() == [50, 50, 50, 90]
    assert compute_times(Clock.RECEIVED, received, order_time, 60).tolist() == [60, 60, 60, 90]
    assert compute_times(Clock.EXCHANGE, received, order_time, 60) is order_time


@pytest.mark.parametrize("place", [0, 1, 10, 17, 29, 39])
@pytest.mark.parametrize("first", [0, 3, 9, 10, 25])
@pytest.mark.parametrize("others", [0, 4])
def test_batches_begin_behind_the_first_rows_and_end_soon_behind_a_place(
    tmp_path, monkeypatch, others, first, place
):
    monkeypatch.setattr(event_files, "_MIN_ALIGNED_ROWS", 1)
    own = [{"exchange": "ONE", "hour": 5, "sequence": number} for number in range(40)]
    foreign = [{"exchange": "ONE", "hour": 9, "sequence": -1}] * others
    path = tmp_path / "part.parquet"
    pq.write_table(pa.Table.from_pylist(own[:15] + foreign + own[15:]), path, row_group_size=10)
    found = list(event_files.read_chunk_batches(path.as_uri(), "ONE", 5, 6, ["sequence"], first, place))
    assert [one for batch in found for one in batch["sequence"].to_pylist()] == [*range(first, 40)]
    assert max(map(len, found)) <= 6
    assert all(batch.schema.names == ["sequence"] for batch in found)
    if place > first and not others:
        ends = np.cumsum([first, *map(len, found)])
        assert ends[ends >= place].min() - place < 2


def stretched(line: bytes, late: random.Random) -> bytes:
    """A line, 100 ms of which are 36 s, received up to 90 s late: many a message after a later one."""
    message, received = message_of(line), int(line.split(b" ", 1)[0])
    first = START + HOUR // 2
    times = {
        name: (first + (message[name] * 10**6 - first) * 360) // 10**6 for name in "ET" if name in message
    }
    came = first + (received - first) * 360 + late.randrange(90 * SECOND)
    return b"%d " % came + edited(line, **times).split(b" ", 1)[1]


@pytest.fixture(scope="module")
def lines():
    market = Market(9, start_time=START + HOUR // 2)
    late = random.Random(4)
    return [stretched(line, late) for line in capture_lines(market, 350, "BTCUSDT", snapshot_every=150)]


@pytest.fixture(scope="module")
def warehouse(spark, lines, tmp_path_factory):
    """Five hours with checkpoints inside them, as of a run after which more was ingested."""
    folder = tmp_path_factory.mktemp("replay")
    run = build("binance", [write(folder / "raw.gz", lines)], folder / "w", "--checkpoint-every", 2000)
    assert (run.exit_status, run.summary["symbol_hours"], run.summary["gaps"]) == (0, 5, 0), run.said
    assert len(rows(folder / "w", tables.CHECKPOINTS)) > 10
    return folder / "w"


@pytest.fixture(scope="module")
def broken(spark, lines, tmp_path_factory):
    """The same, but for a diff lost just before that of the second snapshot, and one after it."""
    folder = tmp_path_factory.mktemp("broken")
    diffs, snapshot = depth_rows(lines), second_snapshot(lines)
    before, spanning = [row for row in diffs if row < snapshot][-2:]
    late = int(lines[spanning].split(b" ", 1)[0]) + 600 * SECOND
    kept = [line for row, line in enumerate(lines) if row not in (before, spanning, diffs[200])]
    kept.append(b"%d " % late + lines[spanning].split(b" ", 1)[1])
    run = build("binance", [write(folder / "raw.gz", kept)], folder / "w")
    assert run.summary["gaps_by_kind"]["sequence_gap"] >= 1
    return folder / "w"


def second_snapshot(lines) -> int:
    return [row for row, line in enumerate(lines) if b"lastUpdateId" in line and b"stream" not in line][1]


def top(seen) -> list[list[int]]:
    return [getattr(seen, name).tolist() for name in SIDE_NAMES]


def told(seen) -> tuple[Any, ...]:
    """All that an observation tells; an unseeded book has the id of no update."""
    sequence = seen.sequence if seen.status else NOT_GIVEN
    return seen.time, sequence, seen.status, top(seen), seen.update_count, seen.trades.trade_id.tolist()


def in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda row: (row["hour"], row["order_time"], row["epoch"], row["sequence"]))


def check_books(warehouse, symbol: str, clock: str, exchange: str = "BINANCE") -> int:
    """Compare every row of books with what is seen when its update comes; return how many."""
    named = {"exchange": exchange, "symbol": symbol}
    found = in_order([row for row in rows(warehouse, tables.BOOKS) if named.items() <= row.items()])
    replayer = Replayer(warehouse, symbol, clock=clock, exchange=exchange)
    waiting = iter(found)
    due = next(waiting)
    flow, ofi = np.zeros(3, dtype=np.int64), 0
    compared = 0
    for seen in replayer.steps("message"):
        trades = seen.trades
        flow += [np.abs(trades.side).sum(), *(trades.size[trades.side == side].sum() for side in (1, -1))]
        ofi += round(seen.features.ofi * 10 ** replayer.scales[1])
        if seen.sequence != due["sequence"]:
            continue
        assert top(seen) == [due[name] for name in SIDE_NAMES]
        assert seen.status.label == due["status"]
        assert all(values.dtype == np.int64 for values in (seen.bid_prices, seen.ask_sizes))
        if clock == Clock.EXCHANGE:
            assert seen.time == due["order_time"]
            assert flow.tolist() == [due["trade_count"], due["buy_volume"], due["sell_volume"]]
        assert ofi == due["ofi"][0]
        flow[:], ofi = 0, 0
        compared += 1
        due = next(waiting, None)
        if due is None:
            break
    assert compared == len(found)
    return compared


@pytest.mark.spark
@pytest.mark.parametrize("clock", CLOCKS)
def test_every_row_of_books_is_seen_at_its_sequence(warehouse, broken, clock):
    assert check_books(warehouse, SYMBOL, clock) > 250
    assert check_books(broken, SYMBOL, clock) > 250


@pytest.mark.spark
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("source", "folder", "least"),
    [
        ("binance", "binance/spot", 6000),
        ("binance", "binance/usdm", 7000),
        ("okx", "okx", 200),
        ("okx", "okcoin", 1000),
        ("bybit", "bybit", 50),
        ("kraken", "kraken", 1000),
    ],
)
def test_every_row_of_real_books_is_seen_at_its_sequence(spark, real_data, tmp_path, source, folder, least):
    event_files = sorted(file for file in (real_data / folder).iterdir() if file.is_file())
    run = build(source, event_files, tmp_path / "w")
    assert run.exit_status == 0, run.said
    instruments = {(row["exchange"], row["symbol"]) for row in rows(tmp_path / "w", tables.BOOKS)}
    for clock in CLOCKS:
        found = [
            check_books(tmp_path / "w", symbol, clock, exchange) for exchange, symbol in sorted(instruments)
        ]
        assert sum(found) >= least


@pytest.mark.spark
def test_books_that_a_vendor_seeded_are_seen(spark, tmp_path):
    build("crypto_lake", lake(tmp_path / "lake", seeded=False), tmp_path / "w", "--seed", "golden")
    statuses = {row["status"] for row in rows(tmp_path / "w", tables.BOOKS, "status")}
    assert statuses == {"unseeded", "unverifiable"}
    assert check_books(tmp_path / "w", SYMBOL, Clock.EXCHANGE) > 50


def arrivals(warehouse) -> list[tuple[str, int, int, bool]]:
    """(type, sequence, received, is a snapshot) of every event, in the table's order."""
    return [
        (row["event_type"], row["sequence"], row["received"], row["data"]["is_snapshot"])
        for row in sorted(rows(warehouse, tables.EVENTS), key=lambda row: row["hour"])
    ]


@pytest.mark.spark
def test_nothing_is_seen_before_it_had_arrived(warehouse, broken):
    for folder in (warehouse, broken):
        events = arrivals(folder)
        received = {"trade": {}, "book_update": {}}
        for kind, sequence, came, _ in events:
            received[kind][sequence] = max(came, received[kind].get(sequence, 0))
        assert sum(one > two for one, two in pairwise(came for _, _, came, _ in events)) > 100
        order = sorted(received["book_update"])
        # Of an update, all before it in the feed had to come.
        latest = dict(
            zip(order, np.maximum.accumulate([received["book_update"][one] for one in order]), strict=True)
        )
        count = trades = 0
        previous = 0
        for seen in Replayer(folder, SYMBOL):
            assert seen.time >= previous
            if seen.sequence >= 0:
                assert latest[seen.sequence] <= seen.time
            assert all(received["trade"][one] <= seen.time for one in seen.trades.trade_id.tolist())
            count += seen.update_count + len(seen.trades)
            trades += len(seen.trades)
            previous = seen.time
        assert count == len(events)
        assert trades == sum(kind == "trade" for kind, *_ in events)


@pytest.mark.spark
def test_snapshot_that_the_next_diff_makes_count_comes_with_that_diff(broken, lines):
    snapshot = message_of(lines[second_snapshot(lines)])["lastUpdateId"]
    stamps = [(sequence, came) for kind, sequence, came, whole in arrivals(broken) if kind == "book_update"]
    at = next(index for index, (sequence, _) in enumerate(stamps) if sequence == snapshot)
    running = np.maximum.accumulate([came for _, came in stamps])
    following = at + 1
    (gap,) = (
        row for row in rows(broken, tables.GAPS) if row["resolved_sequence"] == row["sequence"] == snapshot
    )
    assert gap["kind"] == "sequence_gap"
    by_exchange = next(
        seen for seen in Replayer(broken, SYMBOL, clock="exchange") if seen.sequence == snapshot
    )
    replayer = Replayer(broken, SYMBOL)
    taken = next(seen for seen in replayer if seen.sequence == snapshot)
    assert taken.time == running[following] > running[at]
    assert top(taken) == top(by_exchange)
    assert replayer.seek(time=int(running[following]) - 1).sequence < snapshot


@pytest.mark.spark
@pytest.mark.parametrize("clock", CLOCKS)
def test_seek_is_where_stepping_comes_to(warehouse, clock):
    stepping = list(Replayer(warehouse, SYMBOL, clock=clock))
    chance = random.Random(3)
    replayer = Replayer(warehouse, SYMBOL, clock=clock)
    ends = [index for index, (one, two) in enumerate(pairwise(stepping)) if one.time < two.time]
    for index in chance.sample(ends, 40):
        found = replayer.seek(time=stepping[index].time)
        assert told(found)[:-2] == told(stepping[index])[:-2]
        for expected in stepping[index + 1 : index + 30]:
            assert told(replayer.step()) == told(expected)
    by_id = {seen.sequence: seen for seen in stepping if seen.update_count}
    for sequence in chance.sample(sorted(by_id)[1:], 40):
        found = replayer.seek(sequence=sequence)
        assert (found.sequence, top(found)) == (sequence, top(by_id[sequence]))
    with pytest.raises(WarehouseError, match="has no update 1: ids run from"):
        replayer.seek(sequence=1)


@pytest.mark.spark
@pytest.mark.parametrize("rows", [2, 7])
@pytest.mark.parametrize("clock", CLOCKS)
def test_seek_reads_of_many_row_groups_those_that_it_needs(warehouse, tmp_path, monkeypatch, clock, rows):
    """Batches end where a seek leads to, in the middle of a row group or at its end."""
    copied = shutil.copytree(warehouse, tmp_path / "w")
    for file in copied.glob("events/*/*/*.parquet"):
        with file.open("rb") as stream:
            events = pq.read_table(stream)
        pq.write_table(events, file, row_group_size=23)
    monkeypatch.setattr(event_files, "_MIN_ALIGNED_ROWS", rows)
    monkeypatch.setattr(streams, "_BATCH_ROWS", 3 * rows)
    stepping = list(Replayer(copied, SYMBOL, clock=clock))
    assert [told(seen) for seen in stepping] == [
        told(seen) for seen in Replayer(warehouse, SYMBOL, clock=clock)
    ]
    chance = random.Random(rows)
    ends = [index for index, (one, two) in enumerate(pairwise(stepping)) if one.time < two.time]
    replayer = Replayer(copied, SYMBOL, clock=clock)
    for index in chance.sample(ends, 60):
        assert told(replayer.seek(time=stepping[index].time))[:-2] == told(stepping[index])[:-2]
        assert told(replayer.step()) == told(stepping[index + 1])


@pytest.mark.spark
@pytest.mark.parametrize("clock", CLOCKS)
def test_all_ways_of_stepping_tell_the_same_messages_and_end_at_the_same_book(warehouse, clock):
    replayer = Replayer(warehouse, SYMBOL, clock=clock)
    told = {}
    for by in ("event", "message", "trade", 7 * SECOND, 3600 * SECOND):
        replayer.rewind()
        seen = list(replayer.steps(by))
        ids = [one for step in seen for one in step.trades.trade_id.tolist()]
        told[by] = (
            seen,
            ids,
            sum(step.update_count for step in seen),
            sum(step.features.ofi for step in seen),
        )
    seen, ids, updates, flow = told["event"]
    assert len(seen) == len(ids) + updates
    assert len(told["message"][0]) == updates
    assert len(told["trade"][0]) == len(ids)
    for by, unit in ((7 * SECOND, 7), (3600 * SECOND, 3600)):
        steps, of_steps, updates_of_steps, flow_of_steps = told[by]
        assert (of_steps, updates_of_steps) == (ids, updates)
        assert flow_of_steps == pytest.approx(flow)
        assert {two.time - one.time for one, two in pairwise(steps)} == {unit * SECOND}
        assert steps[0].time == replayer.start + unit * SECOND
        assert top(steps[-1]) == top(seen[-1])
    assert told["message"][1] == ids[: len(told["message"][1])]
    assert top(told["message"][0][-1]) == top(seen[-1])
    replayer.rewind()
    mixed = [replayer.step(by) for by in ["trade", "event", "message", 9 * SECOND, "event"] * 20]
    assert [one for step in mixed for one in step.trades.trade_id.tolist()] == ids[
        : sum(len(step.trades) for step in mixed)
    ]


@pytest.mark.spark
@pytest.mark.parametrize("by", ["event", "message", 60 * SECOND])
def test_batches_tell_what_observations_tell(broken, by):
    replayer = Replayer(broken, SYMBOL, depth=7)
    batches = [batch.to_pylist() for batch in replayer.replay_batches(100, by)]
    assert max(map(len, batches)) <= 100
    replayer.rewind()
    found = [row for batch in batches for row in batch]
    for row, seen in zip(found, replayer.steps(by), strict=True):
        assert [row[name] for name in SIDE_NAMES] == top(seen)
        assert (row["time"], row["sequence"], row["status"], row["gap"]) == (
            seen.time,
            seen.sequence,
            seen.status,
            seen.gap,
        )
        assert (row["updates"], row["trade_count"]) == (seen.update_count, np.abs(seen.trades.side).sum())
        assert row["buy_volume"] == seen.trades.size[seen.trades.side == 1].sum()
        assert row["ofi"] == round(seen.features.ofi * 10 ** replayer.scales[1])
        assert len(seen.bid_prices) <= 7


@pytest.mark.spark
def test_start_is_sound_and_end_is_not(warehouse):
    every = [seen.time for seen in Replayer(warehouse, SYMBOL)]
    start, end = every[300], every[700]
    some = Replayer(warehouse, SYMBOL, start=start, end=end)
    assert [seen.time for seen in some] == [time for time in every if start <= time < end]
    assert some.step() is None
    some.rewind()
    assert [seen.time for seen in some.steps((end - start) // 4)][-1] <= end


@pytest.mark.spark
def test_full_book_is_that_of_books_at_full_depth(lines, warehouse, tmp_path):
    build("binance", [write(tmp_path / "raw.gz", lines)], tmp_path / "deep", "--depth", "full")
    expected = {row["sequence"]: row for row in rows(tmp_path / "deep", tables.BOOKS)}
    replayer = Replayer(warehouse, SYMBOL, depth=3)
    compared = 0
    for index, seen in enumerate(replayer):
        if index % 37 == 0 and seen.sequence in expected:
            whole = {name: values.tolist() for name, values in seen.full_book().items()}
            assert whole == {name: expected[seen.sequence][name] for name in SIDE_NAMES}
            compared += len(whole["bid_prices"]) > 20
    assert compared > 15
    sequence = sorted(expected)[200]
    whole = replayer.seek(sequence=sequence).full_book()
    assert whole["ask_sizes"].tolist() == expected[sequence]["ask_sizes"]


@pytest.mark.spark
@pytest.mark.parametrize("by", ["event", 10 * SECOND])
def test_suspect_books_are_marked_skipped_or_refused(broken, by):
    marked = list(Replayer(broken, SYMBOL, suspect="mark").steps(by))
    bad = {"unseeded", "suspect"}
    labels = [seen.status.label for seen in marked]
    assert bad < set(labels)
    skipped = list(Replayer(broken, SYMBOL, suspect="skip").steps(by))
    good = [seen for seen in marked if seen.status.label not in bad]
    assert [(seen.time, top(seen)) for seen in skipped] == [(seen.time, top(seen)) for seen in good]
    # The first after each bad stretch says so, in either way; the next does not.
    for stepped in (marked, skipped):
        firsts = [
            two
            for one, two in pairwise(stepped)
            if two.status.label not in bad and two.gap and not (one.gap and one.status.label not in bad)
        ]
        assert len(firsts) >= labels.count("suspect") // max(labels.count("suspect"), 1)
    assert sum(seen.gap for seen in skipped) < len(skipped) / 10
    ids = [one for seen in marked for one in seen.trades.trade_id.tolist()]
    assert [one for seen in skipped for one in seen.trades.trade_id.tolist()] == ids[
        : sum(len(seen.trades) for seen in skipped)
    ]
    first_good = good[0].time
    replayer = Replayer(broken, SYMBOL, start=first_good + 1, suspect="raise")
    with pytest.raises(
        GapError,
        match=rf"BINANCE {SYMBOL}: the book is suspect at \d+ ns by the received clock, sequence \d+",
    ):
        for seen in replayer.steps(by):
            assert seen.status.label not in bad


@pytest.mark.spark
def test_features_are_those_of_the_best_levels(warehouse):
    replayer = Replayer(warehouse, SYMBOL)
    assert replayer.scales == (8, 8)
    first = replayer.step()
    assert np.isnan(first.features[:4]).all()
    seen = replayer.seek(time=START + 2 * HOUR)
    (bid, bid_size), (ask, ask_size) = (
        (prices[0] / 1e8, sizes[0] / 1e8)
        for prices, sizes in ((seen.bid_prices, seen.bid_sizes), (seen.ask_prices, seen.ask_sizes))
    )
    share = bid_size / (bid_size + ask_size)
    expected = (ask - bid, (ask + bid) / 2, share * ask + (1 - share) * bid, 2 * share - 1, 0)
    assert seen.features == pytest.approx(expected)


@pytest.fixture(scope="module")
def decimals(spark, lines, tmp_path_factory):
    """The same five hours of an instrument that is asked to be DECIMAL(38,18)."""
    folder = tmp_path_factory.mktemp("decimals")
    asked = folder / "instruments.yaml"
    asked.write_text("instruments: {BINANCE: {BTC-USDT: {is_decimal: true}}}\n")
    raw = write(folder / "raw.gz", lines)
    run = build("binance", [raw], folder / "w", "--checkpoint-every", 2000, config=asked)
    assert run.summary["decimal_instruments"] == ["BINANCE BTC-USDT"]
    return folder / "w"


MORE = 10**10  # from 8 decimals to 18


@pytest.mark.spark
@pytest.mark.parametrize("clock", CLOCKS)
def test_decimals_are_told_as_integers_of_eighteen_decimals(warehouse, decimals, clock):
    usual, found = (Replayer(folder, SYMBOL, clock=clock) for folder in (warehouse, decimals))
    assert found.scales == (18, 18)
    compared = 0
    for one, other in zip(usual, found, strict=True):
        assert told(other)[:3] == told(one)[:3]
        assert top(other) == [[number * MORE for number in side] for side in top(one)]
        assert all(isinstance(number, int) for side in top(other) for number in side)
        assert [other.ofi, other.trades.size.tolist(), other.trades.price.tolist()] == [
            one.ofi * MORE,
            [size * MORE for size in one.trades.size.tolist()],
            [price * MORE for price in one.trades.price.tolist()],
        ]
        if compared % 50 == 0:
            assert other.features == pytest.approx(one.features, nan_ok=True)
            whole = {
                name: [number * MORE for number in values.tolist()]
                for name, values in one.full_book().items()
            }
            assert {name: values.tolist() for name, values in other.full_book().items()} == whole
        compared += 1
    sequence = one.sequence - 1000
    assert top(found.seek(sequence=sequence)) == [
        [number * MORE for number in side] for side in top(usual.seek(sequence=sequence))
    ]
    assert compared > 700


@pytest.mark.spark
def test_batches_of_decimals_are_decimals(warehouse, decimals):
    usual, found = (
        pa.Table.from_batches(Replayer(folder, SYMBOL).replay_batches(by=60 * SECOND))
        for folder in (warehouse, decimals)
    )
    numbers = {*SIDE_NAMES, "buy_volume", "sell_volume", "ofi"}
    plain = [name for name in usual.schema.names if name not in numbers]
    assert found.select(plain) == usual.select(plain)
    assert found.schema.field("buy_volume").type == DECIMAL
    for name in numbers:
        column = usual[name].combine_chunks()
        integers = column.flatten() if name in SIDE_NAMES else column
        decimal = found[name].combine_chunks()
        decimal = decimal.flatten() if name in SIDE_NAMES else decimal
        assert [number.scaleb(8) for number in decimal.to_pylist()] == integers.to_pylist()
    assert sum(usual["trade_count"].to_pylist()) > 100


@pytest.mark.spark
def test_several_symbols_come_in_one_order_of_time(warehouse, broken):
    both = [Replayer(folder, SYMBOL) for folder in (warehouse, broken)]
    alone = [[(number, seen.time) for seen in one] for number, one in enumerate(both)]
    for one in both:
        one.rewind()
    together = [(number, seen.time) for number, seen in merge(both)]
    assert [time for _, time in together] == sorted(time for one in alone for _, time in one)
    assert [[pair for pair in together if pair[0] == number] for number in (0, 1)] == alone


@pytest.mark.spark
@pytest.mark.parametrize("clock", CLOCKS)
def test_episodes_are_seeded_and_see_a_known_book_throughout(broken, clock):
    replayer = Replayer(broken, SYMBOL, clock=clock, suspect="raise")
    length = 300 * SECOND
    starts = replayer.episodes(length, 5, 40)
    assert starts == replayer.episodes(length, 5, 40) != replayer.episodes(length, 6, 40)
    distinct = sorted(set(starts))
    assert len(distinct) > 10
    assert min(two - one for one, two in pairwise(distinct)) >= length
    for start in distinct:
        replayer.seek(time=start)
        while (seen := replayer.step()) is not None and seen.time < start + length:
            assert not seen.gap
    with pytest.raises(SettingsError, match="no period with a known book is"):
        replayer.episodes(24 * HOUR, 5, 1)


@pytest.mark.spark
def test_iterating_goes_on_from_where_a_seek_leads(warehouse):
    replayer = Replayer(warehouse, SYMBOL)
    for number, seen in enumerate(replayer):
        if number == 10:
            replayer.seek(time=START + 4 * HOUR)
        if number == 11:
            assert seen.time > START + 4 * HOUR
            break
    assert replayer.observation.time == seen.time


@pytest.mark.spark
def test_what_cannot_be_replayed_is_sound(warehouse, tmp_path):
    for wrong in ({"clock": "sun"}, {"suspect": "ignore"}, {"depth": 0}, {"start": "yesterday"}):
        with pytest.raises(SettingsError):
            Replayer(warehouse, SYMBOL, **wrong)
    with pytest.raises(SettingsError, match="expected event, message, trade"):
        Replayer(warehouse, SYMBOL).step(0)
    with pytest.raises(SettingsError, match="expected a time or a sequence"):
        Replayer(warehouse, SYMBOL).seek()
    with pytest.raises(WarehouseError, match=r"XYZ does not exist in .*: BINANCE BTC-USDT"):
        Replayer(warehouse, "XYZ")
    with pytest.raises(WarehouseError, match="is empty"):
        Replayer(tmp_path, SYMBOL)
