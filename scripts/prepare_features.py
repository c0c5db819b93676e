"""Compute features ahead of training: python scripts/prepare_features.py data.dir=photos model=resnet50."""

from dogbreeds.commands import prepare_features

if __name__ == "__main__":
    prepare_features()
