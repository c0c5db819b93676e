"""Dog-breed classifiers from folders of photos: train, search, explain and serve.

`train`, `search` and `load` are imported at first use: a model package carries this file without them.
"""

from typing import TYPE_CHECKING

from dogbreeds.version import __version__

if TYPE_CHECKING:
    from dogbreeds.api import load, search, train

__all__ = ["__version__", "load", "search", "train"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'dogbreeds' has no attribute '{name}'")
    from dogbreeds import api

    return getattr(api, name)
