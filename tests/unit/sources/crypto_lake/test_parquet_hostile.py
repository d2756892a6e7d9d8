"""Hostile Parquet files: no code in their metadata is run, and no footer or column exhausts the memory."""

from __future__ import annotations

import base64
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake_tables import all_records, book_rows, delta_rows, refusal, trade_rows, written

from deltabook.udfs.sources.crypto_lake import columns as lake_columns
from deltabook.udfs.sources.crypto_lake import source as crypto_lake
from deltabook.udfs.sources.crypto_lake.source import CryptoLakeSource

MIB = 1 << 20


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def outcome(path: str, **options: str) -> list[dict[str, Any]]:
    """Read a file as a worker does; its records, the last of which is its end."""
    reader = CryptoLakeSource({"path": path} | options).reader(None)
    return [row for part in reader.partitions() for batch in reader.read(part) for row in batch.to_pylist()]


@pytest.mark.parametrize("extension", ["arrow.py_extension_type", "arrow.opaque", "pandas.period", "x.y"])
def test_pickle_in_the_metadata_is_never_loaded(tmp_path, extension):
    canary = tmp_path / "sang"
    bomb = pickle.dumps(Canary(canary))
    pickle.loads(bomb)
    assert canary.exists()  # it is one
    canary.unlink()
    plain = pa.table(delta_rows())
    named = {"ARROW:extension:name": extension, "ARROW:extension:metadata": bomb}
    fields = [field.with_metadata(named) for field in plain.schema]
    schema = pa.schema(fields, {"pandas": bomb, "pickle": bomb, "x": base64.b64encode(bomb)})
    table = plain.cast(pa.schema(fields)).replace_schema_metadata(schema.metadata)
    *records, end = outcome(written(tmp_path, table))
    assert not canary.exists()
    if extension == "arrow.opaque":  # Arrow's own, whose metadata is JSON
        assert end["reason"].startswith("ArrowInvalid")
    else:
        assert [row["level_changes"] for row in records] == [3, 1, 2]


def footer_of(path: str) -> tuple[bytes, bytes]:
    """Split a file into what is before the footer, and the footer's Thrift."""
    data = Path(path).read_bytes()
    (size,) = struct.unpack("<i", data[-8:-4])
    return data[: -8 - size], data[-8 - size : -8]


def with_footer(path: str, body: bytes, footer: bytes) -> str:
    Path(path).write_bytes(body + footer + struct.pack("<i", len(footer)) + b"PAR1")
    return path


def varint(value: int) -> bytes:
    """An integer as Thrift's compact protocol prints it."""
    value <<= 1
    printed = b""
    while value >= 128:
        printed += bytes([value & 127 | 128])
        value >>= 7
    return printed + bytes([value])


def test_footer_with_any_number_made_huge_is_refused_or_read_and_ends_no_process(tmp_path):
    path = written(tmp_path, delta_rows())
    usual = outcome(path)
    body, footer = footer_of(path)
    chosen = random.Random(4).sample(range(len(footer)), 300)
    rows = [at for at in range(len(footer)) if footer[at : at + 1] == varint(6)]
    read = 0
    for value in (2**40, 2**31 - 1, 60_000_000):
        for at in {*chosen, *rows}:
            found = outcome(with_footer(path, body, footer[:at] + varint(value) + footer[at + 1 :]))
            if found[-1]["kind"] == "read":  # a number that says nothing of the rows
                read += found == usual
            else:
                assert found[-1]["reason"]
    assert read
    assert pa.default_memory_pool().max_memory() < 1 << 30


def test_footer_that_claims_rows_which_are_not_there_is_refused(tmp_path):
    path = written(tmp_path, delta_rows())
    body, footer = footer_of(path)
    reasons = set()
    for claimed in (5, 7, 60_000_000):
        for at in (at for at in range(len(footer)) if footer[at : at + 1] == varint(6)):
            end = outcome(with_footer(path, body, footer[:at] + varint(claimed) + footer[at + 1 :]))[-1]
            reasons.add(end["reason"].split(":")[0])
    assert any(reason.startswith("the footer says that 1 more rows follow row 6") for reason in reasons)
    expected = "in memory, the file would be more than 200 times as large as on disk"
    assert any(reason.startswith(expected) for reason in reasons)


def test_arrow_schema_that_contradicts_the_file_is_refused_or_changes_nothing(tmp_path):
    path = written(tmp_path, delta_rows())
    usual = outcome(path)
    lies = [
        pa.list_(pa.float64()),
        pa.string(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.large_string(),
        pa.int8(),
    ]
    for lie in lies:
        table = pa.table(delta_rows())
        hostile = pa.schema([field.with_type(lie) for field in table.schema]).serialize().to_pybytes()
        metadata = {"ARROW:schema": base64.b64encode(hostile)}
        pq.write_table(table.replace_schema_metadata(metadata), path, store_schema=False)
        found = outcome(path)
        assert found == usual or found[-1]["reason"], lie
    for garbage in (b"", b"AAAA", base64.b64encode(b"\xff" * 5000), b"not base64"):
        pq.write_table(
            pa.table(delta_rows()).replace_schema_metadata({"ARROW:schema": garbage}),
            path,
            store_schema=False,
        )
        found = outcome(path)
        assert found == usual or found[-1]["reason"], garbage


@pytest.mark.parametrize("name", ["price", "symbol", "received_time", "side_is_bid"])
def test_nested_column_is_refused_by_name_where_it_is_used_and_passed_over_elsewhere(tmp_path, name):
    table = pa.table(delta_rows())
    place = table.column_names.index(name)
    for nested in ([[1.0]] * 6, [{"a": {"b": 1}}] * 6, [[[["x"]]]] * 6):
        assert refusal(written(tmp_path, table.set_column(place, name, pa.array(nested)))).startswith(
            f"column {name}"
        )
        assert len(all_records(written(tmp_path, table.append_column("more", pa.array(nested))))) == 3


def test_dictionary_of_more_symbols_than_a_file_may_name_is_refused(tmp_path):
    symbols = pa.DictionaryArray.from_arrays(pa.array([0] * 6), pa.array([f"S{n}-USDT" for n in range(50)]))
    plain = pa.table(delta_rows(symbol=[f"S{n}-USDT" for n in range(6)]))
    assert "at least 6 symbols" in refusal(written(tmp_path, plain), most_symbols="5")
    unused = written(tmp_path, pa.table(delta_rows()).set_column(7, "symbol", symbols))
    assert "at least 50 symbols" in refusal(unused, most_symbols="5")


@pytest.mark.parametrize(
    ("make", "name"), [(delta_rows, "price"), (trade_rows, "trade_id"), (delta_rows, "symbol")]
)
def test_long_text_that_many_rows_share_refuses_the_file(tmp_path, make, name):
    count = 4_000
    columns = {key: [values[0]] * count for key, values in make().items()}
    codes = pa.array([0] * count, pa.int32())
    long = pa.DictionaryArray.from_arrays(codes, pa.array(["9" * (MIB // 2)]))
    path = written(tmp_path, columns | {name: long}, compression="zstd", store_schema=False)
    most = pa.default_memory_pool().max_memory()
    assert "found 524,288 bytes" in refusal(path)
    assert pa.default_memory_pool().max_memory() < most + 64 * MIB  # and not 2 GB


def test_table_of_very_many_levels_is_refused_and_one_of_many_is_read_by_few_rows(tmp_path, monkeypatch):
    path = written(tmp_path, book_rows(depth=30), table="book")
    usual = outcome(path)
    monkeypatch.setattr(crypto_lake, "_BATCH_CELLS", 1)
    assert outcome(path) == usual
    monkeypatch.setattr(lake_columns, "MAX_BOOK_LEVELS", 29)
    assert refusal(path) == "expected a book of at most 29 levels per side, found 30"


def test_labels_of_a_long_dictionary_are_those_of_a_short_one():
    texts = pa.array(["b", None, "a", "b", None])
    long = pa.DictionaryArray.from_arrays(
        pa.array([7, None, 3, 7, None], pa.int32()), pa.array([*"xyzaqrsb", "unused", "more"])
    )
    for column in (texts, long):
        codes, names = lake_columns.encode_labels(column)
        assert [None if code < 0 else names[code] for code in codes.tolist()] == texts.to_pylist()
    assert len(names) == 2
