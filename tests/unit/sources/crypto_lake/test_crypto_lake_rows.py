"""Read trades and the vendor's books of Crypto Lake in the way in which Spark reads them."""

from decimal import Decimal

import pyarrow as pa
import pytest
from benchmarks import lake_data
from lake_tables import LEVELS, T0, all_records, book_rows, renamed, trade_rows, values_of, written

from deltabook.schemas.names import INT64_MAX
from deltabook.udfs.sources.common.message_fields import hash_id
from deltabook.udfs.sources.common.records import EMPTY_RECORD


class TestTrades:
    def test_a_trade_field_by_field(self, tmp_path):
        path = written(tmp_path, trade_rows(), table="trades")
        first, second = all_records(path)
        assert first | {"source_file": ""} == EMPTY_RECORD | {
            "record": "trade",
            "exchange": "BINANCE",
            "symbol": "BTC-USDT",
            "timestamp": T0 - 1000,
            "received": T0,
            "sequence": T0,
            "source_file": "",
            "source_row": 1,
            "trade_id": 11,
            "side": "buy",
            "price": 10_010_000_000,
            "size": 50_000_000,
            "level_changes": 0,
        } | {name: [] for name in LEVELS}
        assert (second["side"], second["source_row"], second["trade_id"]) == ("sell", 2, 12)

    def test_older_spellings_read_the_same(self, tmp_path):
        names = {"quantity": "amount", "trade_id": "id", "received_time": "receipt_timestamp"}
        old = renamed(trade_rows(), origin_time="timestamp", **names)
        assert all_records(written(tmp_path, old)) == all_records(written(tmp_path, trade_rows()))

    @pytest.mark.parametrize(
        "sides",
        [["BUY", "Sell"], [True, False], pa.array(["buy", "sell"]).dictionary_encode()],
        ids=["case", "bool", "dictionary"],
    )
    def test_every_type_of_side_reads_the_same(self, tmp_path, sides):
        changed = all_records(written(tmp_path, trade_rows(side=sides)))
        assert changed == all_records(written(tmp_path, trade_rows()))

    @pytest.mark.parametrize(
        ("ids", "expected"),
        [
            ([2**53 + 1, INT64_MAX], [2**53 + 1, INT64_MAX]),
            (pa.array([2**53 + 1, None], pa.int64()), [2**53 + 1, -1]),
            (["12", "a-b"], [12, hash_id("a-b")]),
            (["012", None], [hash_id("012"), -1]),
            (["9" * 19, ""], [hash_id("9" * 19), hash_id("")]),
        ],
    )
    def test_an_id_is_its_integer_or_the_hash_of_its_text(self, tmp_path, ids, expected):
        records = all_records(written(tmp_path, trade_rows(trade_id=ids)))
        assert [record["trade_id"] for record in records] == expected

    @pytest.mark.parametrize(
        ("column", "value", "reason"),
        [
            ("side", "up", "column side: expected buy or sell, found 'up'"),
            ("side", None, "column side: expected buy or sell, found None"),
            ("price", float("nan"), "price 'nan'"),
            ("price", 0.0, "a trade has price 0"),
            ("quantity", -1.0, "size -1.0 is negative"),
            ("received_time", None, "expected a received_time"),
        ],
    )
    def test_a_bad_trade_is_quarantined_and_the_others_stay(self, tmp_path, column, value, reason):
        rows = trade_rows()
        rows[column] = [rows[column][0], value]
        trade, quarantined = all_records(written(tmp_path, rows))
        assert (trade["record"], trade["trade_id"]) == ("trade", 11)
        assert (quarantined["record"], quarantined["source_row"]) == ("quarantine", 2)
        assert reason in quarantined["reason"]

    def test_scales_are_each_trades_own(self, tmp_path):
        rows = trade_rows(price=[0.0000012345, 1.0], quantity=[1.0, 123456789012.5])
        first, second = all_records(written(tmp_path, rows))
        assert (first["price"], first["price_scale"], first["size_scale"]) == (12345, 10, 8)
        assert Decimal(second["size"]).scaleb(-second["size_scale"]) == Decimal("123456789012.5")

    def test_trades_keep_the_files_order(self, tmp_path):
        path = tmp_path / "trades.parquet"
        lake_data.write_trades(path, 1000, seed=3)
        records = all_records(str(path))
        assert [record["trade_id"] for record in records] == list(range(1, 1001))


class TestBook:
    def test_a_book_becomes_a_golden_row(self, tmp_path):
        path = written(tmp_path, book_rows(), table="book")
        first, second = all_records(path)
        assert first | {"source_file": ""} == EMPTY_RECORD | {
            "record": "golden",
            "kind": "vendor_book",
            "exchange": "BINANCE",
            "symbol": "BTC-USDT",
            "timestamp": T0 - 1000,
            "received": T0,
            "sequence": 7,
            "source_file": "",
            "source_row": 1,
            "bid_prices": [100 * 10**8, 99 * 10**8, 98 * 10**8],
            "bid_sizes": [10**8, 2 * 10**8, 3 * 10**8],
            "ask_prices": [101 * 10**8, 102 * 10**8, 103 * 10**8],
            "ask_sizes": [2 * 10**8, 3 * 10**8, 4 * 10**8],
            "level_changes": 6,
        }
        assert (second["sequence"], second["source_row"]) == (8, 2)

    @pytest.mark.parametrize("column", ["bid_1_price", "bid_1_size"])
    @pytest.mark.parametrize("value", [float("nan"), None])
    def test_an_absent_level_ends_its_side_only(self, tmp_path, column, value):
        first, second = all_records(written(tmp_path, book_rows(**{column: [value, 5.0]})))
        assert len(first["bid_prices"]) == 1
        assert len(first["ask_prices"]) == len(second["bid_prices"]) == 3

    def test_a_size_of_0_ends_its_side(self, tmp_path):
        first, _ = all_records(written(tmp_path, book_rows(ask_0_size=[0.0, 1.0])))
        assert (first["ask_prices"], len(first["bid_prices"])) == ([], 3)

    @pytest.mark.parametrize("column", ["bid_0_size", "ask_2_price"])
    @pytest.mark.parametrize("value", [-1.0, float("inf")])
    def test_a_bad_number_quarantines_the_whole_book(self, tmp_path, column, value):
        quarantined, second = all_records(written(tmp_path, book_rows(**{column: [value, 5.0]})))
        assert (quarantined["record"], quarantined["source_row"]) == ("quarantine", 1)
        assert second["record"] == "golden"

    def test_a_book_without_a_place_is_quarantined(self, tmp_path):
        rows = book_rows(sequence_number=[0, 0], received_time=pa.array([None, T0], pa.int64()))
        quarantined, second = all_records(written(tmp_path, rows))
        assert "the order of the" in quarantined["reason"]
        assert second["sequence"] == T0

    def test_a_book_keeps_its_own_scale(self, tmp_path):
        rows = book_rows(bid_0_price=[0.0000012345, 100.0], bid_0_size=[123456789012.5, 1.0])
        first, second = all_records(written(tmp_path, rows))
        assert values_of(first, "bid")[0] == (Decimal("0.0000012345"), Decimal("123456789012.5"))
        assert (second["price_scale"], second["size_scale"]) == (8, 8)

    def test_depth_is_counted_by_columns(self, tmp_path):
        assert len(all_records(written(tmp_path, book_rows(depth=20)))[0]["ask_prices"]) == 20

    def test_the_seed_is_the_book_after_the_first_message(self, tmp_path):
        lake_data.write_seed(tmp_path / "book.parquet")
        lake_data.write_deltas(tmp_path / "deltas.parquet", 100)
        golden = all_records(str(tmp_path / "book.parquet"))[0]
        first = all_records(str(tmp_path / "deltas.parquet"))[0]
        assert (golden["sequence"], golden["received"]) == (first["sequence"], first["received"])
        for side in ("bid", "ask"):
            assert sorted(values_of(golden, side)) == sorted(values_of(first, side))
