"""Start-up: `striate --help` takes at most 0.3 s, `import striate` at most 0.05 s over Python itself."""

from __future__ import annotations

import subprocess
import sys
import time

from trials import report, spread

RUNS = 15


def seconds(*words: str) -> float:
    """Return how long a new process takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Alternate the three commands."""
    bare, imported, helped = [], [], []
    for _ in range(RUNS):
        bare.append(seconds("-c", "pass"))
        imported.append(seconds("-c", "import striate"))
        helped.append(seconds("-m", "striate", "--help"))
    over = spread(one - base for one, base in zip(imported, bare, strict=True))
    help_seconds = spread(helped)
    report(
        "start_up",
        "striate --help at most 0.3 s; import striate at most 0.05 s over Python itself (medians)",
        help_seconds["median"] <= 0.3 and over["median"] <= 0.05,
        [],
        help_seconds=help_seconds,
        import_seconds=over,
        python_seconds=spread(bare),
    )


if __name__ == "__main__":
    main()
