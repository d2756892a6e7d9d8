"""Books of feeds whose ids prove nothing: vendor books support them, and messages can contradict them."""
