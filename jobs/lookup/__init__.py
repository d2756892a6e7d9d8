"""Commands that show one thing: a book, a raw record, the status, the sources, a capacity estimate."""
