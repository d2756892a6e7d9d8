"""Compare the files of a warehouse with the hashes that runs have recorded, and repair damaged files."""
