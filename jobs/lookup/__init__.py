"""Commands that show a book, a raw record, the status of a warehouse, the sources or a capacity estimate."""
