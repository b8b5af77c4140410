"""The ledger's reader in a process of its own, and the worker's end of it."""
