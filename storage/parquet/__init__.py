"""Facts as Parquet files, one per sealed segment and spec."""
