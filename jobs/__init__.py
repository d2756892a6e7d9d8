"""The commands and the Python interface, with the Spark session and the warehouse that they use."""
