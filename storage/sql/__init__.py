"""The catalog, the node registry, keys and settled facts about the deployment, in SQL.

SQLite and PostgreSQL share every line of this package; the differences are in ``database.py``
(how a transaction begins) and in the first migration (how a trigger is spelled).
"""
