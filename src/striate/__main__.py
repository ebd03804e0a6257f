"""``python -m striate`` is the command line."""

from striate.cli.app import main

main()
