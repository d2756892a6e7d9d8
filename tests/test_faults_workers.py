"""What workers must survive: being killed, an hour far longer than the usual."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from benchmarks.lake_data import lake_path, write_deltas, write_seed
from captures import simulated_lines, write
from conftest import invoke
from faulted import books, build, into

import deltabook.jobs.reconstruct
from deltabook.jobs.reconstruct import Known
from deltabook.jobs.settings import load_settings
from deltabook.jobs.warehouse import Warehouse
from deltabook.schemas.names import HOUR

pytestmark = pytest.mark.spark

USUAL, LONG = 2_000_000, 8_000_000
"""Level changes of an hour."""


def test_a_worker_that_is_killed_is_replaced_and_its_hours_are_the_same(spark, tmp_path, monkeypatch):
    raw = write(tmp_path / "raw.gz", simulated_lines(60))
    build("binance", [raw], tmp_path / "sound")
    rebuild_groups, mark = deltabook.jobs.reconstruct.rebuild_groups, str(tmp_path / "killed")

    def dying_groups(root, writing):
        rebuild = rebuild_groups(root, writing)

        def rebuild_or_die(key, groups):
            import os
            import signal
            from pathlib import Path

            if not Path(mark).exists():
                Path(mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield from rebuild(key, groups)

        rebuild_or_die.__annotations__ = get_type_hints(rebuild)
        return rebuild_or_die

    monkeypatch.setattr(deltabook.jobs.reconstruct, "rebuild_groups", dying_groups)
    run = build("binance", [raw], tmp_path / "w")
    assert (run.exit_status, Path(mark).exists()) == (0, True), run.said
    assert books(tmp_path / "w") == books(tmp_path / "sound") != []


def test_a_longer_hour_takes_no_more_memory(spark, tmp_path):
    peaks = [peak_of_hour(spark, tmp_path / str(count), count) for count in (USUAL, LONG)]
    assert peaks[1] < 1.2 * peaks[0]


def peak_of_hour(spark, folder: Path, changes: int) -> int:
    """Most memory that rebuilding an hour of so many level changes takes, KiB."""
    write_deltas(lake_path(folder, "book_delta_v2"), changes, message_nanoseconds=HOUR * 20 // changes)
    write_seed(lake_path(folder, "book"))
    assert invoke("ingest", "crypto_lake", folder, *into(folder / "w")).exit_status == 0
    warehouse = Warehouse(spark, load_settings(None, {"warehouse": folder / "w", "seed": "golden"}))
    known = Known.of(warehouse)
    told = {key: {"changed": True, "chained": True, "replayed": True} for key in known.files}
    assert len(told) == 2  # the first message is of the hour before
    (references := folder / "references").write_text(json.dumps(known.references(list(told), {}, told)))
    program = Path(__file__).with_name("rebuilding_process.py")
    done = subprocess.run(
        [sys.executable, program, folder / "w", references], capture_output=True, text=True, check=True
    )
    peak, files = json.loads(done.stdout)
    assert files == 2
    return peak
