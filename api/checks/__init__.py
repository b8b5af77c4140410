"""What ``verify`` compares, one module a check."""
