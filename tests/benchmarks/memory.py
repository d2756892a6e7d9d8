"""Memory while reading: the most that `deltabook ingest` holds for a file, and for one eight times as long.

python tests/benchmarks/memory.py FOLDER: files of 8 M and 64 M rows, 8 M an hour, are made in FOLDER once.
"""

import shutil
import sys
from pathlib import Path

from lake_data import lake_path, write_deltas
from measure import measure
from reading import DELTABOOK, MESSAGE_NANOSECONDS, ROWS, ROWS_PER_MESSAGE


def main(folder: Path) -> None:
    peaks = []
    for rows in (ROWS, 8 * ROWS):
        path = lake_path(folder / f"{rows} rows", "book_delta_v2")
        if not path.exists():
            partial = path.with_suffix(".partial")
            shape = {"rows_per_message": ROWS_PER_MESSAGE, "message_nanoseconds": MESSAGE_NANOSECONDS}
            write_deltas(partial, rows, **shape)
            partial.rename(path)
        warehouse = folder / "warehouse"
        shutil.rmtree(warehouse, ignore_errors=True)
        measured = measure(
            [DELTABOOK, "ingest", "crypto_lake", str(path), "--warehouse", str(warehouse)], memory=True
        )
        peaks.append(measured.peak_bytes)
        print(f"{rows:>12,} rows: peak {measured.peak_bytes / 2**20:,.0f} MiB, {measured.seconds:.0f} s")
    print(f"ratio {peaks[1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
