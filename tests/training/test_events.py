from __future__ import annotations

import pytest

import striate as st


def test_a_misspelt_event_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"no event 'on_epoch_ends'; an observer may have on_train_begin"):

        class Misspelt(st.Observer):
            def on_epoch_ends(self, run: st.Run) -> None: ...
