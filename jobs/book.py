"""The command `book` for spark-submit."""

from deltabook.jobs.cli.program import main

if __name__ == "__main__":
    main("book")
