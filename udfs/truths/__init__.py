"""Books of feeds whose ids prove nothing: they rest on a vendor's books, and on what the messages contradict."""
