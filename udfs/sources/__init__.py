"""Sources, which read the files of venues and data vendors.

Each source is a Spark Python data source. It yields rows in the schema of `records`
(`schemas.frames.RECORDS`). To add a source, see `common.file_source`.
"""
