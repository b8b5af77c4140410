"""How rows become bytes: one format a file. A module with a ``FORMAT`` is one."""
