"""Published tables, read from their logs and files without Spark."""
