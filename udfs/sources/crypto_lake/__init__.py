"""Source `crypto_lake`: Parquet tables of Crypto Lake."""
