"""A small run whose names try to be markup."""

from __future__ import annotations

import pytest

import striate as st
from tests.cli.conftest import write_pictures

NASTY = ('<script>alert("dark")</script>'.replace("/", "\N{FRACTION SLASH}"), "light & 'bright'")
LEFT_OUT = {"Findings", "Precision and recall"}  # nothing was audited, and each picture has one class


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> st.ImageSet:
    """Photographs of two classes."""
    return st.load_data(write_pictures(tmp_path_factory.mktemp("nasty") / "photos", NASTY), size=16)


@pytest.fixture(scope="session")
def run(images: st.ImageSet, tmp_path_factory: pytest.TempPathFactory) -> st.Run:
    """A run on them, in a folder of its own."""
    network = st.build("conv 4 relu | maxpool 2 | conv 6 relu | gap | fc 2", images.spec)
    recipe = st.Recipe(epochs=3, batch_size=8, learning_rate=0.03)
    folder = tmp_path_factory.mktemp("run") / "<b>run"
    return st.fit(network, images, recipe, folder=folder, doctor=False)
