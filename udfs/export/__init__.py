"""File formats in which books, features, events and trades are exported."""
