"""The policy of augmentation: which changes a picture may undergo from epoch to epoch, and how large."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Flip = Literal["none", "random", "alternating"]


class Augmentation(BaseModel):
    """How training pictures are varied; a `Recipe` has these fields among its own. The default changes nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: Flip = Field("none", description="Mirror pictures left to right: by chance, or in every other epoch.")
    shift: Annotated[int, Field(ge=0)] = Field(0, description="Most pixels that a picture is moved by.")
