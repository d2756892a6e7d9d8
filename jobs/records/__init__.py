"""What runs record of every file that they write: hashes, seals and second copies."""
