"""A small set of procedural dogs as breed folders, for the demo and the tests.

It stands in for photos where none exist: the pictures are drawn, the breeds are invented, and a
model trained on them knows nothing about real dogs.
"""

from __future__ import annotations

from dogbreeds.data.sample.writing import MAXIMUM_BREEDS, SPLITS, draw_picture, make_sample

__all__ = ["MAXIMUM_BREEDS", "SPLITS", "draw_picture", "make_sample"]
