"""Make small Crypto Lake tables for tests, write them, and read them."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources.crypto_lake.source import CryptoLakeSource

T0 = 1_723_075_200_233_000_000
SECOND = 1_000_000_000
LEVELS = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")


def delta_rows(**changes):
    """Three messages, of 3, 1 and 2 rows."""
    columns = {
        "received_time": [T0, T0, T0, T0 + SECOND, T0 + 2 * SECOND, T0 + 2 * SECOND],
        "origin_time": [
            time - 5_000_000 for time in [T0, T0, T0, T0 + SECOND, T0 + 2 * SECOND, T0 + 2 * SECOND]
        ],
        "sequence_number": [7, 7, 7, 8, 9, 9],
        "side_is_bid": [True, False, True, False, True, True],
        "price": [100.1, 100.2, 99.9, 100.3, 100.0, 99.99],
        "size": [1.5, 0.0, 0.00000001, 2.0, 3.0, 0.1],
        "exchange": ["BINANCE"] * 6,
        "symbol": ["BTC-USDT"] * 6,
    }
    return columns | changes


def trade_rows(**changes):
    columns = {
        "received_time": [T0, T0 + 1000],
        "origin_time": [T0 - 1000, T0],
        "side": ["buy", "sell"],
        "quantity": [0.5, 0.25],
        "price": [100.1, 100.2],
        "trade_id": [11, 12],
    }
    return columns | changes


def book_rows(depth=3, **changes):
    columns = {"received_time": [T0, T0 + SECOND], "origin_time": [T0 - 1000] * 2, "sequence_number": [7, 8]}
    for level in range(depth):
        columns |= {f"bid_{level}_price": [100.0 - level] * 2, f"bid_{level}_size": [1.0 + level] * 2}
        columns |= {f"ask_{level}_price": [101.0 + level] * 2, f"ask_{level}_size": [2.0 + level] * 2}
    return columns | changes


def renamed(columns, **names):
    return {names.get(name, name): values for name, values in columns.items()}


def without(columns, *names):
    return {name: values for name, values in columns.items() if name not in names}


def written(folder, columns, table="book_delta_v2", hive="exchange=BINANCE/symbol=BTC-USDT", **options):
    path = Path(folder) / table / hive / "dt=2024-08-08" / "1.snappy.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return str(path)


def all_records(path, **options):
    """Read as Spark does; the file's verdicts must be all right."""
    reader = CryptoLakeSource({"path": path} | options).reader(None)
    records = []
    for partition in reader.partitions():
        for batch in reader.read(partition):
            assert batch.schema == RECORDS.arrow
            batch.validate(full=True)
            records += batch.to_pylist()
    verdicts = [record for record in records if record["record"] == "file"]
    assert {record["kind"] for record in verdicts} == {"read"}
    return sorted(
        (record for record in records if record["record"] != "file"), key=lambda record: record["source_row"]
    )


def refusal(path, **options):
    """Read a file that must be refused, and return why."""
    reader = CryptoLakeSource({"path": path} | options).reader(None)
    records = [
        record
        for partition in reader.partitions()
        for batch in reader.read(partition)
        for record in batch.to_pylist()
    ]
    assert records[-1]["record"] == "file"
    assert records[-1]["kind"] == "failed"
    return records[-1]["reason"]


def joined(records):
    """Join the pieces of a message, as the ordering stage does."""
    messages = {}
    for record in records:
        if record["record"] != "book_update":
            messages[record["record"], record["source_row"]] = record
            continue
        key = tuple(record[name] for name in ("exchange", "symbol", "received", "sequence"))
        if key not in messages:
            messages[key] = record
            continue
        whole = messages[key]
        assert (whole["price_scale"], whole["size_scale"]) == (record["price_scale"], record["size_scale"])
        messages[key] = whole | {name: whole[name] + record[name] for name in (*LEVELS, "level_changes")}
        messages[key]["damaged"] = whole["damaged"] or record["damaged"]
    return messages


def values_of(record, side):
    scales = record["price_scale"], record["size_scale"]
    pairs = zip(record[f"{side}_prices"], record[f"{side}_sizes"], strict=True)
    return [tuple(Decimal(v).scaleb(-s) for v, s in zip(pair, scales, strict=True)) for pair in pairs]


odd_floats = st.one_of(
    st.floats(),
    st.sampled_from(
        [0.0, -0.0, 1e-8, 1e7, 9.2e10, 1e15, 2.0**53, 5e-324, 0.1 + 0.2, 1e-18, 123456789.12345679]
    ),
    st.builds(lambda v, d: v / 10**d, st.integers(0, 10**16), st.integers(0, 19)),
)
