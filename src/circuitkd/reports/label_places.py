"""Where the names of points are written so that they hide neither each other nor a point.

Names are placed one after the other, each at the first of eight places around its point where it is clear of all points
and of the names before it; a name without such a place is left to the pointer. Sizes are those of an 11 px type.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
LETTER, LINE, DOT = 6.1, 13.0, 6.0
PLACES = {
    "middle right": (0.0, -0.5),
    "middle left": (-1.0, -0.5),
    "top center": (-0.5, 0.0),
    "bottom center": (-0.5, -1.0),
    "top right": (0.0, 0.0),
    "top left": (-1.0, 0.0),
    "bottom right": (0.0, -1.0),
    "bottom left": (-1.0, -1.0),
}


def place_labels(points: NDArray[np.float64], names: Sequence[str]) -> list[str]:
    """A place of PLACES for each name, empty where there is none. `points` [point, 2] in pixels, upwards."""
    taken: list[Box] = [(x - DOT / 2, y - DOT / 2, x + DOT / 2, y + DOT / 2) for x, y in points]
    found = []
    for i, ((x, y), name) in enumerate(zip(points.tolist(), names, strict=True)):
        others = [*taken[:i], *taken[i + 1 :]]
        clear = [place for place in PLACES if not any(_meet(_box(x, y, name, place), box) for box in others)]
        found.append(clear[0] if clear else "")
        if clear:
            taken.append(_box(x, y, name, clear[0]))
    return found


def _box(x: float, y: float, name: str, place: str) -> Box:
    """Left, lower, right and upper edge of a name; beside, above or below its point."""
    width, (dx, dy) = LETTER * len(name), PLACES[place]
    left = x + dx * width + (DOT if dx == 0 else -DOT if dx == -1 else 0.0)
    low = y + dy * LINE + (DOT if dy == 0 else -DOT if dy == -1 else 0.0)
    return left, low, left + width, low + LINE


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
