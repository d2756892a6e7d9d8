"""Crypto Lake files give the same records in any parts and batches, and broken files are refused."""

import random
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks import lake_data
from hypothesis import given
from hypothesis import strategies as st
from lake_tables import (
    T0,
    all_records,
    book_rows,
    delta_rows,
    joined,
    odd_floats,
    refusal,
    trade_rows,
    values_of,
    without,
    written,
)
from properties import cases

from deltabook.schemas.names import INT64_MAX
from deltabook.udfs.numbers.decimal_text import scale_levels
from deltabook.udfs.sources.crypto_lake import source as crypto_lake
from deltabook.udfs.sources.crypto_lake.source import CryptoLakeSource


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    path = tmp_path_factory.mktemp("lake") / "deltas.parquet"
    lake_data.write_deltas(path, 5000, rows_per_message=9, row_group_rows=700, seed=1)
    table = pq.read_table(path)
    prices = table["price"].to_numpy().copy()
    prices[[17, 1399, 1400, 4999]] = [np.nan, -1.0, 0.0, np.inf]
    prices[[2100, 2800]] = 0.0000012345
    place = table.schema.get_field_index("price")
    return table.set_column(place, "price", pa.array(prices))


@pytest.fixture(scope="module")
def expected(market, tmp_path_factory):
    return joined(all_records(written(tmp_path_factory.mktemp("whole"), market)))


class TestParts:
    @pytest.mark.parametrize("batch_rows", [1, 7, 700, 10_000])
    def test_batches_do_not_change_records(self, market, expected, tmp_path, batch_rows):
        market, count = (market.slice(0, 300), 300) if batch_rows == 1 else (market, market.num_rows)
        path = written(tmp_path, market, row_group_size=count)
        whole = all_records(path)
        with patch.dict(crypto_lake._BATCH_ROWS, {"book_delta_v2": batch_rows}):
            assert all_records(path) == whole
        assert count < 5000 or len(joined(whole)) == len(expected)

    @pytest.mark.parametrize("group_rows", [41, 700, 4999])
    @pytest.mark.parametrize("part_rows", [1, 1000])
    def test_parts_join_to_the_same_messages(self, market, expected, tmp_path, group_rows, part_rows):
        path = written(tmp_path, market, row_group_size=group_rows)
        with patch.object(crypto_lake, "PART_ROWS", part_rows):
            parts = CryptoLakeSource({}).parts(path)
            pieces = all_records(path)
        assert parts[0][0] == 0
        assert all(before[1] == after[0] for before, after in pairwise(parts))
        found = joined(scaled_alike(pieces))
        want = joined(scaled_alike(expected.values()))
        assert found.keys() == want.keys()
        for key, message in want.items():
            assert found[key] | {"source_file": ""} == message | {"source_file": ""}

    def test_a_small_file_is_one_part(self, market, tmp_path):
        path = written(tmp_path, market, row_group_size=700)
        assert CryptoLakeSource({}).parts(path) == [None]

    def test_row_numbers_are_the_files(self, market, tmp_path):
        path = written(tmp_path, market, row_group_size=700)
        with patch.object(crypto_lake, "PART_ROWS", 1):
            rows = [r["source_row"] for r in all_records(path) if r["record"] == "quarantine"]
        assert rows == [18, 1400, 1401, 5000]


def scaled_alike(records):
    """Bring the levels of book updates to one scale: pieces of a message may each have their own."""
    for record in records:
        if record["record"] == "book_update":
            scaled = {
                f"{side}_{what}": [int(values[place].scaleb(12)) for values in values_of(record, side)]
                for side in ("bid", "ask")
                for place, what in enumerate(("prices", "sizes"))
            }
            record = record | scaled | {"price_scale": 12, "size_scale": 12}
        yield record


class TestFaults:
    @pytest.mark.parametrize("kept", [0, 3, 100, -1, -200])
    def test_a_truncated_file_fails_and_yields_its_verdict(self, tmp_path, kept):
        path = Path(written(tmp_path, delta_rows()))
        path.write_bytes(path.read_bytes()[:kept])
        assert refusal(str(path))

    def test_a_file_that_is_not_parquet_fails(self, tmp_path):
        path = tmp_path / "x.parquet"
        path.write_bytes(b"received_time,price\n1,2\n" * 100)
        assert "ArrowInvalid" in refusal(str(path))

    def test_a_page_whose_checksum_does_not_match_fails(self, tmp_path):
        path = Path(written(tmp_path, delta_rows(), write_page_checksum=True, compression="none"))
        content = bytearray(path.read_bytes())
        at = content.index(np.float64(100.3).tobytes())
        content[at] ^= 1
        path.write_bytes(content)
        assert refusal(str(path))

    @pytest.mark.parametrize("seed", range(40))
    def test_flipped_bytes_are_read_or_refused(self, tmp_path, seed):
        dice = random.Random(seed)
        path = Path(written(tmp_path, delta_rows()))
        content = bytearray(path.read_bytes())
        for _ in range(dice.randint(1, 8)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(content)
        reader = CryptoLakeSource({"path": str(path)}).reader(None)
        last = [b for partition in reader.partitions() for b in reader.read(partition)][-1].to_pylist()
        assert last[0]["record"] == "file"

    def test_the_benchmark_market_never_crosses(self, tmp_path):
        path = tmp_path / "deltas.parquet"
        lake_data.write_deltas(path, 20_000, seed=2)
        book = {"bid": {}, "ask": {}}
        for record in all_records(str(path)):
            for side, levels in book.items():
                for price, size in values_of(record, side):
                    levels[price] = size
                    if size == 0:
                        del levels[price]
            assert max(book["bid"]) < min(book["ask"])


printed = st.one_of(
    st.decimals(0, 10**12, places=6).map(str),
    st.decimals(0, 10, places=18).map(str),
    st.sampled_from(
        ["1e19", "-1", "NaN", "0", "", "9223372036854775807", "99999999999999999999", "1e-19", "x"]
    ),
)


class TestProperties:
    @given(st.lists(st.tuples(st.booleans(), printed, printed), min_size=1, max_size=8))
    @cases(150)
    def test_levels_equal_those_read_from_printed_numbers(self, rows):
        good = [row for row in rows if is_level(row[1], row[2])]
        columns = {
            "received_time": [T0] * len(rows),
            "origin_time": [T0] * len(rows),
            "sequence_number": [1] * len(rows),
            "side_is_bid": [is_bid for is_bid, _, _ in rows],
            "price": pa.array([price for _, price, _ in rows]),
            "size": pa.array([size for _, _, size in rows]),
        }
        with TemporaryDirectory() as folder:
            records = all_records(written(folder, columns))
        update = next(record for record in records if record["record"] == "book_update")
        wanted = scale_levels(
            [(price, size) for is_bid, price, size in good if is_bid],
            [(price, size) for is_bid, price, size in good if not is_bid],
        )
        assert {name: update[name] for name in wanted if name != "wide"} == without(wanted, "wide")
        assert bool(update["wide"]) == bool(wanted["wide"])
        assert update["damaged"] == (len(good) < len(rows))
        assert len(records) == 1 + len(rows) - len(good)

    @given(st.data())
    @cases(250)
    def test_any_table_is_read_quarantined_or_refused(self, data):
        make = data.draw(st.sampled_from([delta_rows, trade_rows, book_rows]))
        columns = make()
        count = data.draw(st.integers(0, 6))
        for name in data.draw(st.lists(st.sampled_from(sorted(columns)), max_size=3)):
            columns[name] = data.draw(odd_columns(6))
        columns = {name: values[:count] for name, values in columns.items()}
        columns = {name: pa.array(v) if isinstance(v, list) else v for name, v in columns.items()}
        count = min(map(len, columns.values()))
        table = pa.table({name: values[:count] for name, values in columns.items()})
        with TemporaryDirectory() as folder:
            path = written(folder, table)
            reader = CryptoLakeSource({"path": path}).reader(None)
            batches = [b for partition in reader.partitions() for b in reader.read(partition)]
        for batch in batches:
            batch.validate(full=True)
        records = [record for batch in batches for record in batch.to_pylist()]
        assert records[-1]["record"] == "file"
        if records[-1]["kind"] == "read" and make is not delta_rows:
            assert len(records) == 1 + count  # a row is a record or in quarantine
        if records[-1]["kind"] == "failed":
            assert records[-1]["reason"].startswith(("column", "expected", "row", "a time", "ArrowInvalid: "))


def is_level(price, size):
    try:
        scale_levels([(price, size)], [])
    except ValueError:
        return False
    return True


def odd_columns(count):
    def of(values, type_):
        cells = st.lists(st.none() | values, min_size=count, max_size=count)
        return cells.map(lambda cells: pa.array(cells, type_))

    int64 = st.integers(-(2**63), INT64_MAX)
    return st.one_of(
        of(odd_floats, pa.float64()),
        of(int64, pa.int64()),
        of(int64, pa.timestamp("ns")),
        of(int64, pa.timestamp("us")),
        of(st.integers(0, 2**64 - 1), pa.uint64()),
        of(st.booleans(), pa.bool_()),
        of(st.text(max_size=5) | printed, pa.string()),
        of(st.sampled_from(["buy", "BTC-USDT", "SELL"]), pa.string()).map(lambda a: a.dictionary_encode()),
        of(st.decimals(-(10**18), 10**18, places=10), pa.decimal128(38, 10)),
        of(st.floats(width=32), pa.float32()),
        st.just(pa.nulls(count)),
    )
