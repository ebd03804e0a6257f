"""``python -m striate`` is the command line."""

from striate.cli.app import main

if __name__ == "__main__":
    main()
