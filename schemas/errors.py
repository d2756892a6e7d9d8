"""Errors of deltabook. Their messages say what was expected, what was found, where, and what to do."""

from __future__ import annotations


class DeltabookError(Exception):
    """Base class of all errors of deltabook; `exit_status` is the exit status of the command."""

    exit_status = 2


class SettingsError(DeltabookError):
    """Settings, options or the machine (Java, JARs) are wrong. The message lists every problem."""


class InputError(DeltabookError):
    """An input is refused: nothing of it is committed."""

    exit_status = 3


class WarehouseError(DeltabookError):
    """The warehouse is missing, damaged, or of another schema version."""


class BusyError(WarehouseError):
    """Another process is writing the warehouse: nothing was done; try again later."""

    exit_status = 4


class GapError(DeltabookError):
    """A feed has a gap, and the run has the setting to stop at the first one."""


class OrderError(DeltabookError):
    """Events reached the kernel out of the feed's order, by a bug or in an edited table."""


class WorkError(DeltabookError):
    """A worker's function failed on one group, by a bug or on an unforeseen input."""
