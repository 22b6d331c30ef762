"""Where records are read from: JSONL and Parquet, on this disk or in a data set of the hub."""
