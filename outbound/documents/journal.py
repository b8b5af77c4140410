"""A general journal: balanced double-entry postings, one row each."""

from __future__ import annotations

from outbound.documents.base import Document
from outbound.postings import ACCOUNTS, POSTINGS, postings, stream_of

DOCUMENT = Document(
    name="journal", columns=POSTINGS, rows=postings, stream=stream_of, options=ACCOUNTS
)
