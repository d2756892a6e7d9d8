"""Measure the peak memory of jobs for one and for eight hours of 8 M level changes each, with 1 and 2 cores.

Usage: python memory.py FOLDER. The memory of the whole process tree counts: the driver's Python, the JVM and
the workers.
"""

import shutil
import sys
from pathlib import Path

from feeds import DELTABOOK
from lake_data import HOUR_ROWS, hours_file
from measure import measure
from report import tell


def main(folder: Path) -> None:
    warehouse, rows = folder / "warehouse", []
    for job in ("ingest", "run"):
        for cores in (1, 2):
            before = 0
            for hours in (1, 8):
                path = hours_file(folder / f"{hours} hours, seeded", hours, with_seed=True)
                shutil.rmtree(warehouse, ignore_errors=True)
                command = [str(DELTABOOK), job, "crypto_lake", str(path), "--warehouse", str(warehouse)]
                command += ["--master", f"local[{cores}]"] + (["--seed", "golden"] if job == "run" else [])
                measured = measure(command, memory=True)
                rows.append({
                    "job": job, "cores": cores, "level changes": hours * HOUR_ROWS,
                    "all, MiB": measured.peak_bytes >> 20, "Python, MiB": measured.peak_python_bytes >> 20,
                    "ratio": measured.peak_bytes / before if before else None,
                })  # fmt: skip
                before = measured.peak_bytes
    note = "An hour keeps one worker busy when it is read, more of them as many as there are cores."
    tell(folder, "memory", "Peak memory of a job's processes together", rows, (note,))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
