"""Sources: readers of the venues' and vendors' files, each a Spark Python data source that yields `records`.

To add a source, see `common.file_source`.
"""
