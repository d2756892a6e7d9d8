"""Files: object stores, Parquet and Arrow, raw files, and the errors that workers report."""
