"""Places of warehouses by name: folders, and object stores."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import invoke

from deltabook.jobs.runtime.settings import load_settings
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.storage.object_store import (
    bytes_of,
    content,
    copied,
    files_in,
    is_remote,
    located,
    names_in,
    remove,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("books", Path("books")),
        ("/a b/books", Path("/a b/books")),
        ("file:///a%20b/books", Path("/a b/books")),
        (Path("books"), Path("books")),
    ],
)
def test_folders_are_paths(name, expected):
    assert located(name) == expected and not is_remote(located(name))


@pytest.mark.parametrize("name", ["s3a://my-bucket/books", "s3://my-bucket/books", "s3://my-bucket/books/"])
def test_places_of_a_store_have_one_name(name):
    place = located(name)
    assert is_remote(place) and str(place) == "s3a://my-bucket/books"
    assert str(place.absolute() / "runs") == "s3a://my-bucket/books/runs"
    assert place == located(str(place)) and place / "runs" in (place / "runs" / "x.parquet").parents


@pytest.mark.parametrize(
    "name",
    [
        "s3a://my-bucket",
        "s3a://Bucket/books",
        "s3a://key:secret@bucket/books",
        "s3a://bucket/a/../b",
        "s3a://bucket/a b",
        "s3a://bucket/a?x=1",
        "s3a://bucket//books",
        "gs://bucket/books",
        "https://bucket/books",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(SettingsError, match="expected a folder, or s3a://bucket/folder"):
        located(name)
    with pytest.raises(SettingsError, match=r"warehouse: .*expected a folder"):
        load_settings(None, {"warehouse": name})


def test_a_name_that_was_made_a_path_is_refused():
    with pytest.raises(SettingsError, match="give the name as text"):
        located(Path("s3a://my-bucket/books"))


def test_credentials_in_a_name_are_not_told():
    told = invoke("status", "--warehouse", "s3a://key:hidden@bucket/books")
    assert told.exit_status == 2 and "hidden" not in told.stderr


def test_without_its_packages_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    told = invoke("status", "--warehouse", "s3a://my-bucket/books")
    assert told.exit_status == 2 and "install deltabook[s3]" in told.said


def test_files_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    for name, text in (("b.json", b"12"), ("a/c.json", b"345"), ("a/d.txt", b"")):
        (tmp_path / name).write_bytes(text)
    assert [file.path.name for file in files_in(tmp_path)] == ["b.json"]
    assert [file.bytes for file in files_in(tmp_path, deep=True)] == [3, 0, 2]
    assert names_in(tmp_path / "a", "*.json", "x*") == {"c.json": 3}
    assert not files_in(tmp_path / "none") and not names_in(tmp_path / "none", "*")
    assert bytes_of([tmp_path / "b.json", (tmp_path / "a" / "c.json").as_uri()]) == [2, 3]
    copied(tmp_path / "b.json", tmp_path / "e.json")
    assert content(tmp_path / "e.json") == b"12"
    remove(tmp_path / "a" / "c.json")
    assert (tmp_path / "a").is_dir()  # another file is in it
    remove(tmp_path / "a" / "d.txt")
    assert not (tmp_path / "a").exists()
