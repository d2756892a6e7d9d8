"""Sources: one file each, a Spark Python Data Source that yields `records`.

A new source is a subclass of `base.FileSource` that names itself and implements `parse`.
"""
