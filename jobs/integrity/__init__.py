"""Integrity: what runs have written, found whole or named, and put back."""
