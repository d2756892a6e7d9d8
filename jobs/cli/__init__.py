"""The command line: every job with the same options, exit statuses and messages."""

from deltabook.jobs.cli import asking, keeping, living, taking, trying, writing  # noqa: F401  each adds its commands
from deltabook.jobs.cli.app import app as app
from deltabook.jobs.program import main as main
