"""Every form a body of events may have, and the one form it leaves in."""

from ingest.decode.media import decode

__all__ = ["decode"]
