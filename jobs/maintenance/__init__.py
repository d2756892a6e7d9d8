"""Verify, restore and maintain a warehouse."""
