"""What anybody may hand over at first in the place of something else: it is said in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

import striate as st


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, images: st.fit("resnet18", images), r"network must be a module, such as st\.build.*got str\."),
        (lambda net, images: st.fit(images, net), r"network must be a module, such as st\.build.*got ImageSet\."),
        (lambda net, images: st.fit(net, "digits"), r"images must be an ImageSet, such as st\.load_data.*got str\."),
        (lambda net, images: st.fit(net, images, {"epochs": 5}), r"recipe must be a Recipe, such as .*got dict\."),
        (lambda net, images: st.build("fc 3", images), r"spec must be a Spec, such as images\.spec, got ImageSet\."),
        (lambda net, images: st.summary(net, images), r"spec must be a Spec, such as images\.spec, got ImageSet\."),
        (lambda net, images: st.advise(net, images), r"spec must be a Spec, such as images\.spec, got ImageSet\."),
        (lambda net, images: st.draw("lenet5", images.spec), r"network must be a module, such as st\.build.*got str\."),
        (lambda net, images: st.evaluate(net, images), r"split must be a Split, such as images\.test, got ImageSet\."),
        (
            lambda net, images: st.audit(3),
            r"data must be a name, a path or an ImageSet, such as of st\.load_data, got int\.",
        ),
    ],
)
def test_one_thing_in_the_place_of_another_is_said(call: Any, message: str, image_set: st.ImageSet) -> None:
    with pytest.raises(st.StriateError, match=message):
        call(st.build("fc 3", image_set.spec), image_set)
