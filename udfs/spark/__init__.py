"""The functions that Spark applies to groups of rows, and how groups are packed into tasks."""
