"""Time other libraries that read Crypto Lake files into memory. Usage: python peer_readers.py NAME FOLDER.

`lakeapi` can read only from the vendor's storage. The benchmark therefore calls the function that `lakeapi`
applies to a file after the download.
"""

import json
import sys
from pathlib import Path
from time import perf_counter


def with_pandas(files: list[Path]) -> int:
    import pandas as pd

    return sum(len(pd.read_parquet(file, partitioning=None)) for file in files)


def with_polars(files: list[Path]) -> int:
    import polars as pl

    return sum(pl.read_parquet(file, hive_partitioning=False).height for file in files)


def with_lakeapi(files: list[Path]) -> int:
    import lakeapi._read_parquet as reader
    import pyarrow.parquet as pq

    rows = 0
    for file in files:
        with file.open("rb") as stream:
            frame = reader._arrowtable2df(
                table=pq.ParquetFile(stream).read(),
                categories=None,
                safe=True,
                map_types=True,
                use_threads=True,
                dataset=True,
                path=str(file),
                path_root=str(file.parents[3]) + "/",
            )
        rows += len(frame.drop(columns=["dt"]))
    return rows


READERS = {"pandas": with_pandas, "polars": with_polars, "lakeapi": with_lakeapi}

if __name__ == "__main__":
    found = sorted(Path(sys.argv[2]).rglob("*.parquet"))
    started = perf_counter()
    count = READERS[sys.argv[1]](found)
    print(json.dumps({"rows": count, "seconds": perf_counter() - started}))
