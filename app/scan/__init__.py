"""Millions of pictures: shards in, Parquet files out, each written once. Needs the extra `scan`."""
