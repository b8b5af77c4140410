"""What lines become on the way out: one document a file. A module with a ``DOCUMENT`` is one."""
