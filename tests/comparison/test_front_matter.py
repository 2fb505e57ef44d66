"""One entry of a card's metadata changes, and not a byte of anything else."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkd.comparison.front_matter import line_break, read_entries, with_entry

CARD = """---
# what the hub reads
license: mit  # or not
model-index:
- name: old
  results:
  - metrics:
    - value: 1
# about tags
tags: [a, "b"]
---

# Title

---
model-index: in the text
"""


def test_the_lines_of_an_entry_are_replaced():
    assert with_entry(CARD, "model-index", value=[]) == CARD.replace(
        "model-index:\n- name: old\n  results:\n  - metrics:\n    - value: 1\n", "model-index: []\n"
    )


def test_a_new_entry_goes_to_the_end_of_the_block():
    assert with_entry(CARD, "new", value={"a": "é"}) == CARD.replace('"b"]\n', '"b"]\nnew:\n  a: é\n')


@pytest.mark.parametrize("old", ["", "null", "x", "[]", "{a: 1}", "|\n  one\n  two", '"x: y" # why'])
def test_an_entry_of_any_shape_is_replaced(old):
    card = f"---\nfirst: 1\nkey: {old}\nlast: 2\n---\ntext"
    assert with_entry(card, "key", value="new") == "---\nfirst: 1\nkey: new\nlast: 2\n---\ntext"


@pytest.mark.parametrize("card", ["", "# Title\n", "text with --- inside\n"])
def test_a_card_without_metadata_gets_a_block(card):
    assert read_entries(card) == {}
    assert with_entry(card, "a", value=1) == f"---\na: 1\n---\n{card}"


@pytest.mark.parametrize("block", ["", "# nothing yet\n"])
def test_an_empty_block_is_filled(block):
    assert with_entry(f"---\n{block}---\nrest", "a", value=1) == f"---\n{block}a: 1\n---\nrest"


def test_windows_lines_stay_windows_lines():
    assert line_break("a\r\nb") == "\r\n"
    assert line_break("a\nb") == "\n"
    found = with_entry("---\r\na: 1\r\nb:\r\n- 2\r\n---\r\nx\r\n", "b", value=[3, 4])
    assert found == "---\r\na: 1\r\nb:\r\n- 3\r\n- 4\r\n---\r\nx\r\n"


def test_a_byte_order_mark_stays_first():
    assert with_entry("\ufeff---\na: 1\n---\nx", "a", value=2) == "\ufeff---\na: 2\n---\nx"


TEXT = st.text("ab \n#:-'\"|>[]{}&*é%", max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(before=VALUES, after=VALUES)
def test_values_come_back(before, after):
    block = yaml.safe_dump({"first": "x", "key": before, "last": "y"}, sort_keys=False, allow_unicode=True)
    card = f"---\n{block}---\nbody\n"
    found = with_entry(card, "key", value=after)
    assert read_entries(found) == {"first": "x", "key": after, "last": "y"}
    assert found.startswith("---\nfirst: x\n")
    assert found.endswith("last: y\n---\nbody\n")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("- a\n", "must be `name: value` entries"),
        ("a: [\n", "is not YAML"),
        ("{key: 1, b: 2}\n", "the entry 'key' cannot be replaced in this metadata"),
        ("key: &x [1]\nb: *x\n", r"it has aliases \(\*name\): write out what they stand for"),
    ],
)
def test_what_cannot_be_edited_is_refused(block, message):
    with pytest.raises(ValueError, match=message):
        with_entry(f"---\n{block}---\n", "key", value=1)
