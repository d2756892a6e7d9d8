"""The folder of an export: written aside, then moved into place, with the manifest last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from deltabook.schemas.errors import SettingsError

MANIFEST = "manifest.json"
_ASIDE = "_unfinished"


class Folder:
    """A folder to export into; as a context, what is unfinished at its end goes.

    Files are written below `_unfinished` and moved out of it when all are whole. The manifest moves last: a
    folder without one is not an export.

    Parameters
    ----------
    root : Path
        The folder; is made.
    replace : bool
        Whether an earlier export in it gives way: the files that its manifest lists, and no others.

    Raises
    ------
    SettingsError
        If it holds anything else, or another export is being written into it.
    """

    def __init__(self, root: Path, replace: bool):
        self.root = root.absolute()
        self.manifest = self.root / MANIFEST
        self.aside = self.root / _ASIDE
        self.coming = self.aside / MANIFEST
        self.staging = self.aside / "files"
        self.replace = replace
        self.lock = FileLock(self.aside / ".lock", timeout=0)

    def __enter__(self) -> Folder:
        if self.root.exists() and not self.root.is_dir():
            raise SettingsError(f"--out {self.root} is no folder")
        self._check()
        self.aside.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire()
        except Timeout:
            raise SettingsError(
                f"--out {self.root} is being written by another export: wait for it"
            ) from None
        self._remove_unfinished()
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_unfinished()
        self.lock.release()
        shutil.rmtree(self.aside, ignore_errors=True)

    def publish(self, manifest: dict[str, Any]) -> None:
        """Move all files into place, and then the manifest.

        Parameters
        ----------
        manifest : dict
            What it tells; `files` has the path of each.
        """
        written = self.coming
        written.write_text(json.dumps(manifest, indent=1, default=str) + "\n")
        self._remove(self.manifest)
        for file in manifest["files"]:
            target = self.root / file["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            (self.staging / file["path"]).replace(target)
        written.replace(self.manifest)

    def _check(self) -> None:
        """Refuse a folder that holds what is not an export's own."""
        if not self.root.exists():
            return
        earlier = self._listed(self.manifest)
        own = {*earlier, *self._listed(self.coming), MANIFEST}
        found = [path for path in self.root.rglob("*") if not path.is_dir()]
        others = sorted(
            str(path.relative_to(self.root))
            for path in found
            if self.aside not in path.parents and str(path.relative_to(self.root)) not in own
        )
        if others:
            raise SettingsError(
                f"--out {self.root} holds {len(others):,} files that no export's manifest lists, such as "
                f"{others[0]}: name an empty or new folder"
            )
        if earlier and not self.replace:
            raise SettingsError(f"--out {self.root} holds an export: --replace puts the new one in its place")

    def _listed(self, manifest: Path) -> list[str]:
        if not manifest.is_file():
            return []
        try:
            listed = [str(file["path"]) for file in json.loads(manifest.read_text())["files"]]
            if any(Path(path).is_absolute() or ".." in Path(path).parts for path in listed):
                raise ValueError("a path that leads out of the folder")
            return listed
        except (ValueError, KeyError, TypeError):
            raise SettingsError(
                f"{manifest} is no manifest of an export: name an empty or new folder"
            ) from None

    def _remove_unfinished(self) -> None:
        """Remove what an export has moved that came to no end: it has told before what it would move."""
        if not self.manifest.exists():
            self._remove(self.coming)

    def _remove(self, manifest: Path) -> None:
        """Remove a manifest and the files that it lists, and the folders that are empty then."""
        listed = self._listed(manifest)
        manifest.unlink(missing_ok=True)
        for path in listed:
            file = self.root / path
            file.unlink(missing_ok=True)
            for folder in file.parents:
                if folder == self.root or not folder.is_dir() or any(folder.iterdir()):
                    break
                folder.rmdir()
