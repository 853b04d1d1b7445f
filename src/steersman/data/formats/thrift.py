"""Thrift's compact protocol, as much of it as a Parquet footer needs: bytes <-> structs as field number -> value.

Knows no field's name. A value keeps its wire type beside it, so that what is read is written back to the byte.
"""

from __future__ import annotations

from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = (_I16, _I32, _I64)
_DEEP = 16
Struct = dict[int, tuple[int, Any]]
"""Field number -> (wire type, value); a list is (wire type of its items, items)."""


def decode(content: bytes) -> Struct:
    """The struct that `content` begins with.

    Raises:
        ValueError: no such struct: cut off, an unknown type, nested deeper than a footer is.
    """
    try:
        return _struct(content, 0, 0)[0]
    except IndexError:
        raise ValueError("a struct that is cut off") from None


def encode(struct: Struct) -> bytes:
    """The other way round."""
    out = bytearray()
    _put_struct(out, struct)
    return bytes(out)


def _struct(content: bytes, at: int, depth: int) -> tuple[Struct, int]:
    if depth > _DEEP:
        raise ValueError("structs nested too deeply")
    fields: Struct = {}
    number = 0
    while head := content[at]:
        at += 1
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(content, at)
        if kind in (_TRUE, _FALSE):
            fields[number] = (kind, None)
        else:
            value, at = _value(content, at, kind, depth)
            fields[number] = (kind, value)
    return fields, at + 1


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        return _zigzag(content, at)
    if kind in (_TRUE, _FALSE, _BYTE):
        return content[at], at + 1
    if kind == _DOUBLE:
        return _bytes(content, at, 8)
    if kind == _BINARY:
        size, at = _varint(content, at)
        return _bytes(content, at, size)
    if kind == _STRUCT:
        return _struct(content, at, depth + 1)
    if kind in (_LIST, _SET):
        head, at = content[at], at + 1
        size, inner = head >> 4, head & 15
        if size == 15:
            size, at = _varint(content, at)
        if size > len(content) - at:
            raise ValueError("a list longer than what it is in")
        items = []
        for _ in range(size):
            item, at = _value(content, at, inner, depth + 1)
            items.append(item)
        return (inner, items), at
    raise ValueError(f"wire type {kind}")


def _bytes(content: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(content):
        raise IndexError
    return bytes(content[at : at + size]), at + size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _zigzag(content: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return (value >> 1) ^ -(value & 1), at


def _put_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number, (kind, value) in struct.items():
        if 0 < number - last < 16:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            _put_varint(out, number << 1)
        last = number
        if kind not in (_TRUE, _FALSE):
            _put_value(out, kind, value)
    out.append(0)


def _put_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _put_varint(out, (value << 1) ^ (value >> 63))
    elif kind in (_TRUE, _FALSE, _BYTE):
        out.append(value)
    elif kind == _DOUBLE:
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
