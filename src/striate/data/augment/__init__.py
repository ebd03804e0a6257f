"""Augmentation: what a picture may look like in another epoch; policy.py says which, augment.py does it."""
