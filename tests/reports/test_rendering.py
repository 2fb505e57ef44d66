from __future__ import annotations

import base64
import re
import zlib

import pytest
from jinja2 import UndefinedError

from circuitkd.reports import rendering


def test_compressed_text_is_plain_characters_and_always_the_same():
    text = rendering.as_json({"a": "</script>&\u2028", "b": [0.5] * 1000})
    packed = rendering.compressed(text)
    assert re.fullmatch("[A-Za-z0-9+/]+=*", packed) and len(packed) < 0.1 * len(text)
    assert zlib.decompress(base64.b64decode(packed)).decode() == text
    assert rendering.compressed(text) == packed
    with pytest.raises(ValueError, match="not JSON compliant"):
        rendering.as_json(float("nan"))


def test_a_minus_before_numbers_only():
    assert rendering.minus("-0.5 and [-1, 2-3] well-known") == "−0.5 and [−1, 2-3] well-known"


def test_an_unknown_name_in_a_template_is_an_error():
    with pytest.raises(UndefinedError, match="'nothing' is undefined"):
        rendering.templates().from_string("{{ nothing }}").render()


def test_text_is_escaped_and_values_are_formatted():
    shown = rendering.templates().from_string("{{ text }} {{ value|fixed(1)|minus }}").render(text="<b>", value=-0.25)
    assert shown == "&lt;b&gt; −0.2"


def test_a_page_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write the report .*: (Not a directory|File exists); free some space"):
        rendering.write_page(tmp_path / "file" / "page.html", "x")
    assert rendering.write_page(tmp_path / "new" / "page.html", "x").read_text() == "x"
