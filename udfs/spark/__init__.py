"""Functions that Spark applies to groups of rows, and the packing of groups into Spark tasks."""
