"""The update: which parameters learn, how fast, by which rule, and which of them decay."""

from __future__ import annotations

from striate.training.optim.groups import check_stage_names, decaying_parameters
from striate.training.optim.updater import Updater

__all__ = ["Updater", "check_stage_names", "decaying_parameters"]
