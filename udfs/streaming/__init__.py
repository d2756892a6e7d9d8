"""Live books: books that are rebuilt while a recorder still writes the feed's files.

Spark reads the new lines of the growing files in micro-batches. `stream_source` reads lines, and `live_books`
continues one book with one micro-batch.
"""
