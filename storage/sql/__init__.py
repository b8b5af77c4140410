"""Catalog, nodes and keys in SQL (SQLite or PostgreSQL)."""
