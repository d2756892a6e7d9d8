"""Time `deltabook ingest` in a session that has ingested three times before.

Usage: python warm.py RAW WAREHOUSE.
"""

import json
import shutil
import sys
from pathlib import Path

from rich.console import Console

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.pipeline.ingest import ingest
from deltabook.jobs.runtime.session import spark_session
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.warehouse.warehouse import Warehouse

if __name__ == "__main__":
    raw, root = Path(sys.argv[1]), Path(sys.argv[2])
    settings = load_settings(None, {"warehouse": root})
    spark = spark_session(settings)
    for _ in range(4):
        shutil.rmtree(root, ignore_errors=True)
        warehouse = Warehouse(spark, settings)
        with warehouse.writing("ingest") as run:
            progress = Progress(spark, Console(file=sys.stderr))
            summary = ingest(warehouse, run, "crypto_lake", [raw], progress)
    print(json.dumps({"rows": summary["level_changes"], "seconds": summary["ingest_seconds"]}))
