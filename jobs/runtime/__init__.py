"""Settings, the Spark session, and what the session prints or raises when something fails."""
