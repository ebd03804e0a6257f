"""Shards: tar files of pictures, local or remote, read in blocks, for sets that fit neither memory nor disk."""
