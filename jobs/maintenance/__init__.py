"""The commands that check, restore and tidy a warehouse."""
