"""What all pages share: templates that escape everything, one file without references, written whole or not at all.

A page forbids itself every request and every script but its own (a Content-Security-Policy of hashes). Text comes from
Jinja templates that escape all of it, so names and prompts may hold any characters.

What is large and no table (plotly.js, the figures' numbers) is embedded compressed, and unpacked by the browser itself
(DecompressionStream, in browsers since 2023). A script that was unpacked runs because its hash is in the policy.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from circuitkd.artifacts import cannot_write, write_atomically
from circuitkd.reports import wording
from circuitkd.reports.terms import anchor

_STYLES = ("style.css", "diagram.css", "roles.css", "sides.css", "study.css")


@cache
def templates() -> Environment:
    """The templates of the package; an unknown name in one is an error."""
    environment = Environment(
        loader=PackageLoader("circuitkd.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"wording": wording, "anchor": anchor}
    environment.filters |= {"fixed": wording.fixed, "minus": minus}
    return environment


def render_page(template: str, *, scripts: Mapping[str, str], **values: Any) -> str:
    """A template of a whole page as HTML, with the style sheets; `scripts` are those that may run in it."""
    allowed = {"theme": source("theme.js")} | dict(scripts)
    return (
        templates()
        .get_template(template)
        .render(
            style=Markup("".join(map(source, _STYLES))),
            scripts={name: Markup(text) for name, text in allowed.items()},
            policy=_policy(allowed.values()),
            **values,
        )
    )


def write_page(path: str | Path, content: str) -> Path:
    """Write a page, its folder made if missing. Raises ValueError where it cannot be written."""
    path = Path(path)
    with cannot_write(f"the report {path}", way_out="free some space or choose another file name"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.encode())
    return path


def source(name: str) -> str:
    """A style sheet or script of the templates."""
    return (files("circuitkd.reports") / "templates" / name).read_text(encoding="utf-8")


def compressed(text: str) -> Markup:
    """The text in the zlib format and base64, for a script element that does not run, from which `unpacked` in
    unpack.js reads it. The same text gives the same characters."""
    return Markup(base64.b64encode(zlib.compress(text.encode(), level=9)).decode("ascii"))


def as_json(value: Any) -> str:
    """JSON without spaces. Raises ValueError for NaN and infinity."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def minus(text: str) -> str:
    """Text with a typographic minus before its negative numbers, and no line break before a percent sign."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text).replace(" %", "\u00a0%")


def _policy(scripts: Iterable[str]) -> str:
    """A Content-Security-Policy that lets only these scripts run and nothing be fetched."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
