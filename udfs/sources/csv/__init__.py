"""Parsers of CSV tables: they turn text into columns, and rows into messages."""
