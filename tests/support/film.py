"""A film made for a test, in place of a camera."""

from __future__ import annotations

from pathlib import Path

import av
import numpy

RATE = 15


def make_film(path: Path, seconds: int = 90) -> Path:
    """Write a film that is small and quick to encode, with changing pictures."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(seconds * RATE):
            picture = numpy.full((120, 160, 3), number % 256, numpy.uint8)
            picture[:, : number % 160] = (255, 0, 0)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        film.mux(stream.encode(None))
    return path
