"""A warehouse is in a folder or in an object store. All other locations are refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import invoke

from deltabook.jobs.runtime.settings import load_settings
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.storage.locations import is_remote, parse_location
from deltabook.udfs.storage.object_store import (
    copy_file,
    get_file_sizes,
    list_folder,
    match_file_sizes,
    read_file,
    remove_file,
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
    assert parse_location(name) == expected and not is_remote(parse_location(name))


@pytest.mark.parametrize("name", ["s3a://my-bucket/books", "s3://my-bucket/books", "s3://my-bucket/books/"])
def test_locations_of_a_store_have_one_name(name):
    place = parse_location(name)
    assert is_remote(place) and str(place) == "s3a://my-bucket/books"
    assert str(place.absolute() / "runs") == "s3a://my-bucket/books/runs"
    assert place == parse_location(str(place)) and place / "runs" in (place / "runs" / "x.parquet").parents


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
def test_other_locations_are_refused(name):
    with pytest.raises(SettingsError, match="expected a folder, or s3a://bucket/folder"):
        parse_location(name)
    with pytest.raises(SettingsError, match=r"warehouse: .*expected a folder"):
        load_settings(None, {"warehouse": name})


def test_a_uri_that_was_made_a_path_is_refused():
    with pytest.raises(SettingsError, match="Pass the location as text"):
        parse_location(Path("s3a://my-bucket/books"))


def test_credentials_in_a_location_are_not_shown():
    told = invoke("status", "--warehouse", "s3a://key:hidden@bucket/books")
    assert told.exit_status == 2 and "hidden" not in told.stderr


def test_missing_packages_are_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    told = invoke("status", "--warehouse", "s3a://my-bucket/books")
    assert told.exit_status == 2 and "install deltabook[s3]" in told.said


def test_files_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    for name, text in (("b.json", b"12"), ("a/c.json", b"345"), ("a/d.txt", b"")):
        (tmp_path / name).write_bytes(text)
    assert [file.path.name for file in list_folder(tmp_path)] == ["b.json"]
    assert [file.bytes for file in list_folder(tmp_path, deep=True)] == [3, 0, 2]
    assert match_file_sizes(tmp_path / "a", "*.json", "x*") == {"c.json": 3}
    assert not list_folder(tmp_path / "none") and not match_file_sizes(tmp_path / "none", "*")
    assert get_file_sizes([tmp_path / "b.json", (tmp_path / "a" / "c.json").as_uri()]) == [2, 3]
    copy_file(tmp_path / "b.json", tmp_path / "e.json")
    assert read_file(tmp_path / "e.json") == b"12"
    remove_file(tmp_path / "a" / "c.json")
    assert (tmp_path / "a").is_dir()  # another file is in it
    remove_file(tmp_path / "a" / "d.txt")
    assert not (tmp_path / "a").exists()
