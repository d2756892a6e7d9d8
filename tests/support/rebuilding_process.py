"""A separate process that rebuilds chunks without Spark, from a warehouse and a file of references.

It prints its peak memory in KiB, and the number of data files that it wrote.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pandas as pd

from deltabook.schemas.names import RowPolicy
from deltabook.udfs.spark.rebuild_groups import rebuild_groups


def main(warehouse: str, references: str) -> None:
    hours = pd.DataFrame(json.loads(Path(references).read_text()))
    rebuild = rebuild_groups(warehouse, RowPolicy(checkpoint_every=100_000))
    (rebuilt,) = rebuild(("BINANCE", "BTC-USDT"), iter([hours]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([peak, int((rebuilt["table"] == "books").sum())]))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
