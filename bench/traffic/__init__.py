"""The traffic of a whole business, for ``bench/locustfile.py``: users, what is kept, the report."""
