"""Replaying published books: a replayer, a terminal player, a Gymnasium environment."""
