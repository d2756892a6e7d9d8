"""Errors of the disk and of Delta, told by what they mean for a warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake.exceptions import CommitFailedError, DeltaError
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.process.error_causes import OWN_ERRORS
from deltabook.schemas.errors import WarehouseError
from deltabook.udfs.storage.object_store import is_of_store, is_remote
from deltabook.udfs.storage.worker_errors import disk_problem

_WORDS = 300
_STAYS = "nothing of this run is published, what was before stays readable"
SPARKS_OWN = "Spark's folder for temporary files (SPARK_LOCAL_DIRS, else /tmp)"


@contextmanager
def commit(action: str, table: Path) -> Iterator[None]:
    """Tell of a commit that fails because somebody else has changed the table; crash points are around it.

    Parameters
    ----------
    action : str
        What is done, such as `add`.
    table : Path
        Folder of the table.

    Raises
    ------
    WarehouseError
        If Delta has refused the commit.
    """
    with crash_points(action, table.name):
        try:
            yield
        except CommitFailedError as error:
            reason = " ".join(str(error).split())
            raise WarehouseError(
                f"table {table} was changed by another program in mid-run ({reason}): nothing of this run is "
                "published, and the next run takes that change back. See that deltabook alone writes there, "
                "and run again"
            ) from error


@contextmanager
def disk_named(warehouse: Path) -> Iterator[None]:
    """Turn an error of the disk, or of an object store, into one that names it and the remedy.

    Parameters
    ----------
    warehouse : Path
        What is written within.

    Raises
    ------
    WarehouseError
        If the disk is full, or cannot be written, or an object store fails.
    """
    try:
        yield
    except (PySparkException, Py4JError) as error:
        # Workers tell of the warehouse themselves; what the JVM writes are its own files.
        told = "" if OWN_ERRORS in str(error) else disk_problem(error, SPARKS_OWN)
        if not told:
            raise
        raise WarehouseError(told) from error
    except Exception as error:
        if not isinstance(error, OSError | DeltaError) and not is_of_store(error):
            raise
        told = disk_problem(error, str(warehouse))
        if not told and is_remote(warehouse):
            words = " ".join(str(error).split())[:_WORDS]
            told = f"{warehouse}: {words}: {_STAYS}. See that the object store can be reached, and run again"
        if not told:
            raise
        raise WarehouseError(told) from error
