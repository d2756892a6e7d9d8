"""The command `export`: published tables as plain files."""
