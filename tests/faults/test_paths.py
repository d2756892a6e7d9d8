"""Paths with unusual names: they work, or they are refused by name before any work starts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from captures import simulated_lines, write
from conftest import invoke
from deltalake import DeltaTable, write_deltalake
from hypothesis import example, given
from hypothesis import strategies as st
from paths import GOOD, NAMED, REFUSED
from properties import cases

from deltabook.jobs.console.printable import make_printable
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.tables.published import published_table
from deltabook.schemas.errors import InputError, SettingsError
from deltabook.schemas.tables import RUNS, SCHEMA_VERSION
from deltabook.udfs.storage.locations import get_table_address, parse_location
from deltabook.udfs.storage.raw_files import list_raw_files

ROWS = pa.table({"x": [1, 2], "s": ["a b%20", "c"]})
WHOLE = ["a ${HOME}#?*{é,e\u0301}'\"`;&=%zz ~", "-\u202e@v1 \U0001f980:x"]
"""Names of the folder, the file and the output that go through every command."""


def names() -> st.SearchStrategy[str]:
    """Names of any characters but `/` and NUL, as long as a file system takes them."""
    hard = st.sampled_from("[]|^\\%20Ff{}*?#$~`'\";:&=+@- \t\n.\u0301\u202e\x1b")
    letters = st.one_of(hard, st.characters(exclude_characters="/\0", exclude_categories=("Cs",)))
    text = st.text(letters, min_size=1, max_size=40)
    raw = st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 47} & {*name}).map(os.fsdecode)
    return st.one_of(text, raw).filter(lambda name: name not in (".", "..") and len(os.fsencode(name)) < 256)


def with_named_examples(test):
    for name in [*GOOD, *REFUSED]:
        test = example(name)(test)
    return test


@pytest.fixture(scope="module")
def emptied(tmp_path_factory):
    root = tmp_path_factory.mktemp("paths")

    def fresh() -> Path:
        shutil.rmtree(root)
        root.mkdir()
        return root

    return fresh


@cases(150, 150)
@given(name=names())
@with_named_examples
def test_a_table_works_in_a_folder_of_any_name_or_the_name_is_refused(emptied, name):
    folder = emptied() / name / "table"
    folder.parent.mkdir()
    try:
        address = get_table_address(folder)
    except SettingsError as refused:
        assert name in REFUSED or name not in GOOD
        assert "cannot hold a Delta table: the path has" in str(refused) and "--warehouse" in str(refused)
        assert str(refused).isprintable()
        return
    assert name not in REFUSED
    made = DeltaTable.create(address, ROWS.schema, partition_by=["s"])
    write_deltalake(made, ROWS, mode="append")
    assert (folder / "_delta_log" / f"{1:020}.json").is_file()
    assert [path.name for path in folder.parent.iterdir()] == ["table"]
    assert DeltaTable(get_table_address(folder)).to_pyarrow_table().num_rows == ROWS.num_rows


@cases(300, 300)
@given(name=names())
@with_named_examples
def test_a_path_and_its_uri_are_the_same_warehouse(name):
    path = Path("/", name, "file")
    assert parse_location(path.as_uri()) == path == parse_location(path)


@pytest.mark.parametrize(("name", "named"), [*zip(REFUSED, NAMED, strict=True)], ids=map(ascii, REFUSED))
def test_a_refusal_names_the_path_and_the_problem(tmp_path, name, named):
    told = invoke("status", "--warehouse", tmp_path / name)
    assert told.exit_status == 2
    shown = make_printable(repr(os.fsencode(tmp_path / name))[1:])
    assert shown in told.stderr and f"the path has {named}." in told.stderr
    assert "Rename the folder, or choose another --warehouse" in told.stderr
    assert not list(tmp_path.iterdir())


def test_a_link_does_not_hide_a_name_that_is_refused(tmp_path):
    (tmp_path / "a[b]").mkdir()
    (tmp_path / "plain").symlink_to(tmp_path / "a[b]")
    with pytest.raises(SettingsError, match="one of"):
        open_table(tmp_path / "plain", RUNS)
    told = invoke("run", "binance", tmp_path, "--warehouse", tmp_path / "plain" / "w")
    assert told.exit_status == 2 and "one of [ ] | ^" in told.stderr


def test_library_and_command_refuse_the_same_warehouses(tmp_path):
    folder = tmp_path / "a%20b" / RUNS.name / "_delta_log"
    folder.mkdir(parents=True)
    (folder / f"{0:020}.json").write_text(json.dumps({"schema": SCHEMA_VERSION}))
    with pytest.raises(SettingsError, match="hexadecimal"):
        published_table(tmp_path / "a%20b", "runs")


@cases(100, 100)
@given(name=names())
@with_named_examples
def test_an_input_of_any_name_is_listed_or_refused_by_name(emptied, name):
    folder = emptied()
    (folder / name).write_bytes(b"x")
    is_text = name.encode(errors="replace").decode() == name
    if not is_text:
        with pytest.raises(InputError, match=r"the path has bytes that are not UTF-8\. Rename the file"):
            list_raw_files([folder])
    elif not name.startswith((".", "_")):
        assert list_raw_files([folder]) == [folder / name]
    if is_text:
        assert list_raw_files([folder / name]) == [folder / name]


@pytest.mark.parametrize("command", ["run", "plan", "export"])
def test_a_name_that_is_not_text_is_refused_before_anything_starts(command, tmp_path):
    bad = tmp_path / os.fsdecode(b"b\xff")
    bad.write_bytes(b"")
    given = {
        "run": ("run", "binance", bad, "--warehouse", tmp_path / "w"),
        "plan": ("plan", "--out", bad),
        "export": ("export", "books", "--out", bad, "--warehouse", tmp_path / "w"),
    }[command]
    told = invoke(*given)
    assert told.exit_status == (3 if command == "run" else 2)
    said = "".join(told.stderr.replace("│", " ").split())  # a usage error is wrapped anywhere
    assert "b\\xff':thepathhasbytesthatarenotUTF-8.Renamethefile" in said
    assert not (tmp_path / "w").exists()


@pytest.mark.spark
@pytest.mark.parametrize("name", [WHOLE[0], pytest.param(WHOLE[1], marks=pytest.mark.long)], ids=ascii)
def test_every_command_works_with_hard_names_of_warehouse_inputs_and_outputs(deltabook, tmp_path, name):
    raw, warehouse = tmp_path / "in" / name / f"{name}.gz", tmp_path / name
    raw.parent.mkdir(parents=True)
    write(raw, simulated_lines(60))
    where = ("--warehouse", warehouse)
    run = deltabook("run", "binance", raw.parent, "--archive", *where, "--json")
    assert (run.exit_status, run.summary["files_read"]) == (0, 1), run.said
    again = deltabook("run", "binance", raw, *where, "--json")
    assert again.summary["files_known"] == 1
    for query in ("SELECT count(*) AS n FROM events", "SELECT count(*) AS n FROM book"):
        found = deltabook("sql", query, *where, "--format", "json")
        assert json.loads(found.stdout.splitlines()[0])["n"] > 50, found.said
    sequence = published_table(warehouse, "events").to_table(columns=["sequence"])["sequence"][5]
    for asking in (
        ("status",),
        ("book", "BTC-USDT"),
        ("replay", "BTC-USDT"),
        ("raw", "BTC-USDT", sequence),
        ("report", "--out", tmp_path / f"{name}.html"),
        ("export", "books", "--out", tmp_path / "out" / name),
        ("verify", "--deep"),
        ("restore",),
        ("maintain",),
        ("restore", "--from-archive", "--into", tmp_path / "again" / name),
    ):
        done = deltabook(*asking, *where)
        assert done.exit_status == 0, (asking, done.said)
    assert (tmp_path / f"{name}.html").is_file() and list((tmp_path / "out" / name).glob("*.json"))
    assert published_table(tmp_path / "again" / name, "events").count_rows() > 50
