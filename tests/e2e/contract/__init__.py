"""The HTTP contract, as a stranger would check it who has only the design and one service."""
