"""Prices and sizes as exact integers and decimals."""
