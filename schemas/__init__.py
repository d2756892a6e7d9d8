"""Definitions of the data: tables, names, sentinels, feed rules and errors.

This package imports none of the project's other folders.
"""
