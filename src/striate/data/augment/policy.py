"""The policy of augmentation: which changes a picture may undergo from epoch to epoch, and how large."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from striate.core.errors import RecipeError
from striate.core.spec import InputSpec

Flip = Literal["none", "random", "alternating"]
Probability = Annotated[float, Field(ge=0, le=1)]
Jitter = Annotated[float, Field(ge=0, le=1)]  # the factor is drawn from 1 − this to 1 + this
Alpha = Annotated[float, Field(ge=0, le=100)]  # of a Beta distribution


class Augmentation(BaseModel):
    """How training pictures are varied; a `Recipe` has these fields among its own. The default changes nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: Flip = Field("none", description="Mirror pictures left to right: by chance, or in every other epoch.")
    shift: Annotated[int, Field(ge=0)] = Field(0, description="Most pixels that a picture is moved by.")
    crop_area: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Smallest part of a picture's area that a random resized crop keeps; 1 is off."
    )
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="Most degrees that a picture is turned.")
    zoom: Annotated[float, Field(ge=1, le=4)] = Field(
        1.0, description="Most times that a picture is enlarged, or shrunk; 1 is off."
    )
    shear: Annotated[float, Field(ge=0, le=60)] = Field(0.0, description="Most degrees that a picture leans.")
    trivial_augment: bool = Field(
        False, description="TrivialAugment: one of 14 changes to each picture, of a random strength."
    )
    brightness: Jitter = Field(0.0, description="Most that the factor on the brightness is from 1.")
    contrast: Jitter = Field(0.0, description="Most that the factor on the contrast is from 1.")
    saturation: Jitter = Field(0.0, description="Most that the factor on the saturation is from 1; RGB only.")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.0, description="Most that hues go around their circle, of 1; RGB only."
    )
    grey: Probability = Field(0.0, description="Probability that a picture loses its colours; RGB only.")
    erase: Probability = Field(0.0, description="Probability that a random box is filled with the mean colour.")
    mixup: Alpha = Field(0.0, description="Alpha of mixup, which blends pairs of pictures and labels; 0 is off.")
    cutmix: Alpha = Field(0.0, description="Alpha of cutmix, which pastes boxes between pictures; 0 is off.")


def check_policy(policy: Augmentation, pictures: InputSpec, size: tuple[int, int]) -> None:
    """Refuse a policy that does not fit the pictures.

    Args:
        size: (H, W) that they are trained at.

    Raises:
        RecipeError: they are moved beyond their side, or have no colours to change.
    """
    if policy.shift >= min(size):
        raise RecipeError(f"shift must be less than the {min(size)} pixels of the pictures, got {policy.shift}.")
    for field in ("saturation", "hue", "grey"):
        value = getattr(policy, field)
        if value and pictures.channels != 3:
            raise RecipeError(
                f"{field} must be 0 for pictures that are not RGB, got {value:g} with {pictures.channels} "
                f"channel{'s' * (pictures.channels > 1)}. Leave it out, or read the pictures with 3 channels."
            )
