"""Thrift's compact protocol, as much of it as a Parquet footer needs: bytes <-> structs as field number -> value.

Knows no field's name. A value keeps its wire type beside it, so that what is read is written back to the byte. Reads
what Arrow has just written, and trusts it.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = (_I16, _I32, _I64)
_FIXED = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8}
"""Bytes of what is kept as it is; a boolean has one in a list only."""
Struct = dict[int, tuple[int, Any]]
"""Field number -> (wire type, value); a list is (wire type of its items, items)."""


def decode(content: bytes) -> Struct:
    """The struct that `content` begins with."""
    return _struct(BytesIO(content))


def encode(struct: Struct) -> bytes:
    """The other way round."""
    out = bytearray()
    _put_struct(out, struct)
    return bytes(out)


def _struct(stream: BytesIO) -> Struct:
    fields: Struct = {}
    number = 0
    while head := stream.read(1)[0]:
        kind, step = head & 15, head >> 4
        number = number + step if step else _zigzag(stream)
        fields[number] = kind, None if kind in (_TRUE, _FALSE) else _value(stream, kind)
    return fields


def _value(stream: BytesIO, kind: int) -> Any:
    if kind in _INTEGERS:
        return _zigzag(stream)
    if kind in _FIXED:
        return stream.read(_FIXED[kind])
    if kind == _BINARY:
        return stream.read(_varint(stream))
    if kind == _STRUCT:
        return _struct(stream)
    head = stream.read(1)[0]
    size, inner = head >> 4, head & 15
    return inner, [_value(stream, inner) for _ in range(_varint(stream) if size == 15 else size)]


def _varint(stream: BytesIO) -> int:
    value = shift = 0
    while (byte := stream.read(1)[0]) > 127:
        value |= (byte & 127) << shift
        shift += 7
    return value | byte << shift


def _zigzag(stream: BytesIO) -> int:
    value = _varint(stream)
    return (value >> 1) ^ -(value & 1)


def _put_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number, (kind, value) in struct.items():
        if 0 < number - last < 16:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            _put_varint(out, number << 1)
        last = number
        if value is not None:
            _put_value(out, kind, value)
    out.append(0)


def _put_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _put_varint(out, (value << 1) ^ (value >> 63))
    elif kind in _FIXED:
        out += value
    elif kind == _BINARY:
        _put_varint(out, len(value))
        out += value
    elif kind == _STRUCT:
        _put_struct(out, value)
    else:
        inner, items = value
        out.append(min(len(items), 15) << 4 | inner)
        if len(items) > 14:
            _put_varint(out, len(items))
        for item in items:
            _put_value(out, inner, item)


def _put_varint(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
