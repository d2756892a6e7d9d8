"""File formats in which books, events and trades leave a warehouse."""
