"""Commands that show a single thing: a book, a raw record, the status, the sources, a capacity estimate."""
