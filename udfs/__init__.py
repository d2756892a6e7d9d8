"""Functions and numba kernels that read, sort, rebuild, compare and export market data.

They run in Spark's workers or without Spark. None of them creates a Spark session.
"""
