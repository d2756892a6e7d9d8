"""A venue restarts its ids: the books are right, in whatever order and split the files are ingested."""

import json

import pytest
from captures import simulated_lines, write

from deltabook.jobs.tables.delta_tables import open_table
from deltabook.schemas.tables import EPOCHS, EVENTS, GAPS

pytestmark = pytest.mark.spark

LATER_MS = 60_000
FIRST_ID = 1_000


def restarted(lines):
    """The same market a minute later, its ids begun anew."""
    messages = [json.loads(line.split(b" ", 1)[1]) for line in lines]
    bodies = [message.get("data", message) for message in messages]
    updates = min(body["U"] for body in bodies if "U" in body) - FIRST_ID
    trades = min(body["t"] for body in bodies if "t" in body) - FIRST_ID
    for line, message, body in zip(lines, messages, bodies, strict=True):
        for name, shift in (("U", updates), ("u", updates), ("lastUpdateId", updates), ("t", trades)):
            if name in body:
                body[name] -= shift
        for name in ("E", "T"):
            if name in body:
                body[name] += LATER_MS
        received = int(line.split(b" ", 1)[0]) + LATER_MS * 1_000_000
        yield f"{received} {json.dumps(message, separators=(',', ':'))}\n".encode()


def events_of(warehouse):
    columns = ["event_type", "epoch", "sequence", "timestamp", "order_time", "hour"]
    table = open_table(warehouse, EVENTS).to_pyarrow_table(columns=columns)
    return sorted(tuple(row.values()) for row in table.to_pylist())


def test_an_id_restart_opens_an_epoch_in_any_file_order(deltabook, tmp_path):
    before = list(simulated_lines(60))
    behind = list(restarted(before))
    captures = {
        "one": [[before + behind]],
        "in_order": [[before], [behind]],
        "late": [[behind], [before]],
    }
    found = {}
    for name, batches in captures.items():
        for number, files in enumerate(batches):
            paths = [write(tmp_path / name / f"{number}.gz", lines) for lines in files]
            result = deltabook("ingest", "binance", *paths, "--warehouse", tmp_path / "w" / name)
            assert result.exit_status == 0, result.said
        found[name] = events_of(tmp_path / "w" / name)
    assert found["one"] == found["in_order"] == found["late"]
    epochs = {epoch for _, epoch, *_ in found["one"]}
    assert epochs == {0, 1}
    assert len(found["one"]) == 2 * sum(1 for event in found["one"] if event[1] == 0)
    rows = open_table(tmp_path / "w" / "late", EPOCHS).to_pyarrow_table().to_pylist()
    assert sorted(row["event_type"] for row in rows) == ["book_update", "trade"]
    result = deltabook("reconstruct", "--warehouse", tmp_path / "w" / "late", "--json")
    assert result.summary["book_rows"].keys() <= {"unseeded", "suspect", "verified"}
    gaps = open_table(tmp_path / "w" / "late", GAPS).to_pyarrow_table().to_pylist()
    assert [(gap["kind"], gap["epoch"], gap["resolved_by"]) for gap in gaps] == [
        ("sequence_gap", 1, "snapshot")
    ]
