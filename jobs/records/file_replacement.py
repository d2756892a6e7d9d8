"""Replacing files of a warehouse all together: a repair is done whole, or everything is put back.

A repair writes down what it will do and prepares every new file before the first file moves. What it replaces
goes to a folder of its own in `_aside`. If a step fails, it puts everything back. If it is killed, the next
command that writes the warehouse does that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deltabook.jobs.process.crash_points import crash_point
from deltabook.udfs.storage.object_store import content, copied, files_in, moved, names_in, remove_tree

ASIDE = "_aside"
"""Folder of the warehouse for files that others took the place of."""
_PLAN, _DONE, _REVERSED = "plan.json", "done.json", "reversed.json"
_NEW = "_new"


@dataclass(frozen=True)
class Step:
    """One file that is replaced or taken away.

    Attributes
    ----------
    path : str
        Path below the warehouse's folder.
    source : Path or bytes, optional
        Where its new content is, or that content; None: the file is only moved aside.
    """

    path: str
    source: Path | bytes | None = None


@contextmanager
def repairing(warehouse: Path, steps: Iterable[Step], folders: Iterable[str]) -> Iterator[None]:
    """Do the steps of a repair; what is done within proves and completes it, or everything is put back.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables; its lock is held.
    steps : iterable of Step
        What is to be done, in this order.
    folders : iterable of str
        Folders below the warehouse's in which the block may make new files. They are removed from there too
        if the repair is put back.

    Raises
    ------
    Exception
        Whatever a step or the block raises, once everything is put back.
    """
    steps = [*steps]
    folder = warehouse / ASIDE / str(time.time_ns())
    (folder / _NEW).mkdir(parents=True)
    for number, step in enumerate(steps):
        if isinstance(step.source, bytes):
            (folder / _NEW / str(number)).write_bytes(step.source)
        elif step.source is not None:
            copied(step.source, folder / _NEW / str(number))
    listed = {name: [*names_in(warehouse / name, "*")] for name in folders}
    plan = {
        "steps": [{"path": step.path, "was_there": (warehouse / step.path).is_file()} for step in steps],
        "files": listed,
    }
    (folder / f"{_PLAN}.partial").write_text(json.dumps(plan))
    moved(folder / f"{_PLAN}.partial", folder / _PLAN)
    try:
        for number, step in enumerate(steps):
            _do(warehouse, step, folder, number)
        crash_point("repair.steps.after")
        yield
    except Exception:
        _put_back(warehouse, folder)
        raise
    crash_point("repair.done.before")
    moved(folder / _PLAN, folder / _DONE)


def _do(warehouse: Path, step: Step, folder: Path, number: int) -> None:
    path, new = warehouse / step.path, folder / _NEW / str(number)
    crash_point("repair.step.before")
    if path.is_file():
        _move(path, folder / step.path)
        crash_point("repair.step.inside")
    if step.source is not None:
        _move(new, path)
        crash_point("repair.step.after")


def unfinished_repairs(warehouse: Path) -> list[str]:
    """List the folders, below the warehouse's, of repairs that were killed, the newest first.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    """
    plans = [file.path for file in files_in(warehouse / ASIDE, deep=True) if file.path.name == _PLAN]
    return sorted((f"{ASIDE}/{path.parent.name}" for path in plans), reverse=True)


def put_back_unfinished(warehouse: Path) -> None:
    """Put back what repairs that were killed have moved.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables; its lock is held.
    """
    for folder in unfinished_repairs(warehouse):
        _put_back(warehouse, warehouse / folder)


def _put_back(warehouse: Path, folder: Path) -> None:
    """Put back what a repair has moved; can be repeated if it is killed at it."""
    plan = json.loads(content(folder / _PLAN))
    for step in reversed(plan["steps"]):
        path, old = warehouse / step["path"], folder / step["path"]
        crash_point("repair.reverse.before")
        if old.is_file():
            _move(old, path)
        elif not step["was_there"]:
            path.unlink(missing_ok=True)
    for name, files in plan["files"].items():
        for made in names_in(warehouse / name, "*").keys() - {*files}:
            (warehouse / name / made).unlink()
    moved(folder / _PLAN, folder / _REVERSED)
    remove_tree(folder)  # what is left in it are copies that the repair has made


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    moved(path, target)
