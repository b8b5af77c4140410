"""The edge and the only composition root."""
