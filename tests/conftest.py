"""What every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import striate as st


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is measured and downloaded out of the user's cache."""
    before = os.environ.get("STRIATE_CACHE")
    os.environ["STRIATE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["STRIATE_CACHE"]
    else:
        os.environ["STRIATE_CACHE"] = before


@pytest.fixture(autouse=True, scope="session")
def with_ctrl_c() -> None:
    """Let Ctrl-C come through, which is ignored by whatever a script starts in its background, and what that starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs/ and whatever else is written by default land in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: ``$STRIATE_TEST_DATA``, else ``../shared/data`` beside the checkout."""
    named = os.environ.get("STRIATE_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data sets; set STRIATE_TEST_DATA to their folder")
    return folder


def make_image_set(
    *, classes: int = 3, pictures: int = 120, size: int = 8, channels: int = 1, seed: int = 0
) -> st.ImageSet:
    """Return pictures that a network can learn within seconds: each class is bright in rows of its own, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(pictures) % classes
    images = torch.randint(0, 120, (pictures, channels, size, size), generator=generator).to(torch.uint8)
    rows = size // classes
    for k in range(classes):
        images[labels == k, :, k * rows : (k + 1) * rows] += 120
    return st.load_data((images.permute(0, 2, 3, 1).numpy(), labels.numpy()))


@pytest.fixture(scope="session")
def image_set() -> st.ImageSet:
    """120 grey pictures of 8×8 in three classes."""
    return make_image_set()
