"""Tools beside the jobs: demo, benchmarks, the last step of an install, and the audit of packages."""
