"""Converts prices and sizes exactly between text, scaled integers, codes and decimals, and to doubles."""
