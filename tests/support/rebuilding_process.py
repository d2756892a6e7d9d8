"""A process of its own that rebuilds hours without Spark, of a warehouse and a file of references.

Prints how much memory it took at most, in KiB, and how many data files it wrote.
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
