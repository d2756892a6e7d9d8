"""Source `crypto_lake`: reads Parquet tables of Crypto Lake."""
