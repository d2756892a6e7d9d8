"""Write to a warehouse: locks, Delta commits, publication and Spark tasks."""
