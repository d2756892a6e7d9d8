"""Functions that Spark applies to groups of rows, and code that packs groups into Spark tasks."""
