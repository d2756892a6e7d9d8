"""Turn errors of the disk, of object stores and of Delta into warehouse errors that name the remedy."""

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
from deltabook.udfs.storage.locations import is_remote
from deltabook.udfs.storage.object_store import is_store_error
from deltabook.udfs.storage.worker_errors import describe_disk_problem

_MAX_CAUSE_LENGTH = 300
_NOTHING_PUBLISHED = "nothing of this run is published, and earlier runs stay readable"
SPARK_TEMP_FOLDER = "Spark's folder for temporary files (SPARK_LOCAL_DIRS, else /tmp)"


@contextmanager
def guard_commit(action: str, table: Path) -> Iterator[None]:
    """Raise a WarehouseError if Delta refuses the commit in the block.

    Delta refuses a commit if another program has changed the table during the run. Tests can end the process
    at the crash points before and after the block.

    Parameters
    ----------
    action : str
        Kind of the commit, such as `add`. It is part of the names of the crash points.
    table : Path
        Folder of the table.

    Raises
    ------
    WarehouseError
        If Delta refuses the commit.
    """
    with crash_points(action, table.name):
        try:
            yield
        except CommitFailedError as error:
            reason = " ".join(str(error).split())
            raise WarehouseError(
                f"table {table} was changed by another program during this run ({reason}): nothing of this "
                "run is published, and the next run reverts that change. Make sure that only deltabook "
                "writes there, and run again"
            ) from error


@contextmanager
def name_disk_errors(warehouse: Path) -> Iterator[None]:
    """Raise a WarehouseError with the place and the remedy if the disk or an object store fails in the block.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables that the block writes.

    Raises
    ------
    WarehouseError
        If the disk is full or not writable, or an object store fails.
    """
    try:
        yield
    except (PySparkException, Py4JError) as error:
        # Workers report disk errors of the warehouse as deltabook's own errors, which pass through. The JVM
        # itself writes only temporary files, so its disk errors are about Spark's temporary folder.
        message = "" if OWN_ERRORS in str(error) else describe_disk_problem(error, SPARK_TEMP_FOLDER)
        if not message:
            raise
        raise WarehouseError(message) from error
    except Exception as error:
        if not isinstance(error, OSError | DeltaError) and not is_store_error(error):
            raise
        message = describe_disk_problem(error, str(warehouse))
        if not message and is_remote(warehouse):
            cause = " ".join(str(error).split())[:_MAX_CAUSE_LENGTH]
            message = (
                f"{warehouse}: {cause}: {_NOTHING_PUBLISHED}. Check that the object store is reachable, and "
                "run again"
            )
        if not message:
            raise
        raise WarehouseError(message) from error
