"""The command `export`: writes published tables as plain files."""
