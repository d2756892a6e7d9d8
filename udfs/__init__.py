"""What happens to the data: pure functions and numba kernels, no Spark session, no I/O of their own."""
