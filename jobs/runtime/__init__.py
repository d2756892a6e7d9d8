"""Settings, and the Spark session that is made from them."""
