"""Replace several files of a warehouse together: either all of them, or none.

A repair first writes its plan and prepares every new file. Only then does it move the first file. Each repair
has its own folder below `_aside`, and moves the replaced files into this folder. If a step fails, the repair
rolls everything back. If the process is killed, the next command that writes to the warehouse rolls the
repair back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from deltabook.jobs.process.crash_points import crash_point
from deltabook.udfs.storage.object_store import (
    copy_file,
    list_folder,
    match_file_sizes,
    move_file,
    read_file,
    remove_tree,
)

ASIDE_FOLDER = "_aside"
"""Folder of the warehouse that keeps replaced files, in one folder for each repair."""
_PLAN, _DONE, _REVERSED = "plan.json", "done.json", "reversed.json"
"""Names of the plan file of a repair: during the repair, after its success, and after a rollback."""
_NEW = "_new"
"""Folder inside a repair's folder that holds the prepared new files."""


@dataclass(frozen=True)
class Replacement:
    """One file to replace, or to move aside without a replacement.

    Attributes
    ----------
    path : str
        Path of the file to replace, below the warehouse folder.
    source : Path or bytes, optional
        Path of a file with the new content, or the content itself. None only moves the old file aside.
    """

    path: str
    source: Path | bytes | None = None


class _PlannedStep(TypedDict):
    """One replacement in `plan.json`: a path, and whether a file existed at this path before the repair."""

    path: str
    was_there: bool


class _RepairPlan(TypedDict):
    """Content of `plan.json`.

    `steps` lists the replacements. The block of the repair may create files in some folders. `files` maps
    each of these folders to the names of the files that the folder had before the repair.
    """

    steps: list[_PlannedStep]
    files: dict[str, list[str]]


@contextmanager
def replacing_files(warehouse: Path, steps: Iterable[Replacement], folders: Iterable[str]) -> Iterator[None]:
    """Replace files and run the block of the `with` statement; undo everything if any part fails.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder. The caller holds its lock.
    steps : iterable of Replacement
        Replacements, in the order in which they are to be made.
    folders : iterable of str
        Folders in which the block may create files, as paths below the warehouse folder. A rollback removes
        the files that the block created there.

    Raises
    ------
    Exception
        If a step or the block raises an exception, this exception is raised again after the rollback.
    """
    steps = [*steps]
    folder = warehouse / ASIDE_FOLDER / str(time.time_ns())
    _prepare(warehouse, steps, folders, folder)
    try:
        for number, step in enumerate(steps):
            _replace(warehouse, step, folder, number)
        crash_point("repair.steps.after")
        yield
    except Exception:
        _roll_back(warehouse, folder)
        raise
    crash_point("repair.done.before")
    move_file(folder / _PLAN, folder / _DONE)


def _prepare(warehouse: Path, steps: list[Replacement], folders: Iterable[str], folder: Path) -> None:
    """Write the new files and the plan of a repair into `folder`, the folder of the repair."""
    (folder / _NEW).mkdir(parents=True)
    for number, step in enumerate(steps):
        if isinstance(step.source, bytes):
            (folder / _NEW / str(number)).write_bytes(step.source)
        elif step.source is not None:
            copy_file(step.source, folder / _NEW / str(number))
    plan: _RepairPlan = {
        "steps": [{"path": step.path, "was_there": (warehouse / step.path).is_file()} for step in steps],
        "files": {name: [*match_file_sizes(warehouse / name, "*")] for name in folders},
    }
    (folder / f"{_PLAN}.partial").write_text(json.dumps(plan))
    move_file(folder / f"{_PLAN}.partial", folder / _PLAN)


def _replace(warehouse: Path, step: Replacement, folder: Path, number: int) -> None:
    """Move one file aside and put its prepared replacement in its place.

    `folder` is the folder of the repair, and `number` is the index of the step.
    """
    path, prepared = warehouse / step.path, folder / _NEW / str(number)
    crash_point("repair.step.before")
    if path.is_file():
        _move(path, folder / step.path)
        crash_point("repair.step.inside")
    if step.source is not None:
        _move(prepared, path)
        crash_point("repair.step.after")


def list_unfinished_repairs(warehouse: Path) -> list[str]:
    """Return the folders of repairs that were killed, as paths below the warehouse folder, newest first.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    """
    plans = [
        file.path for file in list_folder(warehouse / ASIDE_FOLDER, deep=True) if file.path.name == _PLAN
    ]
    return sorted((f"{ASIDE_FOLDER}/{path.parent.name}" for path in plans), reverse=True)


def roll_back_unfinished_repairs(warehouse: Path) -> None:
    """Undo every repair whose process was killed.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder. The caller holds its lock.
    """
    for folder in list_unfinished_repairs(warehouse):
        _roll_back(warehouse, warehouse / folder)


def _roll_back(warehouse: Path, folder: Path) -> None:
    """Undo a repair, given by its folder. A second call completes a rollback that was killed."""
    plan: _RepairPlan = json.loads(read_file(folder / _PLAN))
    for step in reversed(plan["steps"]):
        path, old = warehouse / step["path"], folder / step["path"]
        crash_point("repair.reverse.before")
        if old.is_file():
            _move(old, path)
        elif not step["was_there"]:
            path.unlink(missing_ok=True)
    for name, earlier_names in plan["files"].items():
        for created in match_file_sizes(warehouse / name, "*").keys() - {*earlier_names}:
            (warehouse / name / created).unlink()
    move_file(folder / _PLAN, folder / _REVERSED)
    remove_tree(folder)  # all replaced files were moved back, so only prepared new files are left


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    move_file(path, target)
