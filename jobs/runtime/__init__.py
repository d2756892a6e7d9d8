"""Load the settings, start the Spark session, and report the errors of Spark, Delta and the disk."""
