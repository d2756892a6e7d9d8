"""Settings files that ship with the package."""
