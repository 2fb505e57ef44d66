"""Damaged and hostile files: what a crash, an editor, another program or an attacker may leave in place of a good one.

`damaged(content)` draws bytes made from a good file; `reshaped(value)` draws a JSON value that differs from a good one in
one place. `clear_refusal` is what a reader owes its caller.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

DEEP = 20_000
SPLINTERS = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\xe2\x80\xa8",
    b'"\\ud800"',
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b'{"a": 1, "a": 2}',
    b"null",
    b"&a [*a]",
    b"!!python/object/apply:os.system [true]",
    b"\t",
)
ODD_VALUES = (
    None,
    True,
    False,
    0,
    -1,
    10**400,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\x00",
    "../../x",
    "L0H1",
    "L99H99",
    "\ud800",
    "x" * 5000,
    [],
    [[]],
    ["a", 1],
    {},
    {"array": "result"},
    {"array": []},
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content cut off, with a byte changed, with a part taken out or doubled, or with something strange put in."""
    at = draw(st.integers(0, len(content)))
    until = draw(st.integers(at, min(len(content), at + 40)))
    kind = draw(st.sampled_from(("cut", "flip", "drop", "double", "insert", "replace")))
    if kind == "cut":
        return content[:at]
    if kind == "flip" and at < len(content):
        return content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :]
    if kind == "drop":
        return content[:at] + content[until:]
    if kind == "double":
        return content[:until] + content[at:]
    splinter = draw(st.sampled_from(SPLINTERS) | st.binary(max_size=8))
    return content[:at] + splinter + content[at if kind == "insert" else until :]


@st.composite
def reshaped(draw: st.DrawFn, value: Any) -> Any:
    """The JSON value with one value of any depth replaced by an odd one, or taken out, or put in."""
    made = copy.deepcopy(value)
    places = list(_places(made))
    holder, key = draw(st.sampled_from(places)) if places else ({"": made}, "")
    odd = draw(st.sampled_from(ODD_VALUES))
    how = draw(st.sampled_from(("replace", "replace", "remove", "add")))
    if how == "remove":
        del holder[key]
    elif how == "add" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(odd))
    else:
        holder[key if how == "replace" else "unheard of"] = copy.deepcopy(odd)
    return made


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def as_json(value: Any) -> bytes:
    """The value as a file may spell it, NaN and half surrogates included."""
    return json.dumps(value).encode()


@contextmanager
def clear_refusal(path: Path | None = None) -> Iterator[None]:
    """What a reader may do with a bad file: nothing else than raise ValueError with a short text that names the file."""
    refusal = None
    try:
        yield
    except ValueError as error:
        refusal = error
    if refusal is not None:
        text = str(refusal)
        assert type(refusal) is ValueError, f"{type(refusal).__name__}: {text}"
        assert 0 < len(text.strip()) < 3000
        text.encode()
        assert path is None or path.name in text or path.parent.name in text, text


def read_or_refuse(read: Callable[[Path], Any], path: Path, content: bytes) -> Any:
    """What `read` makes of this content, None where it refuses it."""
    path.write_bytes(content)
    with clear_refusal(path):
        return read(path)
    return None
