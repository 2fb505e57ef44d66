"""The small steps of reading a quantity off a result."""

from __future__ import annotations

import math

import numpy as np
import pytest

from circuitkd.comparison.performance import Estimate
from circuitkd.studies.measured import chosen, numbered, over_examples, plain, scaled, two_components


def test_estimates():
    assert scaled(Estimate(-1.0, -3.0, 0.5), -1.0) == Estimate(1.0, -0.5, 3.0)
    assert scaled(Estimate(0.5, 0.25, 0.75), 100) == Estimate(50.0, 25.0, 75.0)
    assert plain(2).value == 2.0 and math.isnan(plain(2).low)
    found = over_examples(np.array([0.0, 1.0] * 50))
    assert found.value == 0.5 and 0.35 < found.low < 0.45 and 0.55 < found.high < 0.65


def test_names():
    assert chosen("b", ["a", "b"], what="thing") == 1
    with pytest.raises(ValueError, match="there is no thing 'abcd': did you mean 'abc'"):
        chosen("abcd", ["abc", "x"], what="thing")
    with pytest.raises(ValueError, match="there is no thing$"):
        chosen("a", [], what="thing")
    assert two_components("m9 -> MLP4") == ("MLP9", "MLP4")
    with pytest.raises(ValueError, match="'MLP9' is no pair: write a teacher's and a student's component"):
        two_components("MLP9")
    assert numbered("next member, layer 9", "layer") == ("next member", 9.0)
    assert numbered("layer 4", "layer") == ("", 4.0)
    for wrong in ("layer x", "next member"):
        with pytest.raises(ValueError, match="names no layer: write it as in 'layer 5'"):
            numbered(wrong, "layer")
