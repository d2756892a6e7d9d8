"""The output folder of an export, which receives complete files, and then a manifest that lists the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from deltabook.jobs.exporting.manifest import Manifest
from deltabook.schemas.errors import SettingsError

MANIFEST = "manifest.json"
_UNFINISHED = "_unfinished"


class OutputFolder:
    """The folder to which an export writes: a context manager that removes unfinished files at its end.

    An export writes all files into the subfolder `_unfinished`, then moves the files into the folder, and
    moves the manifest last. A folder with a manifest therefore has a complete export.

    Parameters
    ----------
    root : Path
        The folder. It is created if it does not exist.
    replace : bool
        Whether to replace an earlier export in the folder. Only files that the manifest of the earlier export
        lists are removed.

    Attributes
    ----------
    manifest : Path
        Path of the manifest of a finished export.
    unfinished : Path
        Subfolder `_unfinished`, which contains the files and the manifest of an unfinished export.
    staging : Path
        Folder below `unfinished` into which the export writes its files.

    Raises
    ------
    SettingsError
        On entry, if the folder has files that are not part of an export, if the folder has an export and
        `replace` is false, or if another export is writing into the folder.
    """

    def __init__(self, root: Path, replace: bool):
        self.root = root.absolute()
        self.manifest = self.root / MANIFEST
        self.unfinished = self.root / _UNFINISHED
        self.staging = self.unfinished / "files"
        self._next_manifest = self.unfinished / MANIFEST
        self._replace = replace
        self._lock = FileLock(self.unfinished / ".lock", timeout=0)

    def __enter__(self) -> OutputFolder:
        if self.root.exists() and not self.root.is_dir():
            raise SettingsError(f"--out {self.root} is not a folder: choose another --out")
        self._check_files()
        self.unfinished.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise SettingsError(
                f"--out {self.root} is being written by another export: wait until that export ends, or "
                "choose another --out"
            ) from None
        self._roll_back()
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._roll_back()
        self._lock.release()
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def publish(self, manifest: Manifest) -> None:
        """Move all staged files into the folder, then move the manifest into the folder.

        Parameters
        ----------
        manifest : Manifest
            The manifest to write as JSON. Each entry of `files` has a `path` relative to the folder.
        """
        self._next_manifest.write_text(json.dumps(manifest, indent=1, default=str) + "\n")
        self._remove_export(self.manifest)
        for file in manifest["files"]:
            target = self.root / file["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            (self.staging / file["path"]).replace(target)
        self._next_manifest.replace(self.manifest)

    def _check_files(self) -> None:
        """Raise an error if the folder has files of no export, or an export that must not be replaced."""
        if not self.root.exists():
            return
        exported = self._list_files(self.manifest)
        own = {*exported, *self._list_files(self._next_manifest), MANIFEST}
        files = [path for path in self.root.rglob("*") if not path.is_dir()]
        others = sorted(
            str(path.relative_to(self.root))
            for path in files
            if self.unfinished not in path.parents and str(path.relative_to(self.root)) not in own
        )
        if others:
            raise SettingsError(
                f"--out {self.root} has {len(others):,} files that are not part of an export, such as "
                f"{others[0]}: choose an empty or a new folder"
            )
        if exported and not self._replace:
            raise SettingsError(f"--out {self.root} already has an export: give --replace to replace it")

    def _list_files(self, manifest: Path) -> list[str]:
        """Return the relative paths that a manifest lists; an empty list if the manifest does not exist."""
        if not manifest.is_file():
            return []
        try:
            paths = [str(file["path"]) for file in json.loads(manifest.read_text())["files"]]
            if any(Path(path).is_absolute() or ".." in Path(path).parts for path in paths):
                raise ValueError("a path that leads out of the folder")
            return paths
        except (ValueError, KeyError, TypeError):
            raise SettingsError(
                f"{manifest} is not the manifest of an export: choose an empty or a new folder"
            ) from None

    def _roll_back(self) -> None:
        """Remove the files that an interrupted export has already moved into the folder.

        The manifest in `_unfinished` lists these files: an export writes the manifest before it moves a file.
        """
        if not self.manifest.exists():
            self._remove_export(self._next_manifest)

    def _remove_export(self, manifest: Path) -> None:
        """Remove a manifest, the files that it lists, and the folders that become empty."""
        paths = self._list_files(manifest)
        manifest.unlink(missing_ok=True)
        for path in paths:
            file = self.root / path
            file.unlink(missing_ok=True)
            for folder in file.parents:
                if folder == self.root or not folder.is_dir() or any(folder.iterdir()):
                    break
                folder.rmdir()
