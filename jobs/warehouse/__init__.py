"""Write to a warehouse: hold the write lock, commit to Delta tables, publish runs, and run Spark tasks."""
