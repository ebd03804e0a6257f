"""Stage 2: networks as plain modules, their text, their sizes, their files."""
