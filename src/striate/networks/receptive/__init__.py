"""What the units of a network see of the picture: exact receptive fields, carried from one operation to the next."""
