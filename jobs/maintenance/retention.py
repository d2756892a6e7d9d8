"""The retention policy: how long `maintain` retains versions, files and copies of raw files."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import DAY

MIN_RETENTION = 7 * DAY
"""Shortest allowed retention period, ns.

Readers and runs may still use files that a newer version has replaced, but have finished after this time.
"""
_DAYS = re.compile(r"(\d+)d")


@dataclass(frozen=True)
class RetentionPolicy:
    """How long `maintain` retains versions, files and copies of raw files.

    Attributes
    ----------
    retention : int
        Length of the retention period of versions and files, ns.
    archive_retention : int, optional
        Length of the retention period of archived copies of raw files, ns. None retains all copies.
    now : int
        End of both retention periods, ns since 1970 UTC.
    """

    retention: int
    archive_retention: int | None
    now: int

    @classmethod
    def parse(cls, keep: str, prune_archive: str | None) -> RetentionPolicy:
        """Return the policy that command-line options describe. The retention periods end now.

        Parameters
        ----------
        keep : str
            Value of `--keep`: a number of days, such as `30d`.
        prune_archive : str, optional
            Value of `--prune-archive`: a number of days, such as `90d`. None retains all copies of raw files.

        Raises
        ------
        SettingsError
            If a value is not a number of days, or is shorter than `MIN_RETENTION`.
        """
        retention = _parse_days(keep, "--keep")
        archive_retention = _parse_days(prune_archive, "--prune-archive") if prune_archive else None
        return cls(retention, archive_retention, time.time_ns())

    @property
    def cutoff(self) -> int:
        """Start of the retention period of versions and files, ns since 1970 UTC."""
        return self.now - self.retention


def _parse_days(text: str, option: str) -> int:
    """Return the length in ns of a number of days such as `30d`; `option` is named in error messages."""
    match = _DAYS.fullmatch(text)
    length = int(match[1]) * DAY if match else 0
    if length < MIN_RETENTION:
        raise SettingsError(
            f"{option} {text}: expected a number of days, such as 30d, and at least {MIN_RETENTION // DAY}d. "
            f"Readers, runs in progress and `restore` may need files of the last {MIN_RETENTION // DAY} days"
        )
    return length
