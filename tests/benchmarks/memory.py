"""Memory while reading: the most that `deltabook ingest` holds for a file, and for one eight times as long.

python tests/benchmarks/memory.py FOLDER: files of 8 M and 64 M rows, 8 M an hour, are made in FOLDER once.
An hour keeps one worker busy, a longer file as many as there are cores: one core is measured too.
"""

import shutil
import sys
from pathlib import Path

from lake_data import lake_path, write_deltas
from measure import measure
from reading import DELTABOOK, MESSAGE_NANOSECONDS, ROWS, ROWS_PER_MESSAGE


def lake_file(folder: Path, rows: int) -> Path:
    """Make the file if it is not there."""
    path = lake_path(folder / f"{rows} rows", "book_delta_v2")
    if not path.exists():
        partial = path.with_suffix(".partial")
        shape = {"rows_per_message": ROWS_PER_MESSAGE, "message_nanoseconds": MESSAGE_NANOSECONDS}
        write_deltas(partial, rows, **shape)
        partial.rename(path)
    return path


def main(folder: Path) -> None:
    warehouse = folder / "warehouse"
    for cores in (1, 2):
        peaks = []
        for rows in (ROWS, 8 * ROWS):
            path = lake_file(folder, rows)
            shutil.rmtree(warehouse, ignore_errors=True)
            command = [DELTABOOK, "ingest", "crypto_lake", str(path), "--warehouse", str(warehouse)]
            measured = measure([*command, "--master", f"local[{cores}]"], memory=True)
            peaks.append(measured.peak_bytes)
            print(f"{rows:>12,} rows, local[{cores}]: peak {peaks[-1] >> 20:,} MiB, {measured.seconds:.0f} s")
        print(f"ratio {peaks[1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
