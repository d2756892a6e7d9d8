"""Parsers of CSV tables: text to columns, rows to messages."""
