"""Source `binance`: captures of Binance streams and its archives of depth updates."""
