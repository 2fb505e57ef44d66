"""The YAML block at the top of a Hugging Face card, with one entry replaced and every other byte kept.

Idea: the entry's lines are found by the positions that the YAML parser reports, and only these are written again; so
comments, order and line ends of the rest survive. The new block is parsed before it is used: it must hold the old
entries and the new one.

Limit: a block that cannot be edited so (one line in braces, aliases) is refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from circuitkd.artifacts import MISREAD

# "---", lines, "---" at the very top: what the hub takes for metadata. Groups: opening line, lines, closing line.
_BLOCK = re.compile(r"\A(\ufeff?\s*---\r?\n)((?:.*?\r?\n)??)(---[ \t]*(?:\r?\n|\Z))", re.DOTALL)


def line_break(text: str) -> str:
    """The line end that `text` uses, that of Unix where it has none."""
    return "\r\n" if "\r\n" in text else "\n"


def read_entries(card: str) -> dict[str, Any]:
    """The metadata of a card, empty where it has none. Raises ValueError for a block that is no YAML mapping."""
    found = _BLOCK.match(card)
    return _parsed(found[2]) if found else {}


def with_entry(card: str, key: str, *, value: Any) -> str:
    """The card with the metadata entry `key` set to `value` (plain JSON values). Raises ValueError for a block that is no
    YAML mapping, or cannot be edited in place."""
    end = line_break(card)
    entry = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, line_break=end)
    found = _BLOCK.match(card)
    if found is None:
        return f"---{end}{entry}---{end}{card.removeprefix(chr(0xFEFF))}"
    wanted = _parsed(found[2]) | {key: value}
    start, stop = _lines_of(key, found[2])
    block = found[2][:start] + entry + found[2][stop:]
    try:
        edited = yaml.safe_load(block)
    except (yaml.YAMLError, *MISREAD):
        edited = None
    if edited != wanted:
        raise ValueError(
            f"the entry {key!r} cannot be replaced in this metadata: write it as lines of its own, as in {key}: []"
        )
    return card[: found.start(2)] + block + card[found.end(2) :]


def _parsed(block: str) -> dict[str, Any]:
    try:
        # A few lines of aliases can stand for gigabytes, which comparing two blocks would go through.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(block, Loader=yaml.SafeLoader)):
            raise ValueError("it has aliases (*name): write out what they stand for")
        entries = yaml.safe_load(block)
    except (yaml.YAMLError, *MISREAD) as error:
        raise ValueError(
            f"the metadata between the --- lines is not YAML that can be edited: {error!s:.300}"
        ) from error
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        raise ValueError("the metadata between the --- lines must be `name: value` entries")
    return entries


def _lines_of(key: str, block: str) -> tuple[int, int]:
    """Where the lines of an entry begin and end, both the end of the block where there is no such entry."""
    node = yaml.compose(block, Loader=yaml.SafeLoader)
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if name.value == key:
            start = name.start_mark.index
            last = max(_end(value), start + 1)
            return start, block.find("\n", last - 1) + 1 or len(block)
    return len(block), len(block)


def _end(node: yaml.Node) -> int:
    """Where the text of a node ends. The parser lets a block of lines end where the next token begins, past comments."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)
