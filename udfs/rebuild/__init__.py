"""The rebuild of one symbol: its events in order become rows of books, checkpoints, gaps and coverage."""
