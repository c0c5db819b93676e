"""The feature store for display: its arrays, and what pruning removed."""

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dogbreeds.errors import CacheError
from dogbreeds.features.store.store import INDEX, FeatureStore

_SECONDS_PER_DAY = 86_400.0
_WIDTH = 110


def run(action: str, directory: Path, max_gb: float, days: float) -> None:
    """Lists a store, after `prune` has removed what was not used for so many days."""
    directory = directory.expanduser()
    if not (directory / INDEX).is_file():
        raise CacheError(f"cache.dir={directory}: no features are kept there yet.")
    with FeatureStore(directory, max_gb * 1e9) as store:
        if action == "prune":
            oldest = time.time() - days * _SECONDS_PER_DAY
            photos, freed = store.prune(lambda usage: usage.used > oldest)
            freed += store.blobs.prune(oldest)
            print(f"Removed the features of {photos} photos and freed {freed / 1e6:.1f} MB.")
        _print(store)


def _print(store: FeatureStore) -> None:
    table = Table(box=None)
    for name in ("trunk", "weights", "engine", "view", "photos", "size", "last used"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("photos", "size") else "left")
    for usage in store.usage():
        key, size = usage.key, f"{usage.bytes / 1e6:.1f} MB"
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(usage.used))
        table.add_row(key.trunk, key.weights[:8], key.engine, key.view, str(usage.photos), size, used)
    # A pipe has no width, and a narrow terminal should wrap lines rather than cut names.
    console = Console(width=_WIDTH)
    console.print(table)
    console.print(
        f"{store.directory}: {store.occupied() / 1e9:.2f} of {store.max_bytes / 1e9:g} GB "
        f"({store.blobs.occupied() / 1e6:.1f} MB of it converted networks and solutions)",
        soft_wrap=True,
        highlight=False,
    )
