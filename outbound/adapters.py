"""The documents and formats there are."""

from __future__ import annotations

from outbound import documents, formats
from outbound.documents.base import Document
from outbound.formats.base import Format
from outbound.plugins import found_in

DOCUMENTS = found_in(documents, "DOCUMENT", Document)
FORMATS = found_in(formats, "FORMAT", Format)
