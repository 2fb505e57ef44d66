"""Where a model's files are, and whether a local folder holds what is needed, before anything is loaded."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from circuitkd.artifacts import MISREAD, read_json, require_storable

ZOO_PREFIX = "zoo:"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")

_PLAIN_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")


def zoo_folder() -> Path:
    """The folder of the bundled weights."""
    return Path(__file__).resolve().parents[1] / "zoo" / "weights"


def zoo_names() -> tuple[str, ...]:
    """Names of the bundled models."""
    return tuple(sorted(path.parent.name for path in zoo_folder().glob("*/config.json")))


def locate(name: str) -> Path | str:
    """A Path for a local folder or a bundled model, the text itself for a hub id. ValueError for neither."""
    require_storable(name)
    if name.startswith(ZOO_PREFIX):
        wanted = name.removeprefix(ZOO_PREFIX)
        if wanted not in zoo_names():
            raise ValueError(
                f"no bundled model {wanted!r}; {_nearest(wanted)}bundled are: {', '.join(zoo_names()) or 'none'}"
            )
        return zoo_folder() / wanted
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if name and path.exists():
        raise ValueError(f"{name} is a file; give the folder that holds config.json, the weights and the tokenizer")
    if name.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise ValueError(
            f"{name}: no such folder; give an existing folder, a hub id like 'gpt2' or "
            f"'EleutherAI/pythia-160m', or '{ZOO_PREFIX}NAME' for a bundled model"
        )
    return name


def bundled_hint(name: str) -> str:
    """A sentence where a hub id looks like a bundled model's name, else empty."""
    return "" if "/" in name else _nearest(name).replace("did you", "Did you")


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, zoo_names(), n=1, cutoff=0.75)
    return f"did you mean '{ZOO_PREFIX}{near[0]}'? " if near else ""


def check_folder(folder: Path) -> None:
    """Raise ValueError if a config, readable safetensors weights or a tokenizer is not in the folder."""
    check_has_config(folder)
    shards = _shards(folder)
    if not shards:
        raise ValueError(_no_safetensors(folder))
    for shard in shards:
        _check_readable(shard)
    if not has_tokenizer(folder):
        raise ValueError(
            f"{folder}: no tokenizer ({', '.join(_TOKENIZER_FILES)}); save it beside the weights with "
            f"tokenizer.save_pretrained({str(folder)!r})"
        )


def check_has_config(folder: Path) -> None:
    """Raise ValueError if the folder has no config."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json; give the folder that save_pretrained wrote")


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds a tokenizer of any kind."""
    return any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES)


def has_own_tokenizer(folder: Path) -> bool:
    """Whether tokenizer.json says all: the folder's tokenizer is of no class of its own."""
    settings = folder / "tokenizer_config.json"
    if not settings.is_file() or not (folder / "tokenizer.json").is_file():
        return False
    return read_json(settings).get("tokenizer_class") in _PLAIN_TOKENIZERS


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(read_json(index)["weight_map"].values()))
            outside = [name for name in names if Path(name).name != name]
        except MISREAD as error:
            raise ValueError(f"{index}: not a readable index ({error!r}); get it again") from error
        if outside:
            raise ValueError(f"{index}: {outside[0]!r} is not a file of this folder; get the model again")
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    return [single] if single.is_file() else []


def _check_readable(shard: Path) -> None:
    try:
        with safe_open(shard, framework="pt") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{shard}: not a complete safetensors file ({error}); download or save it again") from error


def _no_safetensors(folder: Path) -> str:
    others = sorted(path.name for pattern in _OTHER_WEIGHTS for path in folder.glob(pattern))
    if not others:
        return f"{folder}: no weights (model.safetensors); give the folder that save_pretrained wrote"
    return (
        f"{folder}: only {', '.join(others)} and no safetensors; such files can run code when they are "
        "opened. If you trust this one, convert it once: AutoModelForCausalLM (or "
        "AutoModelForMaskedLM).from_pretrained(folder, use_safetensors=False).save_pretrained(folder)"
    )
