"""The report: what was proven, as one HTML page."""
