"""Reference semantics of the ports, in memory."""
