"""Comparison of rebuilt books with golden rows: exact matches, distribution tests, stylized facts."""
