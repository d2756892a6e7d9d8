"""Queries: views and functions as SQL text, what a query may do, and their server."""
