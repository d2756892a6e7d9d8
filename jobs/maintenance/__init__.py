"""The commands `verify`, `restore` and `maintain`: check, repair and clean up a warehouse."""
