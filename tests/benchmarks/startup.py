"""Measure how long commands take from a cold start. Usage: python startup.py FOLDER.

Each command runs in its own process. The best time of three runs counts.
"""

import shutil
import sys
from pathlib import Path

from feeds import DELTABOOK
from measure import measure
from report import tell

from deltabook.jobs.tools.demo import write_captures

ROUNDS = 3


def main(folder: Path) -> None:
    warehouse, captures = folder / "warehouse small", folder / "small captures"
    if not captures.exists():
        write_captures(captures, messages=300)
    run = [str(DELTABOOK), "run", "binance", str(captures), "--warehouse", str(warehouse)]
    sql = [str(DELTABOOK), "sql", "--warehouse", str(warehouse)]
    python = [sys.executable, "-c"]
    session = (
        "from deltabook.jobs.runtime.session import spark_session; "
        "from deltabook.jobs.runtime.settings import load_settings; "
        "spark = spark_session(load_settings(None, {}))"
    )
    commands = {
        "python -c pass": [*python, "pass"],
        "deltabook --version": [str(DELTABOOK), "--version"],
        "a Spark session": [*python, session],
        "a session and a first job": [*python, session + "; spark.range(10).count()"],
        "deltabook run, 600 messages": run,
        "the same again: nothing to do": run,
        "deltabook sql 'SELECT 1'": [*sql, "SELECT 1"],
        "deltabook sql, the last row of a symbol": [
            *sql,
            "SELECT * FROM book ORDER BY order_time DESC LIMIT 1",
        ],
    }
    rows = []
    for name, command in commands.items():
        seconds = []
        for _ in range(ROUNDS):
            if name.startswith("deltabook run"):
                shutil.rmtree(warehouse, ignore_errors=True)
            seconds.append(measure(command).seconds)
        rows.append({"command": name, "seconds": min(seconds)})
    tell(folder, "startup", f"Cold starts, best of {ROUNDS}", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
