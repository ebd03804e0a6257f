from __future__ import annotations

import pytest

from striate.core import machine
from striate.core.errors import DataError
from striate.core.spec import InputSpec
from striate.data.memory import check_memory

SPEC = InputSpec(channels=1, height=10, width=20, mean=(0.0,), std=(1.0,))


def test_what_fits_to_the_byte_is_allowed_and_more_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "available_system_memory", lambda: 2_000)
    check_memory(10, SPEC, "of toys", "Buy less.")
    with pytest.raises(
        DataError, match=r"^The 11 pictures of toys take 2\.2 kB at 10×20; 2\.0 kB of memory are free\. Buy less\.$"
    ):
        check_memory(11, SPEC, "of toys", "Buy less.")
