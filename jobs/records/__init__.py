"""Record what runs write: hashes, second copies, file faults and file replacement."""
