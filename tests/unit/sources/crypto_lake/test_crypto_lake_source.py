"""Read level changes of Crypto Lake: rows become messages, and bad rows are quarantined."""

import json
import random
from decimal import Decimal
from unittest.mock import patch

import pyarrow as pa
import pytest
from lake_tables import (
    LEVELS,
    SECOND,
    T0,
    all_records,
    delta_rows,
    joined,
    refusal,
    renamed,
    values_of,
    without,
    written,
)

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import INT64_MAX
from deltabook.udfs.sources.crypto_lake import source as crypto_lake
from deltabook.udfs.sources.crypto_lake.levels import (
    BAD,
    STRICT,
)
from deltabook.udfs.sources.crypto_lake.source import CryptoLakeSource
from deltabook.udfs.sources.crypto_lake.values import read_numbers


class TestDeltas:
    def test_rows_of_one_message_become_one_record_field_by_field(self, tmp_path):
        path = written(tmp_path, delta_rows())
        records = all_records(path)
        assert records[0] == {
            "record": "book_update",
            "kind": "",
            "exchange": "BINANCE",
            "symbol": "BTC-USDT",
            "timestamp": T0 - 5_000_000,
            "received": T0,
            "sequence": 7,
            "source_file": path,
            "source_row": 1,
            "is_snapshot": False,
            "first_sequence": -1,
            "prev_sequence": -1,
            "damaged": False,
            "checksum": -1,
            "price_digits": -1,
            "size_digits": -1,
            "kept_levels": -1,
            "bid_prices": [10_010_000_000, 9_990_000_000],
            "bid_sizes": [150_000_000, 1],
            "ask_prices": [10_020_000_000],
            "ask_sizes": [0],
            "trade_id": -1,
            "side": "",
            "price": -1,
            "size": -1,
            "price_scale": 8,
            "size_scale": 8,
            "level_changes": 3,
            "wide": b"",
            "reason": "",
            "raw": b"",
        }
        assert [(r["sequence"], r["source_row"]) for r in records] == [(7, 1), (8, 4), (9, 5)]

    @pytest.mark.parametrize(
        "names",
        [
            {"received_time": "receipt_timestamp"},
            {"origin_time": "timestamp"},
            {"size": "amount"},
            {"received_time": "receipt_timestamp", "origin_time": "timestamp", "size": "amount"},
        ],
    )
    def test_older_spellings_read_the_same(self, tmp_path, names):
        expected = all_records(written(tmp_path, delta_rows()))
        assert all_records(written(tmp_path, renamed(delta_rows(), **names))) == expected

    @pytest.mark.parametrize(
        "make",
        [
            lambda ns: pa.array(ns, pa.timestamp("ns")),
            lambda ns: pa.array(ns, pa.timestamp("ns", "UTC")),
            lambda ns: pa.array([time // 1000 for time in ns], pa.timestamp("us")),
            lambda ns: pa.array([time // 10**6 for time in ns], pa.timestamp("ms")),
            lambda ns: pa.array([time / 1e9 for time in ns], pa.float64()),
            lambda ns: pa.array([int(float(time)) for time in ns], pa.int64()),
            lambda ns: pa.array([int(time / 1e9 * 1e9) for time in ns], pa.timestamp("ns")),
        ],
        ids=["ns", "ns UTC", "us", "ms", "float seconds", "float-rounded ns", "twice rounded ns"],
    )
    def test_every_type_of_time_reads_the_same(self, tmp_path, make):
        rows = delta_rows()
        times = {name: make(rows[name]) for name in ("received_time", "origin_time")}
        assert all_records(written(tmp_path, rows | times)) == all_records(written(tmp_path, rows))

    @pytest.mark.parametrize(
        "make",
        [
            lambda floats: pa.array([Decimal(repr(x)) for x in floats], pa.decimal128(38, 18)),
            lambda floats: pa.array([Decimal(repr(x)) for x in floats], pa.decimal128(20, 8)),
            lambda floats: pa.array([repr(x) for x in floats], pa.string()),
            lambda floats: pa.array([repr(x) for x in floats], pa.large_string()),
            lambda floats: pa.array([repr(x) for x in floats]).dictionary_encode(),
        ],
        ids=["decimal 18", "decimal 8", "text", "large text", "dictionary"],
    )
    def test_every_type_of_number_reads_the_same(self, tmp_path, make):
        rows = delta_rows()
        typed = {name: make(rows[name]) for name in ("price", "size")}
        assert all_records(written(tmp_path, rows | typed)) == all_records(written(tmp_path, rows))

    @pytest.mark.parametrize("type_", [pa.int8(), pa.int64(), pa.uint64(), pa.decimal128(5, 0)], ids=str)
    def test_whole_numbers_read_as_floats_do(self, tmp_path, type_):
        rows = delta_rows(price=[float(price) for price in range(1, 7)])
        typed = rows | {
            "price": pa.array([Decimal(n) if pa.types.is_decimal(type_) else n for n in range(1, 7)], type_)
        }
        assert all_records(written(tmp_path, typed)) == all_records(written(tmp_path, rows))

    def test_integers_beyond_what_a_float_holds_stay_exact(self, tmp_path):
        rows = delta_rows(sequence_number=[2**53 + 1] * 3 + [2**53 + 2, INT64_MAX, INT64_MAX])
        rows["size"] = pa.array([2**53 + 1] + [INT64_MAX] * 5, pa.int64())
        records = all_records(written(tmp_path, rows))
        assert [record["sequence"] for record in records] == [2**53 + 1, 2**53 + 2, INT64_MAX]
        sizes = [
            size for record in records for _, size in values_of(record, "bid") + values_of(record, "ask")
        ]
        assert sorted(sizes) == sorted([Decimal(2**53 + 1)] + [Decimal(INT64_MAX)] * 5)

    def test_a_null_beside_a_large_id_does_not_change_it_and_takes_its_place(self, tmp_path):
        ids = pa.array([2**53 + 1] * 3 + [None] * 3, pa.int64())
        records = all_records(written(tmp_path, delta_rows(sequence_number=ids)))
        assert [r["sequence"] for r in records] == [2**53 + 1] * 3
        assert [r["received"] for r in records] == [T0, T0 + SECOND, T0 + 2 * SECOND]

    @pytest.mark.parametrize(
        "ids",
        [[0] * 6, [-1] * 6, pa.nulls(6), pa.nulls(6, pa.int64()), pa.array([float("nan")] * 6)],
        ids=["0", "-1", "null type", "nulls", "NaN"],
    )
    def test_without_ids_the_receive_time_is_the_order(self, tmp_path, ids):
        records = all_records(written(tmp_path, delta_rows(sequence_number=ids)))
        assert [record["sequence"] for record in records] == [T0, T0 + SECOND, T0 + 2 * SECOND]

    @pytest.mark.parametrize("time", [0, -1, None])
    def test_an_origin_time_not_given_is_minus_one(self, tmp_path, time):
        origin = pa.array([time] * 6, pa.timestamp("ns"))
        assert {r["timestamp"] for r in all_records(written(tmp_path, delta_rows(origin_time=origin)))} == {
            -1
        }

    def test_a_missing_receive_time_beside_ids_is_minus_one(self, tmp_path):
        received = pa.array([None] * 6, pa.float64())
        records = all_records(written(tmp_path, delta_rows(received_time=received)))
        assert [(r["received"], r["sequence"]) for r in records] == [(-1, 7), (-1, 8), (-1, 9)]

    def test_a_row_without_time_and_id_refuses_the_file(self, tmp_path):
        rows = delta_rows(received_time=pa.array([T0] * 3 + [None] * 3, pa.int64()), sequence_number=[0] * 6)
        assert "row 4: expected received_time or sequence_number" in refusal(written(tmp_path, rows))

    def test_the_path_names_what_no_column_does(self, tmp_path):
        rows = without(delta_rows(), "exchange", "symbol")
        path = written(tmp_path, rows, hive="exchange=binance_futures/symbol=eth-usdt-perp")
        assert {(r["exchange"], r["symbol"]) for r in all_records(path)} == {
            ("BINANCE_FUTURES", "ETH-USDT-PERP")
        }

    def test_a_column_goes_before_the_path(self, tmp_path):
        path = written(tmp_path, delta_rows(), hive="exchange=KRAKEN/symbol=ETH-USD")
        assert {(r["exchange"], r["symbol"]) for r in all_records(path)} == {("BINANCE", "BTC-USDT")}

    def test_neither_column_nor_path_refuses_the_file(self, tmp_path):
        path = written(tmp_path, without(delta_rows(), "symbol"), hive="exchange=BINANCE")
        assert "expected a column symbol, or a folder symbol=" in refusal(path)

    @pytest.mark.parametrize("as_dictionary", [False, True])
    def test_several_symbols_in_one_file_part_messages(self, tmp_path, as_dictionary):
        symbols = pa.array(["BTC-USDT", "ETH-USDT", "BTC-USDT", "BTC-USDT", "ETH-USDT", "BTC-USDT"])
        rows = delta_rows(symbol=symbols.dictionary_encode() if as_dictionary else symbols)
        records = all_records(written(tmp_path, rows))
        assert [(r["symbol"], r["source_row"]) for r in records] == [
            ("BTC-USDT", 1),
            ("ETH-USDT", 2),
            ("BTC-USDT", 3),
            ("BTC-USDT", 4),
            ("ETH-USDT", 5),
            ("BTC-USDT", 6),
        ]
        assert len(joined(records)) == 5

    @pytest.mark.parametrize("symbol", ["..\\x", "<b>", "A B", "", "x'or'1'='1", None])
    def test_a_hostile_symbol_refuses_the_file(self, tmp_path, symbol):
        assert "symbol" in refusal(written(tmp_path, delta_rows(symbol=pa.array([symbol] * 6, pa.string()))))

    @pytest.mark.parametrize(
        ("column", "value", "reason"),
        [
            ("price", float("nan"), "price 'nan' is not a plain finite number"),
            ("price", float("inf"), "price 'inf' is not a plain finite number"),
            ("price", 0.0, "a level has price 0"),
            ("price", -0.0, "a level has price 0"),
            ("price", -1.0, "price -1.0 is negative"),
            ("price", 1e-30, "behind it"),
            ("price", None, "price 'None' is not a plain finite number"),
            ("size", -0.5, "size -0.5 is negative"),
            ("size", float("nan"), "size 'nan' is not a plain finite number"),
            ("size", float("-inf"), "size '-inf' is not a plain finite number"),
            ("size", 1e300, "digits before the point"),
            ("side_is_bid", None, "expected true or false, found null"),
        ],
    )
    def test_a_bad_row_is_quarantined_and_its_message_damaged(self, tmp_path, column, value, reason):
        rows = delta_rows()
        rows[column] = [value if row == 1 else old for row, old in enumerate(rows[column])]
        records = all_records(written(tmp_path, rows))
        quarantined = [record for record in records if record["record"] == "quarantine"]
        assert len(quarantined) == 1
        assert reason in quarantined[0]["reason"]
        assert quarantined[0]["source_row"] == 2
        raw = json.loads(quarantined[0]["raw"])
        assert raw["received_time"] == T0
        assert str(raw[column]) == str(value)
        updates = [record for record in records if record["record"] == "book_update"]
        assert [update["damaged"] for update in updates] == [True, False, False]
        assert updates[0]["ask_prices"] == []
        assert updates[0]["bid_prices"] == [10_010_000_000, 9_990_000_000]

    def test_a_message_of_bad_rows_alone_stays_as_an_empty_damaged_update(self, tmp_path):
        rows = delta_rows(price=[float("nan")] * 3 + [100.3, 100.0, 99.99])
        records = all_records(written(tmp_path, rows))
        update = next(record for record in records if record["record"] == "book_update")
        assert (update["sequence"], update["damaged"]) == (7, True)
        assert [update[name] for name in LEVELS] == [[], [], [], []]

    def test_a_negative_zero_size_deletes(self, tmp_path):
        rows = delta_rows(size=[-0.0] * 6)
        assert {size for r in all_records(written(tmp_path, rows)) for size in r["bid_sizes"]} == {0}

    def test_a_message_that_eight_decimals_do_not_hold_has_its_own_scale(self, tmp_path):
        rows = delta_rows(price=[0.0000012345, 0.5, 1.25, 100.3, 100.0, 99.99])
        first, second, _ = all_records(written(tmp_path, rows))
        assert first["price_scale"] == 10
        assert first["bid_prices"] == [12345, 12_500_000_000]
        assert first["ask_prices"] == [5_000_000_000]
        assert (second["price_scale"], first["size_scale"]) == (8, 8)

    def test_a_size_that_eight_decimals_leave_no_room_for_has_less(self, tmp_path):
        first, *_ = all_records(written(tmp_path, delta_rows(size=[123456789012.5, 1.0, 2.0, 2.0, 3.0, 0.1])))
        assert first["size_scale"] < 8
        assert [size for _, size in values_of(first, "bid")] == [Decimal("123456789012.5"), 2]
        assert [price for price, _ in values_of(first, "bid")] == [Decimal("100.1"), Decimal("99.9")]

    def test_a_float_of_17_digits_keeps_them_all(self, tmp_path):
        sizes = [0.1 + 0.2, 2.0, 1.0, 2.0, 3.0, 0.1]
        first, *_ = all_records(written(tmp_path, delta_rows(size=sizes)))
        assert first["size_scale"] == 17
        assert [size for _, size in values_of(first, "bid")] == [Decimal("0.30000000000000004"), 1]
        assert [size for _, size in values_of(first, "ask")] == [2]

    def test_numbers_no_int64_holds_together_go_the_wide_way(self, tmp_path):
        first, *_ = all_records(
            written(tmp_path, delta_rows(size=[1e19, 0.00000001, 0.000000000000000001, 2.0, 3.0, 0.1]))
        )
        wide = json.loads(first["wide"])
        levels = {side: [[Decimal(text) for text in pair] for pair in wide[side]] for side in wide}
        tiny = Decimal("1e-18")
        assert levels["bids"] == [[Decimal("100.1"), Decimal("1e19")], [Decimal("99.9"), tiny]]
        assert levels["asks"] == [[Decimal("100.2"), Decimal("1e-8")]]

    def test_shuffled_messages_are_read_as_they_stand(self, tmp_path):
        table = pa.table(delta_rows())
        order = [4, 5, 0, 1, 2, 3]
        records = all_records(written(tmp_path, table.take(order)))
        assert [(r["sequence"], r["source_row"]) for r in records] == [(9, 1), (7, 3), (8, 6)]

    def test_shuffled_rows_join_to_the_same_levels(self, tmp_path):
        table = pa.table(delta_rows())
        order = list(range(6))
        random.Random(3).shuffle(order)
        shuffled = joined(all_records(written(tmp_path, table.take(order), hive="a=b")))
        straight = joined(all_records(written(tmp_path, table)))
        assert shuffled.keys() == straight.keys()
        for key, message in straight.items():
            for side in ("bid", "ask"):
                assert sorted(values_of(shuffled[key], side)) == sorted(values_of(message, side))

    @pytest.mark.parametrize("batch_rows", [1, 2, 1 << 18])
    def test_a_message_longer_than_the_cap_refuses_the_file(self, tmp_path, batch_rows):
        rows = delta_rows(received_time=[T0] * 6, sequence_number=[7] * 6)
        path = written(tmp_path, rows)
        with patch.dict(crypto_lake._BATCH_ROWS, {"book_delta_v2": batch_rows}):
            assert len(all_records(path, most_levels="6")) == 1
            reason = refusal(path, most_levels="5")
        assert reason.startswith("a message has at least 6 level changes; the limit is 5 (setting")

    def test_an_empty_file_has_no_records(self, tmp_path):
        assert all_records(written(tmp_path, pa.table(delta_rows()).slice(0, 0))) == []


def test_wide_decimals_are_never_cut():
    column = pa.array([Decimal(2**65), Decimal(2**63), None, Decimal(5)], pa.decimal128(30, 0))
    read = read_numbers(column)
    assert read.decimals.tolist() == [STRICT, STRICT, BAD, 8]
    assert read.integers[3] == 5 * 10**8
    assert [read.printed(row) for row in (0, 1)] == [str(2**65), str(2**63)]


def test_a_refusal_raises_input_error(tmp_path):
    with pytest.raises(InputError, match="missing"):
        list(CryptoLakeSource({}).read_part(written(tmp_path, {"price": [1.0]}), None))
