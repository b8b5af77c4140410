"""`make demo`: a generated month of usage becomes a bill, over HTTP, on the real service."""
