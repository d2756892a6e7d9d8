"""Replay published books: step by step from Python, in a terminal, or as a Gymnasium environment."""
