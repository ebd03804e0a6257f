"""Where pictures come from: one file per kind of source. Importing the package enters the built-in sets."""

from striate.data.sources import cifar, digits, emnist, idx

__all__ = ["cifar", "digits", "emnist", "idx"]
