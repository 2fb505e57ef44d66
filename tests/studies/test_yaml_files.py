"""Files that are no YAML, no mapping, or wrong in many places."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from circuitkd.studies.yaml_files import read_record


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int
    sides: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no mapping of keys: write width, sides"),
        (b"- 1", "holds no mapping of keys"),
        (b"width: [1", "is not valid YAML: .* in line 1"),
        (b"width: \xff", "x.yaml: "),
        (b"width: !!python/object:os.system x", "could not determine a constructor"),
        (b"a: {b: 1, b: 2}", "the key 'b' stands twice in the mapping that begins in line 1"),
        (b"width: x", "width: input should be a valid integer, .*, not 'x'"),
        (b"widht: 1", r"width: is missing\n  widht: unknown key: did you mean 'width'\?"),
        (b"width: 1\nsides: 2", "sides: input should be a valid tuple, not 2"),
        (b"[" * 1500, "x.yaml: "),
    ],
)
def test_what_is_refused(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_record(path, Shape)


def test_many_mistakes_are_counted(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("width: 1\n" + "".join(f"zz{i}: 1\n" for i in range(14)))
    with pytest.raises(ValueError, match=r"zz9: unknown key: known are width, sides\n  ... and 4 more"):
        read_record(path, Shape)


def test_a_good_file(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes("\ufeffwidth: 3\nsides: [1, 2]\n".encode())
    assert read_record(path, Shape) == Shape(width=3, sides=(1, 2))


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="cannot read .*none.yaml"):
        read_record(tmp_path / "none.yaml", Shape)
