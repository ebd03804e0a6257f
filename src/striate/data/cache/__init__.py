"""Decoded pictures on disk: decoded and resized once, memory-mapped by every later run."""
