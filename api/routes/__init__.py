"""FastAPI routers of the worker."""
