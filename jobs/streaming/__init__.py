"""The command `live`: books from captures that are still growing."""
