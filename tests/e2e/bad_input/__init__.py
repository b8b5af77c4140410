"""Hostile input: a clear problem, never a 500, nothing partly kept."""
