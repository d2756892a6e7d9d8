"""Rebuilt books against golden rows: exact matches, distribution tests, stylized facts."""
