"""Check that the files of a warehouse are as runs wrote them, and repair them."""
