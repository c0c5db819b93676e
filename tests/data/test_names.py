"""Names of classes and files as people read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dogbreeds.data.names import class_name, readable, shown_names


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["001.German_shepherd", "12.St._Bernard"], ["German shepherd", "St. Bernard"]),
        (["Pug", "n02086240-Shih-Tzu", "2nd.Dog", "n02086240"], ["Pug", "Shih-Tzu", "2nd.Dog", "n02086240"]),
        (["n02086240-Pug", "Pug", "n0208-Pug"], ["n02086240-Pug", "Pug", "n0208-Pug"]),
        (["1.5", "2.5", "7."], ["1.5", "2.5", "7."]),
        (["001.Beagle", "002.Beagle", "003.Pug"], ["001.Beagle", "002.Beagle", "Pug"]),
        (["Basset hound", "Basset_hound"], ["Basset hound", "Basset_hound"]),
        (["1.a", "a", "2.1.a"], ["1.a", "a", "2.1.a"]),
        (["line 1\nline 2", " leading", "_"], ["line 1 line 2", "leading", "_"]),
    ],
)
def test_shown_names(folders: list[str], names: list[str]) -> None:
    assert list(shown_names(folders)) == names


@given(st.lists(st.text("1.a_ b", min_size=1, max_size=5), unique=True))
def test_no_two_classes_are_shown_alike(folders: list[str]) -> None:
    shown = shown_names(folders)
    assert len(set(shown)) == len(folders)
    assert all(shown)


def test_names_that_are_not_text() -> None:
    folder = os.fsdecode(b"H\xfcndin")
    assert class_name(folder) == readable(Path(folder)) == "H\\xfcndin"
    assert class_name("u\u0308ber") == class_name("\u00fcber") == "\u00fcber"
