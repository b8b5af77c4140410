"""Rating: cold from facts, warm from cells, and pricing alone."""
