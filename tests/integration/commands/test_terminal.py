"""Ladders, replays, the status and the help are right, in terminals of any width and in pipes."""

from __future__ import annotations

import csv
import fcntl
import gzip
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from decimal import Decimal
from io import StringIO
from itertools import pairwise

import pyarrow as pa
import pytest
from captures import write
from conftest import invoke
from deltalake import DeltaTable, write_deltalake
from faulted import rows
from filelock import FileLock
from rich.console import Console
from typer.main import get_command

from deltabook.jobs.cli.commands import app
from deltabook.jobs.console.formats import format_size, format_time
from deltabook.jobs.console.ladder_view import Ladder, LadderColumns, draw_bar, draw_ladder, unscale
from deltabook.jobs.replay.keyboard import Key, parse_keys
from deltabook.jobs.replay.player import parse_speed
from deltabook.jobs.replay.replayer import Replayer
from deltabook.jobs.tables.delta_tables import SCHEMA_PROPERTY, open_table
from deltabook.jobs.tables.seals import compute_seal
from deltabook.jobs.tools.demo import write_captures
from deltabook.schemas import tables
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import NANOSECONDS_PER_SECOND
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

COMMANDS = get_command(app).commands
EXAMPLES = [
    (name, line.strip().removeprefix("$ "))
    for name, command in COMMANDS.items()
    for line in (command.epilog or "").splitlines()
    if line.strip().startswith("$ ")
]
CHEAP = ("book", "plot", "replay", "report", "raw", "sources", "status")
FIRST = 1_723_161_255_100_000_000
"""Time of the simulated markets' first diff."""
CHUNK = 10 * NANOSECONDS_PER_SECOND
ESCAPE = "\x1b["


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory):
    """Chunks of 10 s: BTC-USDT is whole, ETH-USDT lacks a chunk and more, LTC-USDT is of decimals."""
    folder = tmp_path_factory.mktemp("terminal")
    btc, eth = write_captures(folder / "raw", messages=300)
    lines = gzip.decompress(eth.read_bytes()).splitlines(keepends=True)
    lost = [FIRST // CHUNK * CHUNK + CHUNK, FIRST // CHUNK * CHUNK + 2 * CHUNK + NANOSECONDS_PER_SECOND]
    kept = [line for line in lines if not lost[0] <= int(line.split(b" ", 1)[0]) < lost[1]]
    eth = write(folder / "raw" / "eth.gz", kept)
    ltc = write(folder / "raw" / "ltc.gz", capture_lines(Market(5), 60, "LTCUSDT"))
    config = folder / "config.yaml"
    config.write_text("instruments: {BINANCE: {LTC-USDT: {is_decimal: true}}}\n")
    how = ("--chunk", "10s", "--config", config, "--warehouse", folder / "w")
    run = invoke("run", "binance", btc, eth, ltc, *how, "--json")
    assert run.exit_status == 1, run.said
    assert run.summary["gaps_by_kind"]["sequence_gap"] >= 1
    return folder / "w"


@pytest.fixture
def asked(warehouse, monkeypatch):
    monkeypatch.setenv("DELTABOOK_WAREHOUSE", str(warehouse))
    return invoke


def listing(folder, *names):
    """A warehouse that has instruments alone."""
    feed = {"feed": "binance", "price_scale": 8, "size_scale": 8, "is_decimal": False, "trade_stream": ""}
    found = [{"exchange": exchange, "symbol": symbol} | feed for exchange, symbol in names]
    run = {"run_id": "a", "command": "ingest", "started": 1, "finished": 2, "code_version": ""}
    run |= {
        "settings_hash": "",
        "versions": [("instruments", 1)],
        "summary": "{}",
        "version": 1,
        "proofs": "{}",
    }
    run |= {"seal": compute_seal(run)}
    for table, held in ((tables.INSTRUMENTS, found), (tables.RUNS, [run])):
        made = DeltaTable.create(
            str(folder / table.name),
            table.arrow,
            configuration={SCHEMA_PROPERTY: tables.SCHEMA_VERSION},
            raise_if_key_not_exists=False,
        )
        write_deltalake(made, pa.Table.from_pylist(held, table.arrow), mode="append")
    return folder


def ladder_of(*sides, status="verified"):
    asks, bids = ([(Decimal(price), Decimal(size)) for price, size in side] for side in sides)
    return Ladder("BINANCE BTC-USDT", "2024-08-09T00:00:00.000000000Z", status, bids, asks, ["update 7"])


WIDE = ladder_of([("61828.67", "0.01"), ("61828.7", "12.5")], [("61828.66", "3"), ("61828", "0.25")])


def arguments_of(line: str) -> list[str]:
    """Words of an example, without what the shell keeps to itself."""
    return shlex.split(re.split(" [<>] ", line)[0])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_shows_an_example(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in invoke(name, "--help").stdout.splitlines()]
    shown = [line.removeprefix("$ ") for line in lines[lines.index("Examples") :] if line.startswith("$ ")]
    assert shown == [line for of, line in EXAMPLES if of == name] != []


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_examples_of_the_help_are_understood(name, line):
    program, command, *arguments = arguments_of(line)
    assert (program, command) == ("deltabook", name)
    COMMANDS[name].make_context(name, arguments)


@pytest.mark.spark
@pytest.mark.parametrize("line", [line for name, line in EXAMPLES if name in CHEAP and "--watch" not in line])
def test_examples_of_the_help_work(line, warehouse, tmp_path, monkeypatch):
    (tmp_path / "books").symlink_to(warehouse)
    (tmp_path / "warehouse").symlink_to(warehouse)
    monkeypatch.chdir(tmp_path)
    done = invoke(*arguments_of(line)[1:])
    assert done.exit_status == 0, done.said


@pytest.mark.parametrize("width", [24, 30, 36, 44, 60, 80, 140, 10_000])
def test_ladder_is_as_wide_as_the_terminal_at_most(width):
    lines = draw_ladder(WIDE, 5, width).plain.splitlines()
    assert max(map(len, lines[:2])) <= max(width, 30)  # a time is not cut
    for line in lines[-6:]:
        assert len(line) <= width
    for price, size in (("61828.70", "12.50"), ("61828.00", " 0.25")):
        assert any(line.startswith(f"{price}  {size}") for line in lines)
    assert ("sum" in draw_ladder(WIDE, 5, width).plain) == (width >= 36)


def test_ladder_has_the_spread_between_its_sides_and_sums_from_the_best_price():
    lines = draw_ladder(WIDE, 5, 80).plain.splitlines()
    told = [line.split() for line in lines]
    best_ask, middle, best_bid = told[3:6]
    assert middle[1:3] + middle[5:7] == ["spread", "0.01", "mid", "61828.665"]
    assert (best_ask[0], best_ask[-1], best_bid[0], best_bid[-1]) == ("61828.67", "0.01", "61828.66", "3.00")
    assert (told[2][-1], told[6][-1]) == ("12.51", "3.25")
    assert len(draw_ladder(WIDE, 1, 80).plain.splitlines()) == len(lines) - 2


def test_ladder_of_38_digits_is_exact():
    price, other = "12345678901234567890.123456789012345678", "12345678901234567890.123456789012345679"
    ladder = ladder_of([(other, "99999999999999999999.000000000000000001")] * 2, [(price, "1")])
    drawn = draw_ladder(ladder, 2, 10_000).plain
    assert unscale(int(price.replace(".", "")), 18) == Decimal(price)
    assert price in drawn and other in drawn
    assert "199999999999999999998.000000000000000002" in drawn
    assert "mid 12345678901234567890.1234567890123456785" in drawn
    assert "spread 0.000000000000000001" in drawn


def test_empty_and_crossed_sides_are_shown():
    assert {"no asks", "no bids"} <= set(draw_ladder(ladder_of([], []), 5, 80).plain.splitlines())
    assert "spread -1 " in draw_ladder(ladder_of([("1", "1")], [("2", "1")]), 5, 80).plain
    assert "crossed" in draw_ladder(ladder_of([("1", "1")], [("2", "1")]), 5, 80).plain


def test_columns_of_repeated_drawings_only_grow():
    columns = LadderColumns()
    draw_ladder(WIDE, 5, 80, columns)
    assert "100.00  1.00" in " ".join(
        draw_ladder(ladder_of([("100", "1")], []), 5, 80, columns).plain.split(" " * 4)
    ).replace("   ", "  ")


def test_bars_are_shares_in_eighths_of_a_character():
    assert (draw_bar(1, 10), draw_bar(0.5, 5), draw_bar(1e-9, 10)) == ("█" * 10, "██▌", "▏")


def coloured(ladder) -> str:
    out = StringIO()
    Console(file=out, force_terminal=True, color_system="standard", width=80).print(
        draw_ladder(ladder, 5, 80)
    )
    return out.getvalue()


def test_colours_show_sides_and_status_unless_they_are_off(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert f"{ESCAPE}31m61828.70" in coloured(WIDE) and f"{ESCAPE}32m61828.00" in coloured(WIDE)
    assert f"{ESCAPE}1;32m● verified" in coloured(WIDE)
    assert f"{ESCAPE}1;31m● suspect" in coloured(ladder_of([], [], status="suspect"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*3\d", coloured(WIDE))


@pytest.mark.parametrize(
    "asking", [("book",), ("replay",), ("raw", 1), ("report", "--symbol")], ids=lambda asking: asking[0]
)
def test_unknown_symbol_names_those_there_are_in_every_command(asking, tmp_path):
    warehouse = listing(tmp_path, ("BINANCE", "BTC-USDT"), ("OKX", "BTC-USDT"), ("OKX", "ETH-USDT"))
    name, *others = asking
    given = ("--symbol", "btc-ustd") if others == ["--symbol"] else ("btc-ustd", *others)
    told = invoke(name, *given, "--warehouse", warehouse)
    assert told.exit_status == 2
    assert "no btc-ustd in" in told.said and "did you mean BTC-USDT?" in told.said
    assert "There are: BINANCE BTC-USDT, OKX BTC-USDT, OKX ETH-USDT" in told.said


@pytest.mark.parametrize("name", ["book", "replay"])
def test_symbol_of_several_exchanges_says_how_to_choose(name, tmp_path):
    warehouse = listing(tmp_path, ("OKX", "BTC-USDT"), ("BINANCE", "BTC-USDT"))
    told = invoke(name, "BTC-USDT", "--warehouse", warehouse)
    assert told.exit_status == 2
    assert "BTC-USDT is listed on BINANCE, OKX: choose one, such as --exchange BINANCE" in told.said
    told = invoke(name, "BTC-USDT", "--exchange", "KRAKEN", "--warehouse", warehouse)
    assert "no KRAKEN BTC-USDT in" in told.said and "OKX BTC-USDT" in told.said


def test_many_symbols_are_not_all_listed(tmp_path):
    warehouse = listing(tmp_path, *(("OKX", f"A{number}-USDT") for number in range(100)))
    told = invoke("book", "ZZZ", "--warehouse", warehouse).said
    assert "and 60 more: see `deltabook status`" in told and "did you mean" not in told


@pytest.mark.spark
@pytest.mark.parametrize(
    "asking",
    [
        ("book", "BTC-USDT", "--at"),
        ("replay", "BTC-USDT", "--from"),
        ("replay", "BTC-USDT", "--to"),
        ("report", "--since"),
    ],
    ids=" ".join,
)
def test_every_time_is_iso_8601_or_a_unix_timestamp(asking, asked, tmp_path, monkeypatch):
    told = asked(*asking, "172316126")
    assert told.exit_status == 2
    assert "expected ISO 8601 such as" in told.said and "ns since 1970 (19 digits)" in told.said
    monkeypatch.chdir(tmp_path)
    out = ("--out", "page.html") if asking[0] == "report" else ()
    times = ("2024-08-08T23:54:20Z", "1723161260", "1723161260000", "1723161260000000000")
    done = [asked(*asking, when, *out) for when in times]
    assert [one.exit_status for one in done] == [0] * 4, done[0].said
    assert {one.stdout for one in done} == {done[0].stdout}


@pytest.mark.spark
def test_book_at_a_time_is_the_last_row_until_then(warehouse, asked):
    books = [row for row in rows(warehouse, tables.BOOKS) if row["symbol"] == "BTC-USDT"]
    books.sort(key=lambda row: (row["order_time"], row["epoch"], row["sequence"]))
    for row, after in list(pairwise(books))[5::60]:
        if row["order_time"] == after["order_time"]:
            continue
        at = after["order_time"] - 1
        shown = asked("book", "BTC-USDT", "--at", at, "--json")
        assert (shown.summary["sequence"], shown.summary["age"]) == (row["sequence"], at - row["order_time"])
        then = asked("book", "BTC-USDT", "--at", row["order_time"], "--json").summary
        assert (then["sequence"], then["age"]) == (row["sequence"], 0)
        assert ESCAPE not in shown.stdout
        prices = [Decimal(price).scaleb(8) for price, _ in shown.summary["asks"]]
        assert prices == row["ask_prices"][:10]
        assert f"{row['bid_levels']:,} bid and {row['ask_levels']:,} ask levels" in shown.stdout
        assert format_time(at) in shown.stdout


@pytest.mark.spark
def test_book_before_the_first_and_after_the_last_says_so(warehouse, asked):
    books = [row for row in rows(warehouse, tables.BOOKS) if row["symbol"] == "BTC-USDT"]
    first, last = (format_time(edge(row["order_time"] for row in books)) for edge in (min, max))
    told = asked("book", "BTC-USDT", "--at", "2024-08-08")
    assert told.exit_status == 2
    assert f"its first book comes later, at {first}" in told.said
    shown = asked("book", "BTC-USDT", "--at", "2024-08-09", "--json")
    old = shown.stdout.splitlines()[0]
    assert re.match(r"3\d\d\.\d{3} s old: the recording ends at", old) and shown.summary["after_the_end"]
    assert last in shown.stdout
    assert "old" not in asked("book", "BTC-USDT").stdout


@pytest.mark.spark
def test_book_of_decimals_is_the_stored_one(warehouse, asked):
    last = max(rows(warehouse, tables.BOOKS_DECIMAL), key=lambda row: (row["order_time"], row["sequence"]))
    found = asked("book", "LTC-USDT", "--levels", 20, "--json").summary
    assert [Decimal(price) for price, _ in found["bids"]] == last["bid_prices"]
    assert found["sequence"] == last["sequence"]
    *_, replayed = map(json.loads, asked("replay", "LTC-USDT", "--format", "json").stdout.splitlines())
    assert Decimal(replayed["bid_price"]) == last["bid_prices"][0]
    assert Decimal(replayed["ask_size"]) == last["ask_sizes"][0]


@pytest.mark.spark
@pytest.mark.parametrize("by", ["event", "message", "trade", "500ms"])
def test_replayed_rows_are_what_a_replayer_sees(by, warehouse, asked):
    when = ("--from", "2024-08-08T23:54:16Z", "--to", "2024-08-08T23:54:18Z")
    how = ("replay", "BTC-USDT", *when, "--by", by)
    replayer = Replayer(warehouse, "BTC-USDT", when[1], when[3])
    seen = list(replayer.steps(500_000_000 if by == "500ms" else by))
    written = list(csv.DictReader(asked(*how, "--format", "csv").stdout.splitlines()))
    objects = [json.loads(line) for line in asked(*how, "--format", "json").stdout.splitlines()]
    assert len(written) == len(objects) == len(seen) > 3
    assert [{name: str(value) for name, value in one.items()} for one in objects] == written
    for row, one in zip(written, seen, strict=True):
        assert (row["time"], row["status"]) == (str(one.time), one.status.label)
        assert Decimal(row["bid_price"]).scaleb(8) == int(one.bid_prices[0])
        assert Decimal(row["ask_size"]).scaleb(8) == int(one.ask_sizes[0])
        assert Decimal(row["mid"]).scaleb(8) * 2 == int(one.bid_prices[0] + one.ask_prices[0])
        assert int(row["trades"]) == len(one.trades)
        assert Decimal(row["buy_volume"]).scaleb(8) == int(one.trades.size[one.trades.side == 1].sum())
    lines = asked(*how, "--json").stdout.splitlines()
    assert len(lines) == len(seen) + 2 and ESCAPE not in lines[1]
    assert json.loads(lines[-1])["steps"] == len(seen)
    assert lines[1].startswith(format_time(seen[0].time))


@pytest.mark.spark
def test_numbers_of_replayed_lines_stand_below_each_other(asked):
    lines = asked("replay", "BTC-USDT", "--to", "2024-08-08T23:54:20Z").stdout.splitlines()
    assert "unseeded" in lines[1] and "verified" in lines[-1]
    points = {
        tuple(found.start() for found in re.finditer(r"\.", line)) for line in lines if "verified" in line
    }
    assert len(points) == 1
    assert len({line.index("unseeded") for line in lines if "unseeded" in line} | {32}) == 1


@pytest.mark.spark
def test_suspect_books_are_marked_left_out_or_end_the_replay(asked):
    statuses = [
        asked("replay", "ETH-USDT", "--suspect", how, "--json").summary["statuses"]
        for how in ("mark", "skip")
    ]
    assert statuses[0]["suspect"] > 0
    assert statuses[1] == {"verified": statuses[0]["verified"]}
    told = asked("replay", "ETH-USDT", "--suspect", "raise", "--from", "2024-08-08T23:54:18Z")
    assert told.exit_status == 2 and "the book is suspect at" in told.said
    assert "verified" in told.stdout


@pytest.mark.spark
@pytest.mark.parametrize(
    ("how", "told"),
    [
        (("--by", "tick"), "--by 'tick': expected event, message, trade, or a length of time such as 100ms"),
        (("--speed", "-1"), "--speed '-1': expected a number above 0, such as 10 or 0.5, or max"),
        (("--clock", "wall"), "clock 'wall': expected one of received, exchange"),
        (("--suspect", "hide"), "suspect 'hide': expected one of skip, mark, raise"),
        (("--format", "xml"), "--format 'xml': expected one of table, csv, json"),
        (("--from", "2024-08-09", "--to", "2024-08-08"), "--to 2024-08-08 is not after --from 2024-08-09"),
        (("--watch",), "--watch needs a terminal: omit --watch to print one line for each step instead"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_replay_options_are_reported(how, told, asked):
    done = asked("replay", "BTC-USDT", *how)
    assert done.exit_status == 2
    assert told in done.said


@pytest.mark.spark
def test_a_time_without_steps_says_when_there_are_some(asked):
    done = asked("replay", "BTC-USDT", "--from", "2024-08-10", "--json")
    assert (done.exit_status, done.summary["steps"]) == (0, 0)
    assert "was recorded from 2024-08-08T23:54:15." in done.said


@pytest.mark.parametrize("text", ["0", "-2", "nan", "inf", "fast"])
def test_speed_is_a_number_above_zero_or_max(text):
    assert (parse_speed("0.5"), parse_speed("max")) == (0.5, float("inf"))
    with pytest.raises(SettingsError):
        parse_speed(text)


def program(warehouse, *arguments, **how):
    code = "import sys; from deltabook.jobs.cli.program import main; main()"
    line = [sys.executable, "-c", code, *map(str, arguments), "--warehouse", str(warehouse)]
    return subprocess.Popen(line, **how)


@pytest.mark.spark
def test_a_reader_that_leaves_early_is_no_error(warehouse):
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = program(warehouse, "replay", "BTC-USDT", "--format", "csv", **how)
    running.stdout.close()
    told = running.stderr.read()
    running.stderr.close()
    assert (running.wait(timeout=60), told) == (0, b"")


class Screen:
    """A terminal of 100 columns, and what was written to it."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.bytes = b""

    @property
    def written(self):
        return self.bytes.decode(errors="replace")

    def read_until(self, enough, seconds=60):
        end = time.monotonic() + seconds
        while not enough(self.written) and time.monotonic() < end:
            if select.select([self.master], [], [], 0.1)[0]:
                self.bytes += os.read(self.master, 65_536)
        assert enough(self.written), self.written[-2000:]

    def close(self):
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.spark
def test_watched_replay_plays_in_place_and_leaves_at_ctrl_c_with_the_terminal_as_it_was(warehouse):
    screen = Screen()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    how = dict.fromkeys(("stdin", "stdout", "stderr"), screen.slave)
    asking = ("replay", "BTC-USDT", "--from", "2024-08-08T23:54:20Z", "--watch", "--speed", 2)
    running = program(warehouse, *asking, env=environment, **how)
    try:
        screen.read_until(lambda written: written.count("spread") >= 5)
        assert f"{ESCAPE}?1049h" in screen.written and f"{ESCAPE}?25l" in screen.written
        running.send_signal(signal.SIGINT)
        screen.read_until(lambda written: f"{ESCAPE}?1049l" in written)
        end = screen.written.index(f"{ESCAPE}?1049l")
        screen.read_until(lambda written: " trades" in written[end:])
        assert running.wait(timeout=60) == 0
    finally:
        running.kill()
        running.wait()
    assert f"{ESCAPE}?25h" in screen.written
    assert "Traceback" not in screen.written and "Aborted" not in screen.written
    times = re.findall(r"2024-08-08T23:54:\d\d\.\d{3}", screen.written[:end])
    assert times == sorted(times) and len(set(times)) > 1
    assert "speed 2" in screen.written[:end] and "q quit" in screen.written[:end]
    assert "q quit" not in screen.written[end:] and "● verified" in screen.written[end:]
    assert re.search(r"trades +price +size", screen.written)
    assert termios.tcgetattr(screen.slave) == screen.before
    screen.close()


@pytest.mark.spark
def test_watched_replay_pauses_steps_changes_speed_and_quits_by_keys(warehouse):
    screen = Screen()
    environment = {**os.environ, "TERM": "xterm-256color"}
    how = dict.fromkeys(("stdin", "stdout", "stderr"), screen.slave)
    asking = ("replay", "BTC-USDT", "--from", "2024-08-08T23:54:20Z", "--watch", "--speed", 2)
    running = program(warehouse, *asking, env=environment, **how)

    def counted(written: str) -> int:
        return max(map(int, re.findall(r"(\d+) steps", written)), default=0)

    def press(keys: bytes, enough) -> None:
        before = len(screen.written)
        os.write(screen.master, keys)
        screen.read_until(lambda written: enough(written[before:]))

    try:
        screen.read_until(lambda written: written.count("spread") >= 3)
        press(b" ", lambda new: "speed 2, paused" in new)
        paused = counted(screen.written)
        press(b"n", lambda new: f"{paused + 1} steps" in new)
        press(b"\x1b[C", lambda new: f"{paused + 2} steps" in new)
        press(b"+", lambda new: "speed 4, paused" in new)
        press(b"--", lambda new: "speed 1, paused" in new)
        press(b" ", lambda new: counted(new) > paused + 2)
        press(b"q", lambda new: f"{ESCAPE}?1049l" in new)
        assert running.wait(timeout=60) == 0
    finally:
        running.kill()
        running.wait()
    assert "Traceback" not in screen.written
    assert termios.tcgetattr(screen.slave) == screen.before
    screen.close()


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b" ", [Key.PAUSE]),
        (b"n\x1b[C\x1bOC", [Key.STEP] * 3),
        (b"+=-q", [Key.FASTER, Key.FASTER, Key.SLOWER, Key.QUIT]),
        (b"\x1b[Ax", []),
        (b"", []),
    ],
)
def test_typed_bytes_are_keys(typed, keys):
    assert parse_keys(typed) == keys


@pytest.mark.spark
def test_status_shows_what_the_tables_hold(warehouse, asked):
    shown = asked("status", "--json")
    found = {one["symbol"]: one for one in shown.summary["instruments"]}
    assert list(found) == ["BTC-USDT", "ETH-USDT", "LTC-USDT"]
    for symbol, one in found.items():
        is_decimal = symbol == "LTC-USDT"
        events, books = (
            [row for row in rows(warehouse, tables.form_of(table, is_decimal)) if row["symbol"] == symbol]
            for table in (tables.EVENTS, tables.BOOKS)
        )
        hours = {row["hour"] for row in events}
        assert (one["events"], one["book_rows"], one["hours"]) == (len(events), len(books), len(hours))
        assert (one["first_hour"], one["last_hour"]) == (min(hours), max(hours))
        gaps = [row for row in rows(warehouse, tables.GAPS) if row["symbol"] == symbol]
        assert sum(one["gaps"].values()) == len(gaps)
        covered = [row for row in rows(warehouse, tables.COVERAGE) if row["symbol"] == symbol]
        assert one["coverage"]["verified"] == sum(row["verified"] for row in covered)
    assert [found[symbol]["hours_missing"] for symbol in found] == [0, 1, 0]
    assert [found[symbol]["verdict"] for symbol in ("BTC-USDT", "ETH-USDT")] == ["passed", "failed"]
    assert "hours     3 of 10 s, 2024-08-08T23:54:10Z to 2024-08-08T23:54:40Z" in shown.stdout
    assert "1 missing between" in shown.stdout and "failed (" in shown.stdout
    assert re.search(r"book_ticker: (\d+) of \1 equal \(100.0000 %\)", shown.stdout)


@pytest.mark.spark
def test_status_shows_sizes_and_runs(warehouse, asked):
    shown = asked("status", "--json")
    sizes = {one["table"]: one for one in shown.summary["tables"]}
    for table in (tables.EVENTS, tables.VERDICTS, tables.GAPS):
        on_disk = [
            path for path in (warehouse / table.name).rglob("*.parquet") if "_delta_log" not in str(path)
        ]
        one = sizes[table.name]
        assert one["bytes"] + one["other_bytes"] == sum(path.stat().st_size for path in on_disk)
        assert one["files"] <= len(on_disk) and one["rows"] == len(rows(warehouse, table))
    assert sizes["verdicts"]["other_bytes"] > 0 == sizes["events"]["other_bytes"]
    assert [run["command"] for run in shown.summary["runs"]] == ["validate", "reconstruct", "ingest"]
    assert "passed, 3 new files" in shown.stdout and ESCAPE not in shown.stdout
    assert (shown.summary["is_written"], shown.summary["unfinished"]) == (False, [])


@pytest.mark.spark
def test_status_shows_a_writer_and_an_unfinished_run(warehouse, tmp_path):
    copy = tmp_path / "w"
    shutil.copytree(warehouse, copy)
    open_table(copy, tables.GAPS).delete("symbol = 'ETH-USDT'")
    (copy / "_staging").mkdir()
    before, left = invoke("status", "--warehouse", warehouse), invoke("status", "--warehouse", copy)
    assert "an unfinished run left gaps, _staging behind" in left.stdout
    assert "sequence_gap" in left.stdout and "unfinished run left" not in before.stdout
    with FileLock(copy / ".lock"):
        written = invoke("status", "--warehouse", copy, "--json")
    assert "a run is writing to it now" in written.stdout
    assert (written.summary["is_written"], written.summary["unfinished"]) == (True, [])


@pytest.mark.parametrize("is_made", [True, False])
def test_status_of_an_empty_warehouse_says_what_to_run(tmp_path, is_made):
    told = invoke("status", "--warehouse", tmp_path if is_made else tmp_path / "none")
    assert told.exit_status == 2
    assert "is empty: run `deltabook run` or `deltabook demo` first" in told.said
    assert not (tmp_path / "none").exists() and not list(tmp_path.iterdir())


def test_status_of_a_warehouse_in_its_first_run_says_so(tmp_path):
    with FileLock(tmp_path / ".lock"):
        told = invoke("status", "--warehouse", tmp_path)
    assert told.exit_status == 2
    assert "its first run is writing to it now" in told.said


def test_status_of_a_warehouse_with_no_events_yet(tmp_path):
    shown = invoke("status", "--warehouse", listing(tmp_path, ("OKX", "BTC-USDT")), "--json")
    assert shown.exit_status == 0
    assert shown.summary["instruments"][0]["hours"] == 0 and "not judged" in shown.stdout


@pytest.mark.spark
@pytest.mark.parametrize(
    "zone",
    ["America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "No/Where", "EST5EDT,M3.2.0,M11.1.0"],
)
def test_output_is_the_same_in_every_time_zone(zone, asked, tmp_path, monkeypatch):
    """Zones whose clock changes in the recorded year, at odd minutes, and one that there is not."""
    found = []
    try:
        for name in ("UTC", zone):
            monkeypatch.setenv("TZ", name)
            time.tzset()
            page = tmp_path / "page.html"
            told = [
                asked("status"),
                asked("book", "BTC-USDT", "--at", "2024-08-08T23:54:20.5Z"),
                asked("replay", "BTC-USDT", "--by", "1s", "--from", "2024-08-08T23:54:20Z"),
                asked("report", "--out", page),
            ]
            shown = re.sub(r"report_seconds|[\d.,]+ s\b", "", page.read_text())
            found.append(([(one.exit_status, one.stdout) for one in told], shown))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found[0] == found[1]


def test_starting_no_spark_is_true():
    code = "import sys\nfrom deltabook.jobs.lookup import book, status\n"
    code += "from deltabook.jobs.replay import player, step_output\n"
    code += "sys.exit('pyspark.sql' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3e15, "3000.0 TB")],
)
def test_sizes_have_a_unit_that_suits(size, text):
    assert format_size(size) == text
