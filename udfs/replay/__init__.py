"""Stepping through recorded books and trades, by either clock."""
