"""How large an Arrow body is going to be, read from what it declares, before it is."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.batch import IngestLimits, TooManyEvents, UnreadableBody
from ingest.jsontext import DEPTH_MAX

_NODE_ROWS_MAX = 2**26
_RECORD_BATCH, _DICTIONARY = "record batch", "dictionary"
_PLAIN = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_decimal128,
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_null,
)


def check_declared(content: bytes, limits: IngestLimits) -> None:
    """Refuse a stream whose batches would be too many rows or inflate too far.

    Arrow compresses buffer by buffer, each with its inflated size in front.

    Raises:
        TooManyEvents, UnreadableBody: see there.
        pyarrow.ArrowException: it is not a stream.
    """
    rows, inflated_bytes = 0, 0
    for message in _messages(content):
        if message.type not in {_RECORD_BATCH, _DICTIONARY}:
            continue
        try:
            count, size_bytes = _declared(message)
        except (struct.error, IndexError, OverflowError):
            raise UnreadableBody("an Arrow message is damaged") from None
        rows += count if message.type == _RECORD_BATCH else 0
        inflated_bytes += size_bytes
        if rows > limits.events_max:
            raise TooManyEvents(f"more than {limits.events_max} events in one body")
        if not 0 <= inflated_bytes <= limits.inflated_bytes_max:
            raise UnreadableBody(f"the body inflates beyond {limits.inflated_bytes_max} bytes")


def check_text(table: pa.Table, limits: IngestLimits) -> None:
    """Refuse columns of unknown types, and texts that repeat into more than a body may inflate to.

    Dictionaries and views let a few bytes stand for many.

    Raises:
        UnreadableBody: see above.
    """
    total = 0
    for field, column in zip(table.schema, table.columns, strict=True):
        for chunk in column.chunks:
            total += _text_bytes(chunk, field.name, depth=1)
    if total > limits.inflated_bytes_max:
        raise UnreadableBody(f"the body inflates beyond {limits.inflated_bytes_max} bytes")


def check_names(fields: Iterable[pa.Field], *, depth: int = 1) -> None:
    """Refuse names and metadata that are not UTF-8: Arrow keeps them, and Polars panics.

    Raises:
        UnreadableBody, UnicodeDecodeError: see above.
    """
    if depth > DEPTH_MAX:
        raise UnreadableBody(f"columns are nested deeper than {DEPTH_MAX}")
    for field in fields:
        for text in (field.name.encode(), *chain.from_iterable((field.metadata or {}).items())):
            text.decode()
        kind = field.type
        check_names((kind.field(place) for place in range(kind.num_fields)), depth=depth + 1)


def _messages(content: bytes) -> Iterator[pa.Message]:
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(content))
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        yield message


def _declared(message: pa.Message) -> tuple[int, int]:
    """Rows and inflated bytes of a batch, by its flatbuffer (Message.fbs of the Arrow format)."""
    table = _Flat(message.metadata.to_pybytes())
    header = table.child(table.root, 2)
    if message.type == _DICTIONARY:
        header = table.child(header, 1)
    for length, _ in table.pairs(header, 1):
        if not 0 <= length <= _NODE_ROWS_MAX:
            raise UnreadableBody("an Arrow array declares too many rows")
    rows = table.int64(header, 0)
    body = message.body.to_pybytes() if message.body is not None else b""
    sizes = [length for _, length in table.pairs(header, 2)]
    if table.place(header, 3):  # compressed
        sizes = [
            max(length, struct.unpack_from("<q", body, offset)[0])
            for offset, length in table.pairs(header, 2)
            if length > 0
        ]
    return rows, sum(sizes)


class _Flat:
    """Just enough of FlatBuffers to read a few fields of a table."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.root = self._unpack("<I", 0)

    def place(self, table: int, slot: int) -> int:
        """Where a table's field is, 0 if it is absent."""
        vtable = table - self._unpack("<i", table)
        if 4 + 2 * slot >= self._unpack("<H", vtable):
            return 0
        offset = self._unpack("<H", vtable + 4 + 2 * slot)
        return table + offset if offset else 0

    def child(self, table: int, slot: int) -> int:
        """The table a field refers to."""
        place = self.place(table, slot)
        if not place:
            raise IndexError(slot)
        return place + self._unpack("<I", place)

    def int64(self, table: int, slot: int) -> int:
        """An integer field, 0 by default."""
        place = self.place(table, slot)
        return self._unpack("<q", place) if place else 0

    def pairs(self, table: int, slot: int) -> list[tuple[int, int]]:
        """A vector of structs of two integers."""
        if not self.place(table, slot):
            return []
        vector = self.child(table, slot)
        count = self._unpack("<I", vector)
        if vector + 4 + 16 * count > len(self._content):
            raise IndexError(count)
        flat = struct.unpack_from(f"<{2 * count}q", self._content, vector + 4)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _unpack(self, form: str, place: int) -> int:
        if place < 0:
            raise IndexError(place)
        value: int = struct.unpack_from(form, self._content, place)[0]
        return value


def _text_bytes(array: pa.Array, name: str, *, depth: int) -> int:
    """How many bytes of text ``array`` holds once every value stands for itself."""
    kind = array.type
    if depth > DEPTH_MAX:
        raise UnreadableBody(f"column {name} is nested deeper than {DEPTH_MAX}")
    if any(test(kind) for test in _PLAIN):
        return 0
    if _is_text(kind):
        return pc.sum(pc.binary_length(array)).as_py() or 0
    if pa.types.is_string_view(kind):
        return _view_bytes(array)
    if pa.types.is_dictionary(kind) and _is_text(kind.value_type):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64()).take(array.indices)
        return pc.sum(lengths).as_py() or 0
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        if len(set(names)) != len(names):
            raise UnreadableBody(f"two fields of column {name} have the same name")
        return sum(_text_bytes(part, name, depth=depth + 1) for part in array.flatten())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _text_bytes(array.flatten(), name, depth=depth + 1)
    raise UnreadableBody(f"column {name} has a type that is not read: {kind}")


def _view_bytes(array: pa.Array) -> int:
    """The same for views, each 16 bytes with its length in front (there is no kernel for it)."""
    views = array.buffers()[1]
    if views is None or not len(array):
        return 0
    lengths = np.frombuffer(views, np.int32)[::4][array.offset : array.offset + len(array)]
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return int(lengths[valid].sum(dtype=np.int64))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
