"""Record the hashes of the files that runs write, keep second copies, and replace damaged files."""
