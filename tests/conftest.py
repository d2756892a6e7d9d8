"""Provide fixtures for all tests: one Spark session, real captures, and the command line as a function.

The Spark session starts when a test first needs it.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import pytest
from hypothesis import Phase, settings
from places import REAL_DATA
from typer.testing import CliRunner

# Of `make test-mutation`: that a case fails is all it asks, and the smallest that does takes up to a minute.
settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate])


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real captures are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="module")
def narrow_bitmaps() -> Iterator[None]:
    """As plain Python a bitmap of prices far apart takes seconds: there they are sorted."""
    from deltabook.udfs.orderbook import price_ranks

    with pytest.MonkeyPatch.context() as patch:
        if numba.config.DISABLE_JIT:
            patch.setattr(price_ranks, "MOST_TICKS", 1 << 12)
        yield


@pytest.fixture(scope="session")
def spark():
    from deltabook.jobs.runtime.session import spark_session
    from deltabook.jobs.runtime.settings import load_settings

    os.environ.setdefault("CANARY_OF_QUERIES", "only for the owner")  # see `hostile_queries`
    # Two cores, and a heap that leaves room for the workers of a small machine.
    session = spark_session(load_settings(None, {"master": "local[2]", "driver_memory": "3g"}))
    yield session
    session.stop()


@dataclass(frozen=True)
class Outcome:
    exit_status: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads(self.stdout.splitlines()[-1])

    @property
    def said(self) -> str:
        return " ".join(self.stderr.split())


def invoke(*arguments: object) -> Outcome:
    """Run the command line in this process."""
    from deltabook.jobs.cli.commands import app

    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def deltabook(spark):
    """The command line in the shared session."""
    return invoke
