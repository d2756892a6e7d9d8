"""Change a feed: the books stay equal, change in the predicted way, or show the loss of a message."""

from __future__ import annotations

import ast
import gzip
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from captures import write
from events import events_of, feed, in_first_epoch, opening_values, read_lines, rebuilder
from faulted import books, build, sound_capture
from hypothesis import assume, example, given
from hypothesis import strategies as st
from places import TESTS
from properties import cases
from test_dialects import rebuilt as rebuilt_dialect
from test_dialects import records_of, top
from test_every_source import KINDS, SAMPLES, read
from test_rebuilder import MARKETS
from test_rebuilder import STEPS as WILD_STEPS
from test_rebuilder import lines_of as wild_lines
from venue import FETCHED, STEPS, WITH_IDS, book_of, rebuilt, told_by

from deltabook.schemas.feeds import feed_of
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import HOUR, Cadence
from deltabook.udfs.orderbook.known_range import KnownRange
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.simulator import binance, crypto_lake, kraken, tardis
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.sources.registry import SOURCES

SIDES = ("bid", "ask")
KNOWN = ("bid_known_levels", "ask_known_levels")


def seeding(name: str, events: list[Any]) -> int:
    """Place of the snapshot that the chain begins with; the number of events if there is none."""
    found = len(events)
    for place, event in enumerate(events):
        if event["is_snapshot"]:
            found = place
        elif found < len(events) and event["sequence"] > events[found]["sequence"]:
            break
    return found


def proves_the_loss(name: str, events: list[Any], lost: int) -> bool:
    """Whether a message follows that shows by its ids that the one before it is missing."""
    start = seeding(name, events[:lost] + events[lost + 1 :])
    if lost <= start or events[lost]["sequence"] <= events[start]["sequence"]:
        return False
    after = events[lost + 1 :]
    if name in FETCHED:
        return any(not event["is_snapshot"] for event in after)
    return bool(after) and not after[0]["is_snapshot"]


@pytest.mark.kernel
@pytest.mark.parametrize("name", WITH_IDS)
@cases(100, uncompiled=25)
@given(steps=STEPS, data=st.data())
def test_any_one_lost_diff_is_reported_and_a_stale_one_or_none_is_not(
    name: str, steps: Any, data: st.DataObject
) -> None:
    venue = told_by(name, steps)
    assume(any(event["is_snapshot"] for event in venue.events))
    assert rebuilt(name, venue.events)[1] == []
    diffs = [place for place, event in enumerate(venue.events) if not event["is_snapshot"]]
    lost = data.draw(st.sampled_from(diffs))
    rows, gaps = rebuilt(name, venue.events[:lost] + venue.events[lost + 1 :])
    assert [gap["kind"] for gap in gaps if gap["kind"] != "missing_snapshot"] == (
        [gaps[0]["kind"]] if proves_the_loss(name, venue.events, lost) else []
    )
    assert {gap["kind"] for gap in gaps} <= {"sequence_gap", "unbridgeable_snapshot", "missing_snapshot"}
    for row in rows:
        if row["status"] == "verified":
            assert book_of(row) == venue.truth[row["sequence"]]


@pytest.mark.kernel
@pytest.mark.parametrize(("name", "shown"), [("kraken", 10), ("okx", 25)])
@cases(100)
@given(steps=STEPS, data=st.data())
def test_a_book_with_a_message_lost_is_checked_only_where_its_best_levels_are_true(
    name: str, shown: int, steps: Any, data: st.DataObject
) -> None:
    venue = told_by(name, [(*steps[0][:3], "after"), *steps[1:]], with_ids=False)
    assert rebuilt(name, venue.events)[1] == []
    lost = data.draw(st.integers(0, len(venue.events) - 1))
    for row in rebuilt(name, venue.events[:lost] + venue.events[lost + 1 :])[0]:
        if row["status"] == "checked":
            for ours, true, best in zip(
                book_of(row), venue.truth[row["sequence"]], (True, False), strict=True
            ):
                assert (
                    sorted(ours.items(), reverse=best)[:shown] == sorted(true.items(), reverse=best)[:shown]
                )


def with_and_without_snapshots(name: str, steps: Any) -> tuple[list[Any], list[Any]]:
    """Events of a venue that tells snapshots, and of one that tells none after its first."""
    first = [(*step[:3], snapshot) for step, snapshot in zip(steps, ("after", ""), strict=False)]
    steps, bare = first + steps[2:], first + [(*step[:3], "") for step in steps[2:]]
    return told_by(name, steps).events, told_by(name, bare).events


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["okx", "bybit", "tardis"])
@cases(75, uncompiled=25)
@given(steps=STEPS)
def test_redundant_snapshots_change_nothing(name: str, steps: Any) -> None:
    """They are once a diff has connected to the first."""
    with_them, without = (
        rebuilt(name, events, Cadence.CHANGE) for events in with_and_without_snapshots(name, steps)
    )
    if name == "tardis":  # a snapshot that may be cut says nothing of worse levels, whatever was known
        for row in with_them[0] + without[0]:
            row |= dict.fromkeys(KNOWN, 0)
    assert with_them == without
    assert with_them[1] == []


@pytest.mark.kernel
@pytest.mark.parametrize("name", FETCHED)
@cases(75, uncompiled=25)
@given(steps=STEPS)
def test_redundant_snapshots_that_are_fetched_only_make_more_known(name: str, steps: Any) -> None:
    found = []
    for events in with_and_without_snapshots(name, steps):
        rows, gaps = rebuilt(name, events)
        assert gaps == []
        diffs = {event["sequence"] for event in events if not event["is_snapshot"]}
        books: dict[int, Any] = {}
        for row in rows:  # the row of a diff comes before that of a snapshot of the same id
            if row["sequence"] in diffs:
                books.setdefault(row["sequence"], row)
        found.append(books)
    with_them, without = found
    assert with_them.keys() == without.keys()
    for sequence, row in without.items():
        more = with_them[sequence]
        assert all(more[name] >= row[name] for name in KNOWN)
        assert more["status"] == row["status"] or (row["status"], more["status"]) == (
            "unverifiable",
            "verified",
        )
        assert more | {name: row[name] for name in (*KNOWN, "status", "ofi")} == row


def changed(events: pa.RecordBatch, change: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([change(event) for event in events.to_pylist()], events.schema)


def outcome(market: str, events: pa.RecordBatch, cadence: Cadence) -> tuple[list[Any], list[Any], Any]:
    building = rebuilder(market, 5, cadence)
    rows = feed(building, events)
    return rows, sorted(building.finish(), key=str), opening_values(building.capture_state())


@pytest.mark.kernel
@pytest.mark.parametrize("cadence", list(Cadence))
@cases(75)
@given(
    market=st.sampled_from(MARKETS),
    steps=WILD_STEPS,
    by=st.tuples(st.integers(1, 40), st.integers(1, 10)),
)
def test_rescaled_prices_and_sizes_rescale_the_books(
    cadence: Cadence, market: str, steps: Any, by: tuple[int, int]
) -> None:
    times = {f"{side}_{what}": by[what == "sizes"] for side in SIDES for what in ("prices", "sizes")}
    times |= {"ofi": by[1]}
    one = {"price": by[0], "size": by[1], "buy_volume": by[1], "sell_volume": by[1]}

    def rescaled(row: Any) -> Any:
        row |= {
            name: [value * factor for value in row[name]] for name, factor in times.items() if name in row
        }
        # -1: not a trade.
        return row | {name: row[name] * by for name, by in one.items() if row.get(name, -1) >= 0}

    events = events_of(read_lines(wild_lines(market, steps)))
    rows, gaps, opening = outcome(market, events, cadence)
    found = outcome(market, changed(events, rescaled), cadence)
    assert found[:2] == ([rescaled(row) for row in rows], gaps)
    for side in ("bids", "asks"):
        pairs = zip(opening[side], by, strict=True)
        opening[side] = [[value * factor for value in values] for values, factor in pairs]
    opening["known"] = tuple(
        known if known.price is None else KnownRange(price=known.price * by[0]) for known in opening["known"]
    )
    assert found[2] == rescaled(opening)


@pytest.mark.kernel
@pytest.mark.parametrize("cadence", list(Cadence))
@cases(75)
@given(market=st.sampled_from(MARKETS), steps=WILD_STEPS)
def test_swapped_sides_with_negated_prices_are_the_book_mirrored(
    cadence: Cadence, market: str, steps: Any
) -> None:
    other = {"bid": "ask", "ask": "bid", "buy": "sell", "sell": "buy", "": ""}

    def mirrored(row: Any) -> Any:
        new = dict(row)
        for side in SIDES:
            new[f"{side}_prices"] = [-price for price in row[f"{other[side]}_prices"]]
            new[f"{side}_sizes"] = row[f"{other[side]}_sizes"]
            for name in ("levels", "known_levels"):
                if f"bid_{name}" in row:
                    new[f"{side}_{name}"] = row[f"{other[side]}_{name}"]
        if "ofi" in row:
            new["ofi"] = [-flow for flow in row["ofi"]]
            new |= {"buy_volume": row["sell_volume"], "sell_volume": row["buy_volume"]}
        if "side" in row:
            new["side"] = other[row["side"]]
        return new

    events = events_of(read_lines(wild_lines(market, steps)))
    rows, gaps, _ = outcome(market, events, cadence)
    assert outcome(market, changed(events, mirrored), cadence)[:2] == ([mirrored(row) for row in rows], gaps)


def write_market(source: str, seed: int, messages: int, folder: Path) -> list[Path]:
    """One market in the dialect of a source."""
    market = Market(seed)
    if source == "binance":
        path = folder / "btcusdt.jsonl"
        path.write_bytes(
            b"".join(binance.capture_lines(market, messages, "BTCUSDT", snapshot_every=messages // 2))
        )
        return [path]
    if source == "kraken":
        return [kraken.write_dump(kraken.dump_lines(market, messages, "XBT/USDT", depth=100), folder)]
    if source == "crypto_lake":
        feed = crypto_lake.tables(market, messages, "BINANCE", "BTC-USDT", seeded=True)
        return crypto_lake.write_tables(feed, folder)
    tables = tardis.csv_lines(market, messages, "binance", "BTCUSDT")
    names = "binance", "BTCUSDT"
    return [path for table in tables for path in tardis.write_csv(tables[table], folder, table, *names)]


def records_of_market(source: str, seed: int, messages: int) -> pa.Table:
    with TemporaryDirectory() as folder:
        return records_of(source, write_market(source, seed, messages, Path(folder)))


def books_by_time(source: str, seed: int, messages: int) -> dict[int, Any]:
    """Best levels at each microsecond, from the first book on that is given as right."""
    rows, building = rebuilt_dialect(source, records_of_market(source, seed, messages))
    assert building.finish() == []
    assert {row["status"] for row in rows} <= {"unseeded", "warming", "unverifiable", "checked", "verified"}
    return {
        row["timestamp"] // 1_000: top(row) for row in rows if row["status"] not in ("unseeded", "warming")
    }


@cases(3)
@given(seed=st.integers(0, 2**32 - 1), messages=st.integers(20, 50))
def test_one_market_has_the_same_books_in_every_dialect(seed: int, messages: int) -> None:
    truth = books_by_time("binance", seed, messages)
    for source in ("crypto_lake", "tardis", "kraken"):
        ours = books_by_time(source, seed, messages)
        # A snapshot that is fetched has the time of the message before it, and may be ahead of it.
        common = sorted(truth.keys() & ours.keys())[1:]
        assert len(common) > messages / 2
        assert [ours[at] for at in common] == [truth[at] for at in common], source


@cache
def messages_of_market(source: str) -> pa.Table:
    records = records_of_market(source, 11, 60)
    return in_first_epoch(records.filter(pc.is_in(records["record"], pa.array(["book_update", "trade"]))))


@pytest.mark.parametrize("source", ["binance", "crypto_lake", "tardis", "kraken"])
@cases(25)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_shuffled_messages_and_a_second_recording_of_some_give_the_same_hour(
    source: str, seed: int, share: float
) -> None:
    records, draw = messages_of_market(source), np.random.default_rng(seed)
    known = feed_of(source, records["exchange"][0].as_py())
    hour = pc.max(records["timestamp"]).as_py() // HOUR * HOUR
    rows = records["source_row"].to_numpy()
    again = records.filter(pa.array((draw.random(rows.max() + 1) < share)[rows]))
    names = pa.array([f"{name} again" for name in again["source_file"].to_pylist()], pa.string())
    again = again.set_column(again.schema.get_field_index("source_file"), "source_file", names)
    both = pa.concat_tables([records, again])
    # Trades of one row have no order but their own.
    places = draw.random(rows.max() + 1)[both["source_row"].to_numpy()]
    both = both.take(pa.array(np.argsort(places, kind="stable")))
    nothing = FLAT_EVENTS.arrow.empty_table()
    assert order_chunk(both, nothing, hour, known).equals(order_chunk(records, nothing, hour, known))


def zipped(content: bytes) -> bytes:
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
        archive.writestr(zipfile.ZipInfo("sample"), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


PACKED = {"plain": bytes, "gzip": lambda content: gzip.compress(content, mtime=0), "zip": zipped}


@cache
def sample_of(source: str, packing: str) -> bytes:
    with TemporaryDirectory() as folder:
        content = SAMPLES[source](Path(folder)).read_bytes()
    if source == "binance":  # without its snapshots of a thousand levels
        content = b"".join(line for line in content.splitlines(keepends=True) if len(line) < 5_000)
    return PACKED[packing](content)


@pytest.mark.parametrize("source", SOURCES)
@cases(40)
@given(packing=st.sampled_from([*PACKED]), data=st.data())
def test_a_damaged_file_of_any_source_is_read_quarantined_or_refused(
    source: str, packing: str, data: st.DataObject
) -> None:
    content = bytearray(sample_of(source, packing))
    ends = st.integers(0, 80) | st.integers(len(content) - 120, len(content))  # where headers are
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(ends | st.integers(0, len(content)))
        at = max(0, at)
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with TemporaryDirectory() as folder:
        (path := Path(folder) / "sample").write_bytes(content)
        records = read(source, path).to_pylist()
    assert records[-1]["record"] == "file"
    for record in records:
        assert record["record"] in KINDS
        is_end = record["record"] == "file"
        assert is_end or (record["record"] == "quarantine") == bool(record["reason"])
        assert not is_end or (record["kind"] in ("read", "failed") and record["reason"])


@pytest.fixture(scope="module")
def sound(spark, tmp_path_factory):
    return sound_capture(tmp_path_factory.mktemp("sound"))


@pytest.mark.spark
@cases(1)
@given(
    records=st.sampled_from([1, 7, 10_000]),
    partitions=st.integers(1, 9),
    adaptive=st.booleans(),
    zone=st.sampled_from(["America/St_Johns", "Pacific/Apia", "UTC"]),
    cut=st.integers(1, 100),
)
@example(records=1, partitions=3, adaptive=False, zone="Asia/Kathmandu", cut=40)
def test_no_setting_of_spark_and_no_cut_into_files_changes_a_book(
    spark, sound, records: int, partitions: int, adaptive: bool, zone: str, cut: int
) -> None:
    settings = {
        "spark.sql.execution.arrow.maxRecordsPerBatch": records,
        "spark.sql.shuffle.partitions": partitions,
        "spark.sql.adaptive.enabled": adaptive,
        "spark.sql.session.timeZone": zone,
    }
    lines, warehouse = sound
    before = {name: spark.conf.get(name) for name in settings}
    with TemporaryDirectory() as folder:
        parts = {"a": lines[:cut], "b": lines[cut:]}
        files = [write(Path(folder) / f"{name}.gz", part) for name, part in parts.items()]
        try:
            for name, value in settings.items():
                spark.conf.set(name, str(value).lower() if isinstance(value, bool) else str(value))
            run = build("binance", files, Path(folder) / "w")
        finally:
            for name, value in before.items():
                spark.conf.set(name, value)
        assert run.exit_status == 0, run.said
        assert books(Path(folder) / "w") == books(warehouse)


def decorators_of(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield the decorators of each function of a file, with the name of its outermost function."""
    for outermost in ast.parse(path.read_text()).body:
        for node in ast.walk(outermost):
            if isinstance(node, ast.FunctionDef):
                called = {ast.unparse(how.func) for how in node.decorator_list if isinstance(how, ast.Call)}
                yield (outermost.name if isinstance(outermost, ast.FunctionDef) else node.name), called


def test_every_property_has_its_cases_and_its_place_in_the_table():
    table = (TESTS / "README.md").read_text()
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, called in decorators_of(path):
            if "given" in called:
                assert "cases" in called, f"{path.name}: {name}: say cases(n)"
                assert f"{path.name}::" in table and f"::{name}`" in table, f"{path.name}: {name}"
