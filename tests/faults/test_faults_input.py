"""Faults of raw files, tested through the command line.

A bad file is refused as a whole, a bad line is quarantined with its reason, and unusual but valid input is
read exactly.
"""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captures import depth_rows, message_of, simulated_lines, write
from faulted import books_by_id, build, edited, gap_kinds, into, lake, of_table, reasons, rows

from deltabook.expectations.suites import SUITES
from deltabook.schemas import tables
from deltabook.udfs.simulator import kraken, tardis
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.sources.registry import SOURCES

pytestmark = pytest.mark.spark

MS = 1_000_000
TIME = 1_733_011_200_691


def okx_lines(count: int = 12) -> list[bytes]:
    """A book of OKX and its changes, linked by ids."""
    lines = []
    for number in range(count):
        entry = {"asks": [["101", str(number + 1), "0", "1"]], "bids": [["100", str(number + 1), "0", "1"]]}
        entry |= {"ts": str(TIME + number), "seqId": 10 + number, "prevSeqId": 9 + number if number else -1}
        action = "update" if number else "snapshot"
        argument = {"channel": "books", "instId": "BTC-USDT"}
        lines.append(json.dumps({"arg": argument, "action": action, "data": [entry]}).encode() + b"\n")
    return lines


def bybit_lines(count: int = 12) -> list[bytes]:
    """A book of Bybit and its changes, numbered."""
    lines = []
    for number in range(count):
        data = {"s": "XRPUSDT", "b": [["1.9531", str(number + 1)]], "a": [["1.9532", str(number + 1)]]}
        data |= {"u": 10 + number, "seq": 1000 + number}
        message = {"topic": "orderbook.500.XRPUSDT", "type": "delta" if number else "snapshot"}
        message |= {"ts": TIME + number, "data": data}
        lines.append(json.dumps(message).encode() + b"\n")
    return lines


def tardis_text(seed: int = 5) -> list[str]:
    return list(tardis.csv_lines(Market(seed), 60, "binance-futures", "BTCUSDT")["incremental_book_L2"])


def tardis_files(text: list[str], folder: Path) -> list[Path]:
    return tardis.write_csv(text, folder, "incremental_book_L2", "binance-futures", "BTCUSDT")


def kraken_lines() -> list[bytes]:
    return list(kraken.dump_lines(Market(5), 60, "XBT/USD", depth=100))


def test_unreadable_files_are_refused_and_others_ingested(deltabook, spark, tmp_path):
    lines = list(simulated_lines(60))
    good = write(tmp_path / "raw" / "good.gz", lines)
    data = good.read_bytes()
    (tmp_path / "raw" / "truncated.gz").write_bytes(gzip.compress(b"".join(lines[::-1]))[:-900])
    (tmp_path / "raw" / "crc.gz").write_bytes(data[:-8] + bytes(4) + data[-4:])
    (tmp_path / "raw" / "truncated.zip").write_bytes(b"PK\x03\x04 no directory at the end")
    mixed = [edited(lines[row], E=message_of(lines[row])["E"] * 1000) for row in depth_rows(lines)[-1:]]
    write(tmp_path / "raw" / "mixed.jsonl", lines[:-40] + mixed, compress=False)
    (tmp_path / "raw" / "bomb.gz").write_bytes(gzip.compress((b" " * (1 << 20) + b"\n") * 24, 9))
    (tmp_path / "raw" / "line.txt").write_bytes(b"x" * (65 << 20))
    run = deltabook("ingest", "binance", tmp_path / "raw", *into(tmp_path / "w"))
    assert run.exit_status == 3
    refused = reasons(run)
    expected = {
        "truncated.gz": "EOFError",
        "crc.gz": "CRC",
        "truncated.zip": "BadZipFile",
        "mixed.jsonl": "mix units",
        "bomb.gz": "more than 200 times as large",
        "line.txt": "longer than 64 MiB",
    }
    assert refused.keys() == expected.keys()
    assert all(part in refused[name] for name, part in expected.items()), refused
    assert all(name in run.said for name in expected)
    assert {row["source_file"] for row in rows(tmp_path / "w", tables.EVENTS)} == {str(good)}
    ledger = {Path(row["path"]).name: row for row in rows(tmp_path / "w", tables.FILES)}
    assert {name: row["state"] for name, row in ledger.items()} == {"good.gz": "ingested"} | dict.fromkeys(
        expected, "failed"
    )
    assert {name: ledger[name]["reason"] for name in expected} == refused
    assert spark.conf.get("spark.sql.files.ignoreCorruptFiles") == "false"


def test_compression_bombs_do_not_fill_the_memory(tmp_path):
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(256 << 20), 9))
    for source in ("binance", "okx", "bybit", "kraken", "tardis"):
        reader = SOURCES[source]({"path": str(bomb)}).reader(None)
        tracemalloc.start()
        try:
            records = [
                row for part in reader.partitions() for b in reader.read(part) for row in b.to_pylist()
            ]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [row["kind"] for row in records if row["record"] == "file"] == ["failed"], source
        assert peak < 160 << 20, source


def test_truncated_gzip_of_every_source_is_refused(deltabook, tmp_path):
    contents = {
        "tardis": "".join(tardis_text()).encode(),
        "kraken": b"".join(kraken_lines()),
        "okx": b"".join(okx_lines(400)),
        "bybit": b"".join(bybit_lines(400)),
    }
    for source, content in contents.items():
        (tmp_path / source).mkdir()
        whole = gzip.compress(content, mtime=0)
        name = "book.csv.gz" if source == "tardis" else "KRAKEN.ws.0.0"
        for folder, data in (
            ("good", whole),
            ("cut", gzip.compress(content + content[-40:])[: len(whole) // 2]),
        ):
            path = tmp_path / source / folder / name
            path.parent.mkdir()
            path.write_bytes(data)
        run = deltabook("ingest", source, tmp_path / source, *into(tmp_path / "w"))
        assert run.exit_status == 3, source
        (refused,) = run.summary["refused"]
        assert (refused["path"], run.summary["files_read"]) == (str(tmp_path / source / "cut" / name), 1)
        assert "EOFError" in refused["reason"]
    assert {Path(row["source_file"]).parts[-2] for row in rows(tmp_path / "w", tables.EVENTS)} == {"good"}


def test_truncated_or_changed_parquet_is_refused_by_name(deltabook, tmp_path):
    deltas = of_table(lake(tmp_path / "lake"), "book_delta_v2")
    table = pq.ParquetFile(deltas).read()
    folder = deltas.parent
    (folder / "half.parquet").write_bytes(deltas.read_bytes()[: deltas.stat().st_size // 2])
    pq.write_table(table.rename_columns({"side_is_bid": "is_bid"}), folder / "renamed.parquet")
    pq.write_table(table.drop_columns(["size"]), folder / "missing.parquet")
    ids = pa.array([float(n) for n in table["sequence_number"].to_pylist()])
    retyped = table.set_column(table.schema.get_field_index("sequence_number"), "sequence_number", ids)
    pq.write_table(retyped, folder / "retyped.parquet")
    run = deltabook("ingest", "crypto_lake", tmp_path / "lake", *into(tmp_path / "w"))
    assert run.exit_status == 3
    refused = reasons(run)
    assert refused.keys() == {f"{name}.parquet" for name in ("half", "renamed", "missing", "retyped")}
    assert "side_is_bid" in refused["renamed.parquet"]
    assert "size" in refused["missing.parquet"]
    assert "sequence_number" in refused["retyped.parquet"]
    assert run.summary["level_changes"] == table.num_rows


def test_csv_with_another_header_is_refused_with_the_column_name(deltabook, tmp_path):
    header, *text = tardis_text()
    (good,) = tardis_files([header, *text], tmp_path / "csv")
    at = header.split(",").index("amount\n")
    spoilt = {
        "renamed.csv": header.replace("is_snapshot", "snapshot"),
        "missing.csv": header.replace(",amount", ""),
    }
    for name, first in spoilt.items():
        lines = [first, *text]
        if name == "missing.csv":
            lines = [first, *(",".join(row.split(",")[:at]) + "\n" for row in text)]
        (good.parent / name).write_text("".join(lines))
    run = deltabook("ingest", "tardis", tmp_path / "csv", *into(tmp_path / "w"))
    assert run.exit_status == 3
    refused = reasons(run)
    assert refused.keys() == spoilt.keys()
    assert "is_snapshot" in refused["renamed.csv"]
    assert "amount" in refused["missing.csv"]
    assert run.summary["level_changes"] == len(text)


def test_each_file_has_its_own_unit_of_time(tmp_path):
    """Milliseconds in one file, microseconds in the next: one feed, at the same times."""
    lines = list(simulated_lines(60))
    half = depth_rows(lines)[30]
    micros = []
    for line in lines[half:]:
        message = message_of(line)
        times = {name: message[name] * 1000 for name in ("E", "T") if name in message}
        micros.append(edited(line, **times) if "e" in message else line)
    files = [write(tmp_path / "ms.gz", lines[:half]), write(tmp_path / "us.gz", micros)]
    run = build("binance", files, tmp_path / "w")
    assert (run.exit_status, run.summary["gaps"]) == (0, 0)
    stamps = [message_of(lines[row])["E"] * MS for row in depth_rows(lines)]
    updates = [row for row in rows(tmp_path / "w", tables.EVENTS) if row["data"]["first_sequence"] != -1]
    assert sorted(row["timestamp"] for row in updates if not row["data"]["is_snapshot"]) == stamps


BAD_NUMBERS = ("-1", "NaN", "Infinity", "1" * 40, "")


def test_unreadable_numbers_are_quarantined_and_their_book_is_suspect(tmp_path):
    lines = list(simulated_lines(60))
    picked = depth_rows(lines)[20 : 20 + 2 * len(BAD_NUMBERS)]
    for number, row in enumerate(picked):
        bad = BAD_NUMBERS[number // 2]
        lines[row] = edited(lines[row], b=[["60000.1", bad] if number % 2 else [bad, "1"]])
    trade = max(row for row, line in enumerate(lines) if b"@trade" in line)
    lines[trade] = edited(lines[trade], p="NaN")
    raw = write(tmp_path / "raw.gz", lines)
    run = build("binance", [raw], tmp_path / "w")
    assert run.summary["quarantined"] == len(picked) + 1
    held = sorted(rows(tmp_path / "w", tables.QUARANTINE), key=lambda row: row["source_row"])
    assert [row["source_row"] for row in held] == sorted(row + 1 for row in [*picked, trade])
    assert [row["raw"] + b"\n" for row in held] == [lines[row["source_row"] - 1] for row in held]
    assert all(row["source_file"] == str(raw) and row["reason"] for row in held)
    depth_taken = [
        row["sequence"] for row in rows(tmp_path / "w", tables.EVENTS) if row["event_type"] != "trade"
    ]
    assert len(depth_taken) == 60 - len(picked) + 1  # and the snapshot
    first_bad = message_of(lines[picked[0]])["u"]
    after = {row["status"] for at, row in books_by_id(tmp_path / "w").items() if at > first_bad}
    assert after == {"suspect"}


def spoilt_lake(folder: Path) -> tuple[list[Path], int]:
    files = lake(folder)
    deltas, trades = (of_table(files, name) for name in ("book_delta_v2", "trades"))
    for file, column, bad in (
        (deltas, "size", {-300: -1.0, -200: float("nan"), -100: float("inf")}),
        (deltas, "price", {-50: float("nan"), -40: -1.0}),
        (trades, "quantity", {-1: float("nan")}),
    ):
        table = pq.ParquetFile(file).read()
        values = table[column].to_pylist()
        for row, value in bad.items():
            values[row] = value
        pq.write_table(table.set_column(table.schema.get_field_index(column), column, pa.array(values)), file)
    return files, 6


def spoilt_tardis(folder: Path) -> tuple[list[Path], int]:
    text = tardis_text()
    for row, bad in ((-30, "-5"), (-20, "NaN"), (-10, "Infinity")):
        text[row] = text[row].rsplit(",", 1)[0] + f",{bad}\n"
    return tardis_files(text, folder), 3


def spoilt_kraken(folder: Path) -> tuple[list[Path], int]:
    dump = kraken_lines()
    changes = [row for row, line in enumerate(dump) if b'"c":"' in line]
    for row, bad in ((changes[-20], b"-1"), (changes[-18], b"NaN")):
        head, level = dump[row].split(b'[["', 1)
        dump[row] = head + b'[["' + bad + b'"' + level.split(b'"', 1)[1]
    return [kraken.write_dump(dump, folder)], 2


def spoilt_okx(folder: Path) -> tuple[list[Path], int]:
    lines = okx_lines()
    lines[6] = lines[6].replace(b'["100", "7"', b'["100", "-7"')
    return [write(folder / "okx.jsonl", lines, compress=False)], 1


def spoilt_bybit(folder: Path) -> tuple[list[Path], int]:
    lines = bybit_lines()
    lines[6] = lines[6].replace(b'"1.9531", "7"', b'"NaN", "7"')
    return [write(folder / "bybit.jsonl", lines, compress=False)], 1


def test_unreadable_numbers_of_every_source_are_quarantined_and_their_book_is_suspect(deltabook, tmp_path):
    feeds = {
        "crypto_lake": (spoilt_lake, "BINANCE", {"quarantined_row"}),
        "tardis": (spoilt_tardis, "BINANCE_FUTURES", {"quarantined_row"}),
        "kraken": (spoilt_kraken, "KRAKEN", {"quarantined_row"}),
        "okx": (spoilt_okx, "OKX", {"sequence_gap"}),
        "bybit": (spoilt_bybit, "BYBIT", {"sequence_gap"}),
    }
    for source, (spoil, _, _) in feeds.items():
        files, quarantined = spoil(tmp_path / source)
        run = deltabook("ingest", source, *files, "--no-validate", *into(tmp_path / "w"))
        assert (run.exit_status, run.summary["quarantined"]) == (0, quarantined), source
    held = rows(tmp_path / "w", tables.QUARANTINE)
    assert len(held) == 13
    assert all(row["reason"] and row["raw"] and row["source_row"] > 0 for row in held)
    deltabook("reconstruct", "--seed", "golden", *into(tmp_path / "w"))
    found = rows(tmp_path / "w", tables.BOOKS, "exchange", "status", "order_time", "sequence")
    gaps = rows(tmp_path / "w", tables.GAPS, "exchange", "kind")
    for source, (_, exchange, kinds) in feeds.items():
        ours = sorted(
            (row["order_time"], row["sequence"], row["status"])
            for row in found
            if row["exchange"] == exchange
        )
        assert ours[-1][2] == "suspect", source
        assert {row["kind"] for row in gaps if row["exchange"] == exchange} == kinds, source


def test_numbers_are_stored_as_printed_or_refused(deltabook, tmp_path):
    lines = list(simulated_lines(60))
    at = depth_rows(lines)[-1]
    printed = edited(lines[at], b=[["60000.123456789012", "0.000000000001"]])
    raw = write(tmp_path / "fine.gz", [*lines[:at], printed, *lines[at + 1 :]])
    run = build("binance", [raw], tmp_path / "w")
    assert run.exit_status == 0, run.said
    asked = "SELECT price_scale, size_scale FROM instruments"
    shown = deltabook("sql", asked, "--warehouse", tmp_path / "w", "--format", "json")
    assert json.loads(shown.stdout) == {"price_scale": 12, "size_scale": 12}
    prices = {price for row in rows(tmp_path / "w", tables.EVENTS) for price in row["data"]["bid_prices"]}
    assert 60000_123456789012 in prices
    # The scales are recorded: what they cannot hold is refused, and its book is suspect from there.
    last = message_of(lines[at])["u"]
    more = [
        edited(lines[at], U=last + 1, u=last + 1, b=[["1.0000000000001", "1"]]),
        edited(lines[at], U=last + 2, u=last + 2, b=[["9223372.036854775808", "1"]]),  # 2^63 at this scale
        edited(lines[at], U=last + 3, u=last + 3, b=[["9223372.036854775807", "1"]]),
    ]
    run = build("binance", [write(tmp_path / "more.gz", more)], tmp_path / "w")
    assert run.exit_status == 0, run.said
    held = sorted(rows(tmp_path / "w", tables.QUARANTINE), key=lambda row: row["source_row"])
    assert [row["source_row"] for row in held] == [1, 2]
    for number, row in enumerate(held, start=1):
        assert "does not fit int64 exactly at the instrument's scales, 12 for prices" in row["reason"]
        assert f"BINANCE BTC-USDT {last + number}:" in row["reason"]
    found = books_by_id(tmp_path / "w")
    assert found[last + 3]["status"] == "suspect"
    assert found[last + 3]["bid_prices"][0] == 2**63 - 1
    assert min(price for row in found.values() for price in row["bid_prices"]) > 0
    assert gap_kinds(tmp_path / "w") == {"quarantined_row"}


def test_large_prices_of_a_new_instrument_lower_its_scale(deltabook, tmp_path):
    """A price that eight decimals would take past int64 is stored exactly, with fewer."""
    lines = [
        b'{"lastUpdateId":10,"bids":[["9223372036854775.5","1"]],"asks":[["9223372036854776.25","1"]]}\n',
        b'{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":11,"u":12,"b":[],"a":[]}\n' % TIME,
    ]
    run = build("binance", [write(tmp_path / "raw.jsonl", lines, compress=False)], tmp_path / "w")
    assert (run.exit_status, run.summary["quarantined"]) == (0, 0), run.said
    shown = deltabook(
        "sql",
        "SELECT bid_price, ask_price, bid_size FROM book",
        *("--warehouse", tmp_path / "w", "--format", "json"),
    )
    row = json.loads(shown.stdout)
    assert [row["bid_price"].rstrip("0"), row["ask_price"].rstrip("0")] == [
        "9223372036854775.5",
        "9223372036854776.25",
    ]


def test_ids_beyond_doubles_survive_in_every_column(deltabook, tmp_path):
    """Ids of 2^53 + 1 and up: an int64 that went through a double would be even."""
    shift = 2**53 + 1 - 2 * 10**10
    names = ("U", "u", "pu", "lastUpdateId", "t")
    files, wanted = [], {"update": set(), "first": set(), "previous": set(), "trade": set(), "ticker": set()}
    for market_type, symbol in (("spot", "BTCUSDT"), ("usdm", "ETHUSDT")):
        lines = []
        for line in simulated_lines(40, market_type, symbol):
            message = message_of(line)
            ids = {name: message[name] + shift for name in names if name in message}
            lines.append(edited(line, **ids))
            if "@bookTicker" in line[:80].decode():
                wanted["ticker"].add(ids["u"])
            elif "t" in ids:
                wanted["trade"].add(ids["t"])
            elif b"@depth20" not in line[:80] and "u" in ids:
                wanted["update"].add(ids["u"])
                wanted["first"].add(ids["U"])
                wanted["previous"].add(ids.get("pu", -1))
        files.append(write(tmp_path / f"{market_type}.gz", lines))
    run = build("binance", files, tmp_path / "w")
    assert (run.exit_status, run.summary["gaps"]) == (0, 0), run.said
    events = rows(tmp_path / "w", tables.EVENTS)
    updates = [row for row in events if row["event_type"] == "book_update" and not row["data"]["is_snapshot"]]
    trades = [row for row in events if row["event_type"] == "trade"]
    assert {row["sequence"] for row in updates} == wanted["update"]
    assert {row["data"]["first_sequence"] for row in updates} == wanted["first"]
    assert {row["data"]["prev_sequence"] for row in updates} == wanted["previous"]
    assert (
        {row["sequence"] for row in trades} == {row["data"]["trade_id"] for row in trades} == wanted["trade"]
    )
    tickers = {row["sequence"] for row in rows(tmp_path / "w", tables.GOLDEN) if row["kind"] == "book_ticker"}
    assert tickers == wanted["ticker"]
    assert {row["last_sequence"] for row in rows(tmp_path / "w", tables.HOURS)} <= (
        wanted["update"] | wanted["trade"]
    )
    built = {row["sequence"] for row in rows(tmp_path / "w", tables.BOOKS) if row["status"] == "verified"}
    assert built <= wanted["update"] | {
        row["sequence"] for row in rows(tmp_path / "w", tables.GOLDEN) if row["kind"] == "snapshot"
    }
    judged = deltabook("validate", *into(tmp_path / "w"))
    assert judged.summary["verdicts"] == dict.fromkeys(SUITES, "passed")
    assert judged.summary["golden_matches"]["book_ticker"]["compared"] > 20


def test_lake_ids_beyond_doubles_survive(deltabook, tmp_path):
    files = lake(tmp_path / "lake")
    for file, name in (
        (of_table(files, "book_delta_v2"), "sequence_number"),
        (of_table(files, "trades"), "trade_id"),
    ):
        table = pq.ParquetFile(file).read()
        ids = pa.array([value + 2**53 + 1 for value in table[name].to_pylist()])
        pq.write_table(table.set_column(table.schema.get_field_index(name), name, ids), file)
        files[files.index(file)] = (file, set(ids.to_pylist()))
    chosen = [found for found in files if isinstance(found, tuple)]
    run = deltabook("ingest", "crypto_lake", *(path for path, _ in chosen), *into(tmp_path / "w"))
    assert run.exit_status == 0, run.said
    events = rows(tmp_path / "w", tables.EVENTS)
    assert {row["sequence"] for row in events if row["event_type"] == "book_update"} == chosen[0][1]
    assert {row["data"]["trade_id"] for row in events if row["event_type"] == "trade"} == chosen[1][1]


HOSTILE = [
    "BTC'; DROP TABLE events",
    "../../x",
    "A" * 41,
    "1' or '1'='1",
    "<script>",
    "ПТС",
    "__HIVE__",
    "B\u0000C",
]


def test_hostile_names_in_messages_are_refused_before_any_path(deltabook, tmp_path):
    lines = list(simulated_lines(40))
    at = depth_rows(lines)[10]
    raw = write(tmp_path / "raw.gz", [*lines, *(edited(lines[at], s=name) for name in HOSTILE)])
    run = deltabook("ingest", "binance", raw, "--no-validate", *into(tmp_path / "w"))
    assert (run.exit_status, run.summary["quarantined"]) == (0, len(HOSTILE))
    linked = [line.replace(b'"BTC-USDT"', json.dumps(HOSTILE[0]).encode()) for line in okx_lines()[:1]]
    files = [write(tmp_path / "okx.jsonl", okx_lines() + linked, compress=False)]
    run = deltabook("ingest", "okx", *files, "--no-validate", *into(tmp_path / "w"))
    assert (run.exit_status, run.summary["quarantined"]) == (0, 1)
    assert all("is refused" in row["reason"] for row in rows(tmp_path / "w", tables.QUARANTINE))
    assert {row["symbol"] for row in rows(tmp_path / "w", tables.EVENTS, "symbol")} == {"BTC-USDT"}
    folders = {path.name for path in (tmp_path / "w" / "events").glob("symbol=*")}
    assert folders == {"symbol=BTC-USDT"}


def test_hostile_names_in_tables_and_their_paths_are_refused_before_any_path(deltabook, tmp_path):
    header, *text = tardis_text()
    spoilt = [f"{name},".join(["binance-futures,", text[0].split(",", 2)[2]]) for name in HOSTILE[:-1]]
    (csv,) = tardis_files([header, *text], tmp_path / "csv")
    csv.write_bytes(gzip.compress("".join([header, *text, *spoilt]).encode()))
    run = deltabook("ingest", "tardis", csv, "--no-validate", *into(tmp_path / "w"))
    assert (run.exit_status, run.summary["quarantined"]) == (0, len(spoilt)), run.said
    assert all("is refused" in row["reason"] for row in rows(tmp_path / "w", tables.QUARANTINE))
    deltas = of_table(lake(tmp_path / "lake"), "book_delta_v2")
    table = pq.ParquetFile(deltas).read()
    paths = [deltas.parents[2] / "symbol=1' or '1'='1" / "dt=2024-08-08" / "1.parquet"]
    paths.append(deltas.parents[3] / "exchange=<B>" / "symbol=BTC-USDT" / "dt=2024-08-08" / "1.parquet")
    for rows_left_out, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        pq.write_table(table.slice(rows_left_out), path)  # not the same content twice
    flat = tmp_path / "columns.parquet"
    names = {"exchange": "BINANCE", "symbol": HOSTILE[0]}
    for name, value in names.items():
        table = table.append_column(name, pa.array([value] * table.num_rows))
    pq.write_table(table, flat)
    run = deltabook("ingest", "crypto_lake", *paths, flat, "--no-validate", *into(tmp_path / "w"))
    assert run.exit_status == 3
    assert {refused["path"] for refused in run.summary["refused"]} == set(map(str, [*paths, flat]))
    assert all("is refused: a name is 1 to 40 of" in refused["reason"] for refused in run.summary["refused"])
    assert {row["symbol"] for row in rows(tmp_path / "w", tables.EVENTS, "symbol")} == {"BTC-USDT-PERP"}


def test_an_instrument_has_one_source(deltabook, tmp_path):
    raw = write(tmp_path / "raw.gz", simulated_lines(40))
    deltabook("ingest", "binance", raw, "--warehouse", tmp_path / "w")
    run = deltabook("ingest", "crypto_lake", *lake(tmp_path / "lake"), *into(tmp_path / "w"))
    assert run.exit_status == 3
    assert all("is built from source binance here" in refused["reason"] for refused in run.summary["refused"])
