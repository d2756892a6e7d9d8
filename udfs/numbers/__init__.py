"""Exact conversion of prices and sizes: text, scaled integers, codes, decimals and doubles."""
