"""The command line: every job with the same options, exit statuses and messages."""

from deltabook.jobs.cli import export_commands as taking
from deltabook.jobs.cli import live_commands as living
from deltabook.jobs.cli import maintenance_commands as keeping
from deltabook.jobs.cli import query_commands as asking
from deltabook.jobs.cli import run_commands as writing
from deltabook.jobs.cli import tool_commands as trying
from deltabook.jobs.cli.app import app as app
from deltabook.jobs.cli.program import main as main
