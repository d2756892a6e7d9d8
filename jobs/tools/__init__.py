"""Tools beside the jobs: run the demo or the benchmarks, finish an install, and audit the packages."""
