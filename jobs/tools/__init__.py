"""Demo, benchmarks, set-up and audit."""
