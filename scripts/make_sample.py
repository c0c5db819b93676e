"""Draw a small set of procedural dogs as breed folders: python scripts/make_sample.py."""

from dogbreeds.commands import make_sample

if __name__ == "__main__":
    make_sample()
