"""Raw loads and stores for compiled code, little-endian, at any alignment. Nothing is checked."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic


def _may_keep() -> bool:
    """Whether compiled code can be kept on disk: a read-only installation has to do without."""
    try:
        njit(cache=True)(_nothing)
    except RuntimeError:
        return False
    return True


def _nothing() -> None:
    """Stand in for a kernel."""


_KEPT = _may_keep()

compiled = njit(cache=_KEPT, nogil=True)
"""Compile a kernel: kept on disk between processes, and other threads run beside it."""

inlined = njit(cache=_KEPT, nogil=True, inline="always")
"""For the smallest ones."""


def _load(kind: Any, bits: int) -> Any:
    @intrinsic
    def load(_: Any, address: Any) -> Any:  # noqa: ARG001 - numba looks at the parameter
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            return builder.load(pointer, align=1)

        return kind(types.int64), generate

    return load


def _store(kind: Any, bits: int) -> Any:
    @intrinsic
    def store(_: Any, address: Any, value: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            builder.store(args[1], pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, kind), generate

    return store


load_u8 = _load(types.uint8, 8)
load_u32 = _load(types.uint32, 32)
load_u64 = _load(types.uint64, 64)
load_i32 = _load(types.int32, 32)
load_i64 = _load(types.int64, 64)
store_u8 = _store(types.uint8, 8)
store_u32 = _store(types.uint32, 32)
store_u64 = _store(types.uint64, 64)
store_i64 = _store(types.int64, 64)
