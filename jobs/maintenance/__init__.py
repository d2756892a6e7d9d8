"""The commands `verify`, `restore` and `maintain`, which check, repair and clean up a warehouse."""
