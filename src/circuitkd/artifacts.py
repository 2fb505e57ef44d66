"""Run folders: frozen results on disk as `result.json` + `arrays.safetensors` + `manifest.json`.

Any frozen dataclass made of numbers, strings, numpy arrays, tuples, dicts, components and other such dataclasses can
be stored. `result.json` holds its own SHA-256 and those of the other two. All files are written beside their places and
then renamed, `result.json` last: an interrupted save is never taken for a whole one, and a damaged or edited file is
refused.

Limit: infinite numbers outside arrays come back as NaN, and NaN where None is allowed as None, for JSON has neither.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import types
import typing
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from circuitkd.components import Component, Edge

Arrays = dict[str, np.ndarray]
Keep = Callable[[str, np.ndarray], Any]
T = TypeVar("T")
FORMAT = 1
# What reading a record of another shape than the expected one may raise.
MISREAD = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def save_run(folder: str | Path, result: Any, *, manifest: Mapping[str, Any]) -> Path:
    """Write `result` and `manifest` into `folder` (made if missing). Raises ValueError when it cannot be written;
    what was there before then stays."""
    folder = Path(folder)
    arrays: Arrays = {}

    def keep(path: str, array: np.ndarray) -> dict[str, str]:
        arrays[path] = np.asarray(array, order="C")
        return {"array": path}

    record = encode(result, keep=keep)
    blob = save_arrays(arrays)
    about = to_json(dict(manifest)).encode()
    whole = {"format": FORMAT, "kind": type(result).__name__, "arrays_sha256": _sha256(blob)}
    whole |= {"manifest_sha256": _sha256(about), "result": record}
    files = {
        folder / "arrays.safetensors": blob,
        folder / "manifest.json": about,
        folder / "result.json": to_json({"sha256": _sha256(to_json(whole).encode())} | whole).encode(),
    }
    with cannot_write(f"the run folder {folder}", way_out="free some space or choose another --output-dir"):
        folder.mkdir(parents=True, exist_ok=True)
        write_together(files)
    return folder


@contextmanager
def cannot_write(what: str, *, way_out: str) -> Iterator[None]:
    """Turn an OSError of writing `what` into a ValueError that names it, the reason and the way out."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write {what}: {error.strerror or error}; {way_out}") from error


def load_run(folder: str | Path, kind: type[T]) -> T:
    """Read what `save_run` wrote. Raises ValueError for a missing, unfinished, damaged, edited or foreign folder."""
    folder = Path(folder)
    path = folder / "result.json"
    if not path.exists():
        raise ValueError(f"{folder} holds no finished result (no result.json): run the command again, it resumes")
    try:
        whole = read_json(path)
        if whole["format"] != FORMAT or whole["kind"] != kind.__name__:
            raise ValueError(
                f"it holds a {whole['kind']} of format {whole['format']}, not a {kind.__name__} of {FORMAT}"
            )
        if whole.pop("sha256") != _sha256(to_json(whole).encode()):
            raise ValueError("result.json was changed after it was written")
        blob = (folder / "arrays.safetensors").read_bytes()
        if _sha256(blob) != whole["arrays_sha256"]:
            raise ValueError("arrays.safetensors does not belong to result.json")
        manifest = whole.get("manifest_sha256")  # the first results had none
        if manifest is not None and manifest != _sha256((folder / "manifest.json").read_bytes()):
            raise ValueError("manifest.json does not belong to result.json")
        return typing.cast(T, decode(kind, whole["result"], arrays=load_arrays(blob)))
    except (*MISREAD, OSError, SafetensorError) as error:
        raise ValueError(
            f"{folder} is damaged or not a result of this version: {error!s:.300}; run the command again"
        ) from error


def load_if_whole(folder: str | Path | None, kind: type[T]) -> T | None:
    """What `load_run` reads; None for no folder, no result, and one that it would refuse: that is to be made again."""
    try:
        return None if folder is None else load_run(folder, kind)
    except ValueError:
        return None


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a run folder. Raises ValueError where it is missing or unreadable."""
    path = Path(folder) / "manifest.json"
    if not path.exists():
        raise ValueError(f"{folder} is not a run folder: it has no manifest.json")
    try:
        return dict(read_json(path))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}; run the command again") from error


def read_json(path: str | Path) -> Any:
    """The JSON value in a file. Raises ValueError, without the file's name, for one that cannot be read or understood
    whole: no UTF-8, no JSON, nested too deeply, half a surrogate pair, a key twice in one object."""
    try:
        content = Path(path).read_bytes()
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=unique_keys)
        if _SURROGATE.search(content):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half a surrogate pair, which is no character") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error
    return found


def require_storable(name: str) -> None:
    """Raise ValueError for the name of a file that a result could not hold: not UTF-8, or with a null character."""
    if "\0" in name or name != name.encode(errors="ignore").decode():
        raise ValueError(f"{name!r:.200}: the name is not UTF-8 text: rename the file or folder")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook` of json that refuses a key twice in one object. Raises ValueError naming it."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"has the key {twice!r:.60} more than once")
    return found


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside `path` and rename it: readers see the old file or the whole new one."""
    write_together({path: content})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write all files as temporary ones, then rename them in this order: a full disk leaves what was there before."""
    # A name that no thread, process or host shares, and that is not too long where the file's own is not.
    staged = {path.with_name(f".{uuid.uuid4().hex}.tmp"): path for path in files}
    try:
        for temporary, path in staged.items():
            with temporary.open("wb") as file:
                file.write(files[path])
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in staged.items():
            temporary.replace(path)
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def to_json(record: Any) -> str:
    """JSON text without NaN or infinity (they become null), as other programs expect."""
    return json.dumps(_finite(record), indent=1, ensure_ascii=False, allow_nan=False)


def plain(result: Any) -> Any:
    """A result as plain JSON values, arrays as nested lists: what `--json` prints."""
    return encode(result, keep=lambda _, array: array.tolist())


def encode(value: Any, path: str = "result", *, keep: Keep) -> Any:
    """A value as JSON; `keep` gets each numpy array with its path in the value, and returns what stands for it."""
    if isinstance(value, np.ndarray):
        return keep(path, value)
    if isinstance(value, Component | Edge):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {
            f.name: encode(getattr(value, f.name), f"{path}.{f.name}", keep=keep) for f in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(k): encode(v, f"{path}[{str(k)!r}]", keep=keep) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [encode(v, f"{path}.{i}", keep=keep) for i, v in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def decode(kind: Any, record: Any, *, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `encode` for a value of type `kind`, arrays being named by their paths."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if record is None and type(None) in arguments:
            return None
        members = [a for a in arguments if a is not type(None)]
        return decode(next((m for m in members if _fits(m, record)), members[0]), record, arrays=arrays)
    if np.ndarray in (kind, origin):
        return arrays[record["array"]]
    if kind in (Component, Edge):
        return kind.parse(record)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        # What an earlier version did not know yet takes its default; a field without one must be there.
        known = [f for f in dataclasses.fields(kind) if f.name in record or _is_required(f)]
        values = {f.name: decode(hints[f.name], record[f.name], arrays=arrays) for f in known}
        return kind(**values)  # type: ignore[operator]
    if origin in (tuple, list):
        inner = arguments[:1] * len(record) if origin is list or arguments[-1] is Ellipsis else arguments
        return origin(decode(k, v, arrays=arrays) for k, v in zip(inner, record, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_key(arguments[0], k): decode(arguments[1], v, arrays=arrays) for k, v in record.items()}
    if kind is float and record is None:
        return math.nan
    if not _is_scalar(kind, record, origin=origin):
        raise ValueError(f"{record!r:.60} is no {getattr(kind, '__name__', kind)}")
    return record


def _is_scalar(kind: Any, record: Any, *, origin: Any) -> bool:
    """Whether `record` is a value of a plain type; other types are taken as they are."""
    if origin is typing.Literal:
        return record in typing.get_args(kind)
    if kind in (int, float):
        return isinstance(record, (int, kind)) and not isinstance(record, bool) and math.isfinite(record)
    return not (isinstance(kind, type) and kind in (str, bool)) or isinstance(record, kind)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _fits(kind: Any, record: Any) -> bool:
    """Whether `record` can be a value of `kind`, one member of a union."""
    origin = typing.get_origin(kind) or kind
    is_record = dataclasses.is_dataclass(kind) and kind not in (Component, Edge)
    if isinstance(record, dict):
        return is_record or origin is np.ndarray or (isinstance(origin, type) and issubclass(origin, Mapping))
    if isinstance(record, list):
        return origin in (tuple, list)
    return not is_record and origin not in (tuple, list) and _is_scalar(kind, record, origin=typing.get_origin(kind))


def _key(kind: Any, text: str) -> Any:
    """A dict's key, which JSON keeps as text."""
    if kind in (Component, Edge):
        return kind.parse(text)
    return kind(text) if kind in (int, float) else text


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
