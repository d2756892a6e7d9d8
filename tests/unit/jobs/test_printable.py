"""Control sequences in files, paths and errors never reach a terminal."""

from __future__ import annotations

import csv
import fcntl
import os
import pty
import re
import struct
import termios
import unicodedata
from io import StringIO

import pyarrow as pa
import pytest
from conftest import invoke
from hypothesis import example, given
from hypothesis import strategies as st
from processes import PROGRAM
from properties import cases
from pyspark.sql import DataFrame
from rich.table import Table
from rich.text import Text

from deltabook.jobs.console.logging import show_message
from deltabook.jobs.console.printable import SafeConsole, make_printable, wrap_stream, write_line
from deltabook.jobs.console.stage_display import show_stage
from deltabook.jobs.queries import sql

HOSTILE = [
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[31m",
    "\x9b31m",
    "a\rb",
    "a\bb",
    "\x1bP$q\x1b\\",
    "\x1b]8;;http://x\x1b\\y\x1b]8;;\x1b\\",
    "\u202eevil\u202c",
    "\u2066a\u2069",
    "\u200f\u061c",
    "\ufeff",
    "\U000e0041",
    "\udcff",
    "\u2028\u2029",
    "\x00\x7f\x85",
]
KEPT = {"\n", "\t", "\u200c", "\u200d"}


def is_safe(text: str) -> bool:
    return all(
        letter in KEPT or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        for letter in text
    )


def with_hostile_examples(test):
    for text in HOSTILE:
        test = example(text)(test)
    return test


texts = st.text(st.one_of(st.characters(), st.sampled_from("\x1b\x9b\r\x07\x08[]\u202e\u2066\udcff")))


class Terminal(StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@cases(500, 500)
@given(text=texts)
@with_hostile_examples
def test_any_text_is_printable_once_and_for_all_and_safe_text_stays(text):
    shown_text = make_printable(text)
    assert is_safe(shown_text)
    assert make_printable(shown_text) == shown_text
    if is_safe(text):
        assert shown_text == text


@cases(200, 200)
@given(text=texts)
@with_hostile_examples
def test_a_console_writes_no_control_sequence_but_its_own(text):
    plain, terminal = StringIO(), StringIO()
    table = Table("head")
    table.add_row(text)
    for out, is_terminal in ((plain, False), (terminal, True)):
        console = SafeConsole(file=out, force_terminal=is_terminal, width=60, color_system=None, markup=False)
        for one in (text, Text(text), table):
            console.print(one, soft_wrap=True)
        assert is_safe(out.getvalue())


@cases(100, 100)
@given(text=texts)
@with_hostile_examples
def test_data_reach_a_terminal_made_printable_and_a_file_as_they_are(text):
    terminal, file = Terminal(), StringIO(newline="")
    for out in (terminal, file):
        csv.writer(wrap_stream(out)).writerow([text, "b"])
    assert is_safe(terminal.getvalue())
    assert next(csv.reader(StringIO(file.getvalue(), newline=""))) == [text, "b"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_lines_stages_errors_and_log_records_are_printable(text, capsys, caplog):
    show_message(f"deltabook: {text} is refused")
    with show_stage(SafeConsole(stderr=True, force_terminal=False), "reading", 2, "files", text):
        pass
    assert is_safe(capsys.readouterr().err)
    assert len(caplog.messages) == 3
    assert all(map(is_safe, caplog.messages))


def test_a_raw_line_is_printable_at_a_terminal_and_whole_in_a_pipe(tmp_path):
    line = b"\x1b]0;owned\x07 \xff"
    terminal = Terminal()
    write_line(line, terminal)
    assert terminal.getvalue() == "\\x1b]0;owned\\x07 \\xff\n"
    with (tmp_path / "out").open("w") as file:
        write_line(line, file)
    assert (tmp_path / "out").read_bytes() == line + b"\n"


@pytest.mark.spark
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_query_results_are_printable_at_a_terminal(spark, form):
    frame: DataFrame = spark.createDataFrame(
        pa.table({"a": [text.encode("utf-8", "replace").decode() for text in HOSTILE]})
    )
    out = Terminal()
    assert sql.print_rows(frame, form, out) == len(HOSTILE)
    assert is_safe(re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()) if form == "table" else out.getvalue())
    assert "\x1b[31m" not in out.getvalue()
    assert "\\x1b" in out.getvalue() or "\\u001b" in out.getvalue()


def test_usage_errors_are_printable():
    told = invoke("status", "--bad\x1b]0;owned\x07")
    assert told.exit_status == 2
    assert "\\x1b]0;owned" in told.stderr and is_safe(told.stderr)


def test_a_path_with_an_escape_is_printable_at_a_real_terminal(tmp_path):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    asking = ("run", "binance", str(tmp_path / "\x1b]0;owned\x07"), "--warehouse", str(tmp_path / "w"))
    to_terminal = [(os.POSIX_SPAWN_DUP2, follower, number) for number in (0, 1, 2)]
    environment = os.environ | {"NO_COLOR": "1"}
    process = os.posix_spawn(PROGRAM, [PROGRAM, *asking], environment, file_actions=to_terminal)
    os.close(follower)
    seen = b""
    try:
        while read := os.read(leader, 4096):
            seen += read
    except OSError:  # how a terminal ends
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 2
    os.close(leader)
    assert b"\\x1b]0;owned" in seen
    assert b"\x1b]" not in seen and b"\x07" not in seen
