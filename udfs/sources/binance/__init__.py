"""Source `binance`: captures of Binance streams, and T_DEPTH tables."""
