"""Units: the nine pictures of CIFAR-10's test set that excite every unit of a ResNet-20 most cost one evaluation more.

That is: the search takes at most twice as long as the plain evaluation.
"""

from __future__ import annotations

import tarfile
import tempfile

import striate as st
from striate.data.decode import read_pictures
from striate.prediction.predictor import compute_logits
from trials import alternate, data_folder, report, spread, upper_bound

PAIRS = 15
BOUND = 2.0


def main() -> None:
    """Alternate a plain evaluation and the search."""
    spec = st.Spec.of((3, 32, 32), 10)
    network = st.build("resnet20_cifar10", spec)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(data_folder("cifar10") / "cifar10-jpeg.tar.gz") as archive:
            members = [one for one in archive if one.isfile() and "test/" in one.name]
            archive.extractall(folder, members, filter="data")
        images = read_pictures([f"{folder}/{one.name}" for one in members], spec.input)
    trials = alternate(
        {
            "evaluation": lambda: compute_logits(network, images, spec.input),
            "search": lambda: st.top_pictures(network, images),
        },
        PAIRS,
    )
    ratios = [trial["search"] / trial["evaluation"] for trial in trials]
    report(
        "units",
        f"the nine best of {len(images):,} pictures for every unit of a ResNet-20: upper bound of the ratio to an "
        f"evaluation ≤ {BOUND:g}",
        upper_bound(ratios) <= BOUND,
        trials,
        ratio=spread(ratios),
        ratio_upper_bound=upper_bound(ratios),
        units=sum(len(best.values) for best in st.top_pictures(network, images[:9]).layers.values()),
    )


if __name__ == "__main__":
    main()
