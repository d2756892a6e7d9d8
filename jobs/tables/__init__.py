"""Read published tables from their logs and data files, without Spark."""
