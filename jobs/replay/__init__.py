"""Replay of published books: step by step, in a terminal, and as a Gymnasium environment."""
