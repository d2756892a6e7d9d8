"""Errors and warnings of deltabook.

The message of an error says what was expected, what was found, where, and what to do.
"""

from __future__ import annotations


class DeltabookError(Exception):
    """Base class of all errors of deltabook.

    `exit_status` is the exit status of a command that ends with this error.
    """

    exit_status = 2


class SettingsError(DeltabookError):
    """A setting or option is wrong, or the machine lacks Java or JARs. The message lists every problem."""


class InputError(DeltabookError):
    """An input is refused: none of its records is committed to a table."""

    exit_status = 3


class WarehouseError(DeltabookError):
    """The warehouse is missing, is damaged, or has another schema version."""


class BusyError(WarehouseError):
    """Another process is writing to the warehouse, so nothing was done. Try again later."""

    exit_status = 4


class GapError(DeltabookError):
    """A feed has a gap, and the setting `on_gap` is `raise`, so the run ends at the first gap."""


class OrderError(DeltabookError):
    """Events reached the kernel out of the feed's order, because of a bug or an edited table."""


class WorkError(DeltabookError):
    """A Spark worker failed on one file, chunk or symbol, because of a bug or an unforeseen input."""


class DeltabookWarning(UserWarning):
    """Base class of all warnings of deltabook.

    >>> import warnings
    >>> warnings.simplefilter("error", DeltabookWarning)  # doctest: +SKIP
    """


class FailedChunksWarning(DeltabookWarning):
    """Warning that a result has rows of chunks that failed a check.

    >>> import warnings
    >>> warnings.simplefilter("ignore", FailedChunksWarning)  # doctest: +SKIP
    """
