"""Live books: books that are rebuilt while a recorder still writes the feed's files.

Spark reads the new lines of the growing files in micro-batches. `stream_source` reads the lines, and
`live_books` continues each book with the messages of the micro-batch.
"""
