"""What reads the log: events and facts on their way into ClickHouse and Parquet."""
