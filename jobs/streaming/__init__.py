"""The job `live`: rebuild books from capture files that are still growing."""
