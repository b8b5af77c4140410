"""Ingest beside the sink: the gateway alone, then with its readers keeping up."""
