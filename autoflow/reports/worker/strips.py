"""Divide pictures that are far too wide or tall for a page into parts."""

import math

PAGE_WIDTH, PAGE_HEIGHT = 640.0, 860.0
"""Between the margins of an upright page, in CSS pixels."""

_LEAST_SCALE = 1 / 3
"""Below it, letters of 10 points cannot be read."""
_SCALE_OF_PARTS = 0.4
_LEAST_RATIO = 2.5
_OVERLAP = 0.03
"""Of a part: so that what is cut at its edge is whole in its neighbour."""
_MOST_PARTS = 24


def strips(width: float, height: float) -> tuple[bool, list[tuple[float, float]]]:
    """Return whether to cut a picture of this natural size from left to right, and start and end of each part.

    Starts and ends are fractions of the width or, if it is to be cut from top to bottom, of the height. There are no
    parts if the picture is legible on an upright page or, if it is wide, on a turned one.
    """
    if width > height * _LEAST_RATIO and width * _LEAST_SCALE > PAGE_HEIGHT * 1.1:
        return True, _parts(width * _SCALE_OF_PARTS / PAGE_WIDTH)
    if height > width * _LEAST_RATIO and height * _LEAST_SCALE > PAGE_HEIGHT:
        return False, _parts(height * min(_SCALE_OF_PARTS, PAGE_WIDTH / width) / PAGE_HEIGHT)
    return False, []


def _parts(pages: float) -> list[tuple[float, float]]:
    count = min(math.ceil(pages), _MOST_PARTS)
    edge = _OVERLAP / count
    return [(max(number / count - edge, 0.0), min((number + 1) / count + edge, 1.0)) for number in range(count)]
