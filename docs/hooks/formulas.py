"""Formulas as MathML, made at build time: browsers draw it themselves, so a page needs no script and no network."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

# What pymdownx.arithmatex leaves for $...$ and $$...$$.
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replace every formula of a page."""
    content = _DISPLAY.sub(lambda found: f'<div class="formula">{_drawn(found[1], "block")}</div>', content)
    return _INLINE.sub(lambda found: _drawn(found[1], "inline"), content)


def _drawn(formula: str, display: str) -> str:
    return str(convert(html.unescape(formula).strip(), display=display))
