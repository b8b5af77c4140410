"""Adapters: everything that touches a disk, a database or a server."""
