"""The command `live`: rebuilds books from capture files that are still growing."""
