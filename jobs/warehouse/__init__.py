"""Write to a warehouse: hold its lock, commit to Delta tables, publish runs, and run Spark tasks."""
