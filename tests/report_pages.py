"""Reading the report's pages back: what stands in their HTML, what their scripts unpack, what a browser has drawn."""

from __future__ import annotations

import base64
import json
import zlib
from html.parser import HTMLParser
from typing import Any

HOSTILE = """</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"> '"&amp;<!--"""


class Reader(HTMLParser):
    """Elements with their attributes, text outside scripts and styles, and the contents of those two: `scripts` that
    run, `packed` by their ids."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.packed: dict[str, str] = {}
        self._inside: tuple[str, str | None] = ("", None)
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())
        self.ids = [a["id"] for _, a in self.elements if "id" in a]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag in ("script", "style"):
            self._inside = (tag, found.get("id"))
            if "id" not in found:
                (self.scripts if tag == "script" else self.styles).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside[0]:
            self._inside = ("", None)

    def handle_data(self, data: str) -> None:
        tag, key = self._inside
        if not tag:
            self.words.append(data)
        elif key is not None:
            self.packed[key] = self.packed.get(key, "") + data
        else:
            (self.scripts if tag == "script" else self.styles)[-1] += data

    def unpacked(self, key: str) -> str:
        """What the element of this id holds compressed."""
        return zlib.decompress(base64.b64decode(self.packed[key], validate=True)).decode()

    @property
    def data(self) -> Any:
        """The numbers of all comparisons."""
        return json.loads(self.unpacked("data"))


def drawn(tab: Any, name: str) -> Any:
    """The data of a figure of the open comparison, once it is scrolled to and drawn."""
    figure = tab.locator(f".comparison:not([hidden]) [data-figure={name}]")
    figure.scroll_into_view_if_needed()
    figure.locator(".main-svg").first.wait_for()
    return figure.evaluate("element => element.data")
