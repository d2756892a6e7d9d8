"""The job `run`: ingest, reconstruct and validate in one command, for spark-submit."""

from __future__ import annotations

from deltabook.jobs.cli.program import main

if __name__ == "__main__":
    main("run")
