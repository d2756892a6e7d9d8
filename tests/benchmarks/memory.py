"""Memory while reading: the most that `deltabook ingest` holds for a file, and for one eight times as long.

python tests/benchmarks/memory.py FOLDER: files of 8 M and 64 M rows, 8 M an hour, are made in FOLDER once.
An hour keeps one worker busy, a longer file as many as there are cores: one core is measured too.
"""

import shutil
import sys
from pathlib import Path

from lake_data import HOUR_ROWS, hours_file
from measure import measure
from reading import DELTABOOK


def main(folder: Path) -> None:
    warehouse = folder / "warehouse"
    for cores in (1, 2):
        peaks = []
        for hours in (1, 8):
            path = hours_file(folder / f"{hours} hours", hours)
            shutil.rmtree(warehouse, ignore_errors=True)
            command = [DELTABOOK, "ingest", "crypto_lake", str(path), "--warehouse", str(warehouse)]
            measured = measure([*command, "--master", f"local[{cores}]"], memory=True)
            peaks.append(measured.peak_bytes)
            print(f"{hours * HOUR_ROWS:>12,} rows, {cores} cores: peak {peaks[-1] >> 20:,} MiB")
        print(f"ratio {peaks[1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
