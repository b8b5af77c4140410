"""The schema's history, run by :func:`storage.sql.database.open_database`."""
