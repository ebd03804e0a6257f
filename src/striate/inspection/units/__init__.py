"""Units: the pictures that excite them, what in these does it, and the picture that would do it best."""
