"""What is run: the jobs, the Spark session, the warehouse and the command line."""
