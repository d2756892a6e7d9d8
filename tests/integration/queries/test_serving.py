"""`deltabook sql --serve` answers JDBC clients such as beeline, and refuses statements that write."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyspark
import pytest
from captures import simulated_lines, write
from faulted import build
from servers import free_port

from deltabook.jobs.queries.serving import make_server_folder

pytestmark = pytest.mark.spark
BEELINE = Path(pyspark.__file__).parent / "bin" / "beeline"


def ask(port: int, *statements: str) -> list[str]:
    """The rows of statements, as CSV without their headers."""
    script = [word for statement in statements for word in ("-e", statement)]
    address = f"jdbc:hive2://127.0.0.1:{port}/"
    options = ("--silent=true", "--showHeader=false", "--outputformat=csv2")
    told = subprocess.run(
        [BEELINE, "-u", address, *options, *script], capture_output=True, text=True, check=True
    )
    lines = (
        line.split("/> ")[-1] for line in told.stdout.splitlines()
    )  # the first row stands behind a prompt
    return [line for line in lines if line and not line.startswith("WARNING")]


def serving(warehouse: Path, port: int) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("deltabook")), "sql", "--serve", "--port", str(port)]
    return subprocess.Popen(
        [*command, "--warehouse", str(warehouse), "--master", "local[1]"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def warehouse(spark, tmp_path):
    lines = list(simulated_lines(120))
    assert build("binance", [write(tmp_path / "first.gz", lines[:200])], tmp_path / "w").exit_status == 0
    return lines, tmp_path / "w"


def test_every_session_has_all_relations_and_follows_publications(warehouse, tmp_path):
    lines, folder = warehouse
    port, count = free_port(), "SELECT count(*) FROM events"
    with serving(folder, port) as process:
        try:
            assert process.stderr is not None
            assert f"jdbc:hive2://127.0.0.1:{port}/" in process.stderr.readline()
            assert "passing on" in process.stderr.readline()
            first, book, functions = ask(
                port,
                count,
                "SELECT exchange, status FROM book_at('BTC-USDT', '2030-01-01')",
                "SELECT vwap_to_size(array(2BD, 4BD), array(1, 1), 2)",
            )
            assert int(first) > 0
            assert (book, functions) == ("BINANCE,verified", "3.0")
            (server,) = psutil.Process(process.pid).children()
            heard = {
                one.laddr.ip for one in server.net_connections("tcp") if one.status == psutil.CONN_LISTEN
            }
            assert {address.removeprefix("::ffff:") for address in heard} == {"127.0.0.1"}
            assert build("binance", [write(tmp_path / "more.gz", lines[200:])], folder).exit_status == 0
            assert "published just now" in process.stderr.readline()
            (later,) = ask(port, count)
            assert int(later) > int(first)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert process.returncode == 0
    assert not server.is_running()


STATEMENTS = ("SELECT reflect('java.lang.System', 'getProperty', 'java.version') AS x", "SET a=b")


def refusals(port: int, statement: str) -> list[str]:
    """The errors that beeline tells of a statement."""
    told = subprocess.run(
        [BEELINE, "-u", f"jdbc:hive2://127.0.0.1:{port}/", "-e", statement],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.split("> ")[-1] for line in told.stderr.splitlines() if "Error: " in line]


@pytest.mark.long  # a server more; `test_gateway` tests the same without one
def test_statements_that_do_more_than_read_are_refused_by_the_server(warehouse):
    port = free_port()
    with serving(warehouse[1], port) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()
            said = process.stderr.readline()
            assert "passing on   statements that only read the warehouse" in said
            assert "Spark's own server at 127.0.0.1:" in said
            for statement in STATEMENTS:
                (told,) = refusals(port, statement)
                assert "is not allowed: a query only reads its warehouse" in told
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def test_port_in_use_is_reported(warehouse, deltabook):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = deltabook("sql", "--serve", "--port", port, "--warehouse", warehouse[1])
    assert told.exit_status == 2
    assert f"cannot listen on 127.0.0.1:{port}" in told.stderr
    assert "choose another --port" in told.stderr


def test_child_process_ends_with_its_killed_parent():
    code = (
        "import subprocess, time\n"
        "from deltabook.jobs.queries.serving import end_with_parent\n"
        "script = 'exec sh -c \"exec sleep 300\"'\n"
        "child = subprocess.Popen(['sh', '-c', script], preexec_fn=end_with_parent())\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_folders_of_killed_servers_are_removed_and_those_in_use_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, other = tmp_path / "deltabook-serve-left", tmp_path / "somebody-else"
    for folder in (left, other):
        folder.mkdir()
        (folder / ".lock").touch()
    with make_server_folder() as first:
        assert not left.exists() and other.exists()
        with make_server_folder() as second:
            assert first.exists() and second.exists() and first != second
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-else"]


@pytest.mark.long
@pytest.mark.parametrize("moment", ["starting", "serving"])
def test_server_ends_when_its_command_is_killed(warehouse, tmp_path, moment):
    link = tmp_path / "w ${HOME};'`"
    link.symlink_to(warehouse[1])
    with serving(link, free_port()) as process:
        if moment == "serving":
            assert process.stderr is not None
            assert "jdbc:hive2" in process.stderr.readline()
        parent = psutil.Process(process.pid)
        while not (children := parent.children(recursive=True)):
            time.sleep(0.1)
        process.kill()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert not alive and gone
    with make_server_folder() as folder:
        assert list(folder.parent.glob(f"{folder.name[: -len('xxxxxxxx')]}*")) == [folder]
