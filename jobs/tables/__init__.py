"""Read the tables of a warehouse from their Delta logs and data files, without Spark."""
