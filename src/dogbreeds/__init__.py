"""Dog-breed classifiers from folders of photos: train, search, explain and serve."""

__version__ = "0.1.0"
