"""The hot paths: plain ASGI."""
