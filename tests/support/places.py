"""Paths of the project, its tests and the real captures."""

import os
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
PROJECT = TESTS.parent
REAL_DATA = PROJECT.parent / "shared" / "data"


def child_environment() -> dict[str, str]:
    """Variables with which a process started by a test imports the same modules as the test."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
