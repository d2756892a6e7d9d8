"""Source `binance`: reads captures of Binance streams, and T_DEPTH tables."""
