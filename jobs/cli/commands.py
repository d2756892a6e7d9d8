"""The application with all commands. Importing a module of commands registers its commands."""

from deltabook.jobs.cli import (
    export_commands,
    live_commands,
    maintenance_commands,
    query_commands,
    run_commands,
    tool_commands,
)
from deltabook.jobs.cli.app import app

__all__ = [
    "app",
    "export_commands",
    "live_commands",
    "maintenance_commands",
    "query_commands",
    "run_commands",
    "tool_commands",
]
