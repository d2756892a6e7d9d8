"""Settings, and the Spark session that is started with them."""
