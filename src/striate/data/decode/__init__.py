"""Picture files become uint8 tensors: checked before decoding, upright, grey or RGB, never half-read."""

from __future__ import annotations

from striate.data.decode.many import decode_in_turn, decode_into, decoding_threads, read_pictures
from striate.data.decode.picture import (
    ALPHA_MODES,
    EXTENSIONS,
    FORMATS,
    GREY_MODES,
    MOST_PIXELS,
    UNREAD_EXTENSIONS,
    Header,
    decode_picture,
    pixels_of,
    read_header,
)

__all__ = [
    "ALPHA_MODES",
    "EXTENSIONS",
    "FORMATS",
    "GREY_MODES",
    "MOST_PIXELS",
    "UNREAD_EXTENSIONS",
    "Header",
    "decode_in_turn",
    "decode_into",
    "decode_picture",
    "decoding_threads",
    "pixels_of",
    "read_header",
    "read_pictures",
]
