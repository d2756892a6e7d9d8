"""The command `raw`: it prints the raw line behind an event, also from a copy in the archive."""

import pyarrow.parquet as pq
import pytest
from captures import depth_rows, message_of, simulated_lines, write

from deltabook.udfs.simulator import crypto_lake
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark


def test_raw_prints_the_line_behind_an_event_also_from_the_archive(deltabook, tmp_path):
    lines = list(simulated_lines(40))
    path = write(tmp_path / "captures" / "a.gz", lines)
    warehouse = tmp_path / "w"
    assert deltabook("ingest", "binance", path, "--archive", "--warehouse", warehouse).exit_status == 0
    row = depth_rows(lines)[10]
    asked = ("raw", "BTC-USDT", message_of(lines[row])["u"], "--warehouse", warehouse)
    found = deltabook(*asked)
    assert (found.exit_status, found.stdout) == (0, lines[row].decode())
    assert f"{path}, row {row + 1}" in found.said
    path.unlink()
    found = deltabook(*asked, "--json")
    assert found.stdout.encode().startswith(lines[row])
    assert "_archive" in found.summary["records"][0]["path"]
    for copy in (warehouse / "_archive").glob("*/*"):
        copy.unlink()
    lost = deltabook(*asked)
    assert lost.exit_status == 2
    assert "has changed or is missing" in lost.said and "--archive" in lost.said
    assert "no such event" in deltabook("raw", "BTC-USDT", 1, "--warehouse", warehouse).said


def test_raw_prints_the_rows_of_a_message_of_a_table(deltabook, tmp_path):
    tables = crypto_lake.tables(Market(5), 30, "BINANCE", "BTC-USDT")
    files = crypto_lake.write_tables(tables, tmp_path / "lake")
    warehouse = tmp_path / "w"
    assert deltabook("ingest", "crypto_lake", *files, "--warehouse", warehouse).exit_status == 0
    deltas = next(file for file in files if "book_delta_v2" in str(file))
    rows = pq.ParquetFile(deltas).read().to_pylist()
    wanted = rows[-1]["sequence_number"]
    expected = [row for row in rows if row["sequence_number"] == wanted]
    found = deltabook("raw", "BTC-USDT", wanted, "--warehouse", warehouse)
    printed = found.stdout.splitlines()
    assert len(printed) == len(expected)
    assert f'"price": {expected[0]["price"]}' in printed[0]
