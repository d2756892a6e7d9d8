"""Compares rebuilt books with golden rows, by exact matches, distribution tests and stylized facts.

A golden row is an independent truth about a book, from the exchange or from a vendor.
"""
