"""Errors that a person reads: what was expected, what was found, where, and what to do."""

from __future__ import annotations


class DeltabookError(Exception):
    """Base of all errors that deltabook raises on purpose; `exit_status` is the command's."""

    exit_status = 2


class SettingsError(DeltabookError):
    """Settings, flags or the machine (Java, JARs) are not as needed; lists every problem at once."""


class InputError(DeltabookError):
    """An input is refused: nothing of it is committed."""

    exit_status = 3


class WarehouseError(DeltabookError):
    """The warehouse is missing, locked, of another schema version, or not as the ledger says."""


class BusyError(WarehouseError):
    """Another process is writing the warehouse: nothing was done, and later it may be."""

    exit_status = 4


class GapError(DeltabookError):
    """A feed has a gap, and the run was told to end at the first."""


class OrderError(DeltabookError):
    """Events reached the kernel out of the feed's order: a bug or a hand-edited table."""


class WorkError(DeltabookError):
    """A worker's function failed on one group: a bug, or an input that nobody has thought of."""
