"""A network written as text, and back."""

from __future__ import annotations

from striate.networks.text.build import TextNetwork, build_text
from striate.networks.text.grammar import GRAMMAR_VERSION, parse
from striate.networks.text.mistakes import NetworkTextError, underlined_finding
from striate.networks.text.tree import NetworkText

__all__ = [
    "GRAMMAR_VERSION",
    "NetworkText",
    "NetworkTextError",
    "TextNetwork",
    "build_text",
    "parse",
    "underlined_finding",
]
