"""Load a model from the hub, a local folder or the bundled zoo, and refuse what can't be trusted.

Weights are read from safetensors only, in float32 unless another dtype is asked for; a tensor that is missing
(Hugging Face would fill it at random), damaged, NaN or infinite is an error that names it. Only a hub id
touches the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as hf_logging

from circuitkd.models.architectures import ARCHITECTURES, unknown_class
from circuitkd.models.circuit_model import PLAIN_DTYPES, CircuitModel
from circuitkd.models.files import (
    bundled_hint,
    check_folder,
    check_has_config,
    has_own_tokenizer,
    has_tokenizer,
    locate,
)
from circuitkd.models.self_check import self_check

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in PLAIN_DTYPES}
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def load(
    name: str,
    *,
    device: str | torch.device | dict[str, Any] | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    check: bool = True,
    trust_remote_code: bool = False,
) -> CircuitModel:
    """Load `name`: a hub id ("gpt2"), a local folder, or "zoo:NAME".

    device: where to put the model, the CPU by default; "auto", "balanced" or a device map (a dict) spread it
    over several. dtype: float32 by default, also for half-precision files. check: run the self-check and
    require it. The model is in eval mode.

    Raises ValueError for a folder, a file, a class, a config or weights that can't be used, saying what to
    do.
    """
    target = _dtype(dtype)
    place = None if isinstance(device, dict) or device in DEVICE_MAPS else device
    _check_device(place)
    source = locate(name)
    if isinstance(source, Path):
        check_folder(source)
    options = {
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "local_files_only": isinstance(source, Path),
    }
    with _quiet(), _explained(name, local=isinstance(source, Path)):
        config = _config(name, source, options=options)
        hf_class = model_class(config)
        tokenizer = _tokenizer(name, source, options=options)
        hf, info = hf_class.from_pretrained(
            source,
            config=config,
            dtype=target,
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
            device_map=device if place is None else None,
            **options,
        )
    _check_complete(name, hf_class.__name__, info=info)
    with _named(name):
        return wrap(hf if place is None else hf.to(place), tokenizer, name=name, check=check)


def load_shape(name: str, *, dtype: str | torch.dtype | None = None, revision: str | None = None) -> CircuitModel:
    """The model that `load` would load, from its config alone: no weights are read, and it cannot be run.

    It lies on the meta device, so its size costs nothing. `tokenizer`: None where a folder or a hub repository has none.
    Raises ValueError for a folder without config.json, and for a class or config that `load` would refuse.
    """
    source, kind = locate(name), _dtype(dtype)
    if isinstance(source, Path):
        check_has_config(source)
    options = {"revision": revision, "trust_remote_code": False, "local_files_only": isinstance(source, Path)}
    with _quiet(), _explained(name, local=isinstance(source, Path)):
        config = _config(name, source, options=options)
        hf_class = model_class(config)
        tokenizer = None
        if not isinstance(source, Path) or has_tokenizer(source):
            tokenizer = _tokenizer(name, source, options=options)
        with torch.device("meta"):
            hf = hf_class(config)
        return CircuitModel.of(hf.to(kind).eval(), tokenizer, name=name, has_weights=False)


def wrap(hf_model: Any, tokenizer: Any, *, name: str = "model", check: bool = True) -> CircuitModel:
    """A CircuitModel around a Hugging Face model in memory, which is put in eval mode and otherwise left as
    it is.

    Raises ValueError for a class, config or weights not understood, and with `check` for a failed self-check.
    """
    model = CircuitModel.of(hf_model.eval(), tokenizer, name=name)
    _check_finite(model)
    if check:
        self_check(model).require()
    return model


def model_class(config: Any) -> Any:
    """The supported Hugging Face class for a config: the one it names, or the language model of its model
    type.
    """
    named = (getattr(config, "architectures", None) or [None])[0]
    by_type = {entry.model_type: entry.hf_class for entry in ARCHITECTURES.values()}
    chosen = named if named in ARCHITECTURES else by_type.get(config.model_type)
    if chosen is None:
        raise ValueError(unknown_class(named or f"model type {config.model_type!r}"))
    return getattr(transformers, chosen)


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    name = str(dtype or "float32").removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}: use one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _check_device(device: str | torch.device | None) -> None:
    """Fail before a long load, not after it."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split(chr(10))[0]
        raise ValueError(f"device {device!r} can't be used here ({reason}); use device='cpu'") from error


def _config(name: str, source: Path | str, *, options: dict[str, Any]) -> Any:
    try:
        config = AutoConfig.from_pretrained(source, **options)
    except OSError:
        raise
    except Exception as error:  # a value of a type that it does not expect raises whatever it leads to
        raise ValueError(
            f"{name}: transformers can't read its config ({_short(error)}); supported classes are "
            f"{', '.join(ARCHITECTURES)}"
        ) from error
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(
            f"{name}: the checkpoint is quantised; load an unquantised one (float32, bfloat16 or float16 weights), or load "
            "it with transformers and save what its dequantize() gives"
        )
    return config


def _tokenizer(name: str, source: Path | str, *, options: dict[str, Any]) -> Any:
    try:
        # For some model types AutoTokenizer puts the type's usual pre-tokenizer in place of the folder's own.
        plain = isinstance(source, Path) and has_own_tokenizer(source)
        return (PreTrainedTokenizerFast if plain else AutoTokenizer).from_pretrained(source, **options)
    except OSError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise ValueError(
            f"{name}: its tokenizer can't be read ({_short(error)}); save it again beside the weights with "
            "tokenizer.save_pretrained"
        ) from error


def _check_complete(name: str, hf_class: str, *, info: dict[str, Any]) -> None:
    missing = sorted(info.get("missing_keys") or ())
    if missing:
        raise ValueError(
            f"{name}: the checkpoint lacks {len(missing)} tensors that {hf_class} needs ({_some(missing)}); "
            "they would be random. Use a checkpoint saved from this class, with its language-model head"
        )


def _check_finite(model: CircuitModel) -> None:
    bad = [name for name, parameter in model.hf.named_parameters() if not torch.isfinite(parameter).all()]
    if bad:
        raise ValueError(
            f"{model.name}: NaN or infinite weights in {_some(bad)}; the checkpoint is damaged, or its "
            f"values do not fit {model.dtype}: get it again or load it with dtype='float32'"
        )


def _some(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and progress bars from transformers while a model is loaded; the settings are put back."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


@contextmanager
def _explained(name: str, *, local: bool) -> Iterator[None]:
    """Turn the errors of transformers, safetensors and the hub into one ValueError with the way out."""
    try:
        with _named(name):
            yield
    except (ValueError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = _short(error)
        if local:
            raise ValueError(f"{name}: can't load this folder: {reason}. Save it again with save_pretrained") from error
        if not isinstance(error, OSError | SafetensorError | RuntimeError):
            raise
        raise ValueError(
            f"{name}: no local folder of that name, and loading it from the hub failed: {reason.rstrip('.')}. "
            f"{bundled_hint(name)}Check the spelling and the connection, or download the model elsewhere and give "
            "the path of its folder (it needs safetensors)"
        ) from error


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the model's name in front of a ValueError that lacks it."""
    try:
        yield
    except ValueError as error:
        if name in str(error):
            raise
        raise ValueError(f"{name}: {error}") from error
