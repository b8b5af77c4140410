"""Which (source, id) this node has accepted: exact, on disk, and derived from the log."""
