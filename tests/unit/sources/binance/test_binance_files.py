"""Read whole Binance files, in any blocks, time unit and compression, and refuse files with faults."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from binance_lines import (
    ASKS,
    FAST_LINES,
    LEVELS,
    QUARANTINED,
    RECEIVED,
    SKIPPED_LINES,
    STRICT_LINES,
    parse,
    parse_both,
    parse_line,
    read,
)
from events import START_MS, depth, snapshot, trade
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.udfs.sources.binance import source as binance
from deltabook.udfs.sources.binance.source import BinanceSource
from deltabook.udfs.sources.common import file_source
from deltabook.udfs.sources.common.file_source import line_blocks


@pytest.mark.kernel
def test_crlf_and_blank_lines_change_nothing_but_row_numbers() -> None:
    lines = [FAST_LINES["spot depth"], "", FAST_LINES["spot trade"], STRICT_LINES["white space"]]
    expected = parse_both("\n".join(lines))
    assert [record["source_row"] for record in expected] == [1, 3, 4]
    assert parse_both("\r\n".join(lines) + "\r\n") == expected
    assert parse_both("\n".join(lines) + "\n\n\r\n") == expected


def test_quarantined_line_is_stored_without_its_line_end() -> None:
    assert parse_line("hello\r\n")["raw"] == b"hello"


def test_last_line_without_newline_is_read() -> None:
    assert len(parse_both(FAST_LINES["spot depth"] + "\n" + FAST_LINES["spot trade"])) == 2


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\r\n\n"])
def test_empty_file_has_no_records_and_is_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(content)
    assert [(record["record"], record["kind"]) for record in read(path)] == [("file", "read")]


@pytest.mark.kernel
@pytest.mark.parametrize(("factor", "unit"), [(1, 1_000_000), (1_000, 1_000), (1_000_000, 1)])
def test_unit_of_time_follows_from_magnitude(factor: int, unit: int) -> None:
    printed = START_MS * factor + 1
    lines = [depth("spot", 3, 5, E=printed), trade("spot", 4, T=printed + 1, E=printed + 2)]
    assert [row["timestamp"] for row in parse_both("\n".join(lines))] == [
        printed * unit,
        (printed + 1) * unit,
    ]


def mixed(first: Callable[[int], str], second: Callable[[int], str], others: int) -> str:
    return "\n".join([first(START_MS), *[depth("spot", 3, 5)] * others, second(START_MS * 1_000)])


def spot_depth_at(time: int) -> str:
    return depth("spot", 3, 5, LEVELS, E=time)


def spaced_depth_at(time: int) -> str:
    return json.dumps(json.loads(spot_depth_at(time)))


@pytest.mark.parametrize("first", [spot_depth_at, spaced_depth_at])
@pytest.mark.parametrize("second", [spot_depth_at, spaced_depth_at])
@pytest.mark.parametrize("block_bytes", [100, file_source.BLOCK_BYTES])
def test_file_that_mixes_units_of_time_fails_whole(
    first: Any, second: Any, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binance, "line_blocks", partial(line_blocks, block_bytes=block_bytes))
    path = tmp_path / "mixed"
    path.write_text(mixed(first, second, 3))
    verdict = read(path)[-1]
    assert (verdict["record"], verdict["kind"], verdict["source_file"]) == ("file", "failed", str(path))
    assert "mix units" in verdict["reason"]


def test_snapshot_in_another_unit_fails_its_file_too(tmp_path: Path) -> None:
    path = tmp_path / "mixed"
    odd = snapshot("usdm", 4, LEVELS, E=START_MS * 1_000, T=START_MS * 1_000)
    path.write_text(f"{depth('usdm', 3, 5)}\n{odd}\n")
    assert read(path)[-1]["kind"] == "failed"


@pytest.mark.kernel
@pytest.mark.parametrize("time", [9_223_372_036_855, 99_999_999_999_999, 9_223_372_036_854_776, 10**17 - 1])
def test_time_never_wraps_around_int64(time: int, tmp_path: Path) -> None:
    """No unit may be chosen in which the time in ns leaves int64."""
    path = tmp_path / "late"
    path.write_text(depth("spot", 3, 5, E=time))
    *records, verdict = read(path)
    stamps = {record["timestamp"] for record in records if record["record"] == "book_update"}
    assert verdict["kind"] == "failed" or stamps <= {time * unit for unit in (1, 10**3, 10**6)}


def whole_file(lines: int = 60) -> bytes:
    texts = [f"{RECEIVED} {depth('spot', row, row, LEVELS, ASKS)}\n" for row in range(1, lines)]
    return gzip.compress("".join(texts).encode(), mtime=0)


@pytest.mark.parametrize("keep", [1, 12, 50, -1, -4, -8, -9])
def test_truncated_gzip_ends_in_a_failed_file_record(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "capture.gz"
    path.write_bytes(whole_file()[:keep])
    verdict = read(path)[-1]
    if keep == 1:
        assert [record["record"] for record in read(path)] == ["quarantine", "file"]  # not gzip any more
    else:
        assert (verdict["record"], verdict["kind"]) == ("file", "failed")
        assert verdict["reason"].startswith("EOFError: ")


@pytest.mark.parametrize("place", [-8, -5, -4, -1, 60])
def test_corrupt_gzip_ends_in_a_failed_file_record(place: int, tmp_path: Path) -> None:
    content = bytearray(whole_file())
    content[place] ^= 0x55
    path = tmp_path / "capture.gz"
    path.write_bytes(bytes(content))
    verdict = read(path)[-1]
    assert (verdict["record"], verdict["kind"], verdict["source_file"]) == ("file", "failed", str(path))
    assert verdict["reason"]


def test_garbage_behind_gzip_ends_in_a_failed_file_record(tmp_path: Path) -> None:
    path = tmp_path / "capture.gz"
    path.write_bytes(whole_file() + b"garbage")
    assert read(path)[-1]["kind"] == "failed"


def test_missing_file_and_folder_end_in_a_failed_file_record(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        assert [(record["record"], record["kind"]) for record in read(path)] == [("file", "failed")]


def test_gzip_is_recognised_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_text(FAST_LINES["spot depth"])
    (tmp_path / "zipped.txt").write_bytes(gzip.compress(FAST_LINES["spot depth"].encode()))
    first, second = (read(tmp_path / name)[0] for name in ("plain.gz", "zipped.txt"))
    assert first | {"source_file": ""} == second | {"source_file": ""}


def test_gzip_of_several_members_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "twice.gz").write_bytes(whole_file() + whole_file())
    assert [record["source_row"] for record in read(tmp_path / "twice.gz")[:-1]] == list(range(1, 119))


def test_line_longer_than_the_cap_fails_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_source, "MAX_LINE_BYTES", 1_000)
    monkeypatch.setattr(binance, "line_blocks", partial(line_blocks, block_bytes=100))
    path = tmp_path / "long"
    path.write_text(FAST_LINES["spot depth"] + "\n" + "x" * 2_000)
    assert "a line is longer than" in read(path)[-1]["reason"]


def test_several_files_are_several_tasks(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        Path(path).write_text(FAST_LINES["spot depth"])
    reader = BinanceSource({"paths": json.dumps(paths)}).reader(None)
    assert [partition.value for partition in reader.partitions()] == [(path, None) for path in paths]


EVERY_LINE = [*FAST_LINES.values(), *STRICT_LINES.values(), *SKIPPED_LINES.values()]
EVERY_LINE += [line for line, _ in QUARANTINED.values() if isinstance(line, str) and len(line) < 2_000]
EVERY_LINE = [line for line in EVERY_LINE if line != FAST_LINES["microseconds"]]


@pytest.mark.kernel
@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1_000, 4_096])
def test_size_of_blocks_changes_nothing(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "\n".join([snapshot("spot", 4, LEVELS), *EVERY_LINE, "", *EVERY_LINE, "\r"]).encode()
    expected = parse(content)
    assert {record["record"] for record in expected} >= {"book_update", "trade", "agg_trade", "golden"}
    monkeypatch.setattr(binance, "line_blocks", partial(line_blocks, block_bytes=block_bytes))
    assert parse(content) == expected
    assert parse(content, strict=True) == expected


@cases(200)
@given(content=st.binary(max_size=60), block_bytes=st.integers(1, 70))
def test_blocks_are_whole_lines_and_lose_no_byte(content: bytes, block_bytes: int) -> None:
    content = content.replace(b"\x01", b"\n").replace(b"\x00", b"\n")
    blocks = list(line_blocks(io.BytesIO(content), "", block_bytes))
    assert b"".join(blocks) == content
    assert all(block.endswith(b"\n") for block in blocks[:-1])
