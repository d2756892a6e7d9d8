"""Hash the files that runs write, keep second copies of important files, and replace damaged files."""
