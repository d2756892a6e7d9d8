"""Records of the files that runs write: hashes, second copies, faults of files, and their replacement."""
