"""Compare the files of a warehouse with the hashes that runs recorded, and repair damaged files."""
