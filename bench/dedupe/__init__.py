"""Exact dedupe with what it retains on disk, beside Redis, SQLite and RocksDB."""
