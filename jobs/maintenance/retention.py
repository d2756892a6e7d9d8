"""How long versions, files and copies of raw files are retained."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import DAY

MIN_RETENTION = 7 * DAY
"""Shortest retention in ns. Every reader and writer that started before it has finished."""
_DAYS = re.compile(r"(\d+)d")


@dataclass(frozen=True)
class RetentionPolicy:
    """How long versions, files and copies of raw files are retained.

    Attributes
    ----------
    retention : int
        Retention of versions and files in ns.
    archive_retention : int, optional
        Retention of copies of raw files in ns; None retains all of them.
    now : int
        End of the retention period, ns since 1970 UTC.
    """

    retention: int
    archive_retention: int | None
    now: int

    @classmethod
    def parse(cls, keep: str, prune_archive: str | None) -> RetentionPolicy:
        """Return the policy that command-line options describe; the period ends now.

        Parameters
        ----------
        keep : str
            Value of `--keep`: a number of days, such as 30d.
        prune_archive : str, optional
            Value of `--prune-archive`: a number of days.

        Raises
        ------
        SettingsError
            If a value is not a number of days, or less than `MIN_RETENTION`.
        """
        retention = _parse_days(keep, "--keep")
        archive_retention = _parse_days(prune_archive, "--prune-archive") if prune_archive else None
        return cls(retention, archive_retention, time.time_ns())

    @property
    def cutoff(self) -> int:
        """Start of the retention period, ns since 1970 UTC."""
        return self.now - self.retention


def _parse_days(text: str, option: str) -> int:
    """Return a number of days, such as 30d, in ns."""
    match = _DAYS.fullmatch(text)
    length = int(match[1]) * DAY if match else 0
    if length < MIN_RETENTION:
        raise SettingsError(
            f"{option} {text}: expected a number of days, such as 30d, and at least {MIN_RETENTION // DAY}d. "
            "Readers, runs in progress and `restore` may need younger files"
        )
    return length
