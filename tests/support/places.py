"""Where the project, its tests and the real captures are."""

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
PROJECT = TESTS.parent
REAL_DATA = PROJECT.parent / "shared" / "data"
