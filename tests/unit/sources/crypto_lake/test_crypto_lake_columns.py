"""Crypto Lake files are refused if a column is missing, has another type, or has values beyond int64."""

import pyarrow as pa
import pytest
from lake_tables import (
    all_records,
    book_rows,
    delta_rows,
    refusal,
    renamed,
    trade_rows,
    without,
    written,
)


class TestColumns:
    @pytest.mark.parametrize(
        ("columns", "missing"),
        [
            (without(delta_rows(), "size"), "missing size or amount"),
            (without(delta_rows(), "sequence_number"), "missing sequence_number"),
            (renamed(delta_rows(), side_is_bid="is_bid"), "missing side_is_bid"),
            (renamed(delta_rows(), received_time="received"), "missing received_time or receipt_timestamp"),
            (without(trade_rows(), "trade_id"), "missing trade_id or id"),
            (without(book_rows(), "ask_1_size"), "missing ask_1_size"),
            (without(book_rows(), "sequence_number"), "missing sequence_number"),
            ({"a": [1]}, "found a"),
        ],
    )
    def test_a_missing_column_refuses_the_file_and_is_named(self, tmp_path, columns, missing):
        reason = refusal(written(tmp_path, columns))
        assert reason.startswith("expected the columns of ")
        assert missing in reason
        assert "found " in reason

    @pytest.mark.parametrize(
        ("column", "values", "reason"),
        [
            (
                "price",
                pa.array([1.0] * 6, pa.float32()),
                "column price: expected float64, decimal128, an integer",
            ),
            ("size", pa.array([True] * 6), "column size: expected float64"),
            ("size", pa.array([[1.0]] * 6), "found list<"),
            ("side_is_bid", pa.array([1] * 6), "column side_is_bid: expected bool, found int64"),
            ("received_time", pa.array(["x"] * 6), "column received_time: expected a timestamp, int64 (ns)"),
            (
                "sequence_number",
                pa.array(["x"] * 6),
                "column sequence_number: expected an integer, found string",
            ),
            (
                "sequence_number",
                pa.array([1.0] * 6),
                "column sequence_number: expected an integer, found double",
            ),
            ("symbol", pa.array([1] * 6), "column symbol: expected text, found int64"),
        ],
    )
    def test_a_retyped_column_refuses_the_file_and_is_named(self, tmp_path, column, values, reason):
        assert reason in refusal(written(tmp_path, delta_rows(**{column: values})))

    def test_two_columns_of_one_name_refuse_the_file(self, tmp_path):
        table = pa.table(delta_rows())
        assert "have the same name" in refusal(written(tmp_path, table.append_column("price", table["size"])))

    def test_the_kind_is_sound_by_columns_not_by_the_path(self, tmp_path):
        assert {r["record"] for r in all_records(written(tmp_path, trade_rows()))} == {"trade"}
        assert {r["record"] for r in all_records(written(tmp_path, delta_rows(), table="book"))} == {
            "book_update"
        }

    def test_a_time_that_int64_nanoseconds_do_not_hold_refuses_the_file(self, tmp_path):
        assert refusal(written(tmp_path, delta_rows(received_time=[1e12] * 6)))
        far = pa.array([2**60] * 6, pa.timestamp("us"))
        assert refusal(written(tmp_path, delta_rows(received_time=far)))

    def test_an_id_beyond_int64_refuses_the_file(self, tmp_path):
        assert refusal(written(tmp_path, delta_rows(sequence_number=pa.array([2**63] * 6, pa.uint64()))))
