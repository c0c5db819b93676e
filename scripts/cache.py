"""Show or prune the feature store: python scripts/cache.py action=list."""

from dogbreeds.commands import cache

if __name__ == "__main__":
    cache()
