"""The command line: every job with the same options, exit statuses and messages."""

from __future__ import annotations

import sys

from deltabook.jobs.cli import asking, keeping, living, taking, trying, writing  # noqa: F401  each adds its commands
from deltabook.jobs.cli.app import app


def main(*arguments: str) -> None:
    """Run the command line; with arguments, as if they stood before those of the process.

    Parameters
    ----------
    *arguments : str
        Such as the name of the command, for `spark-submit jobs/<name>.py`.
    """
    app(args=[*arguments, *sys.argv[1:]])
