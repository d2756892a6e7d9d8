"""File access: folders and object stores, Parquet and Arrow files, raw files, and errors of workers."""
