from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, signal
from torch import Tensor

import striate as st
from striate.inspection.arithmetic import explain_unit
from striate.inspection.kernels import (
    PICTURE,
    Detector,
    apply_kernels,
    chain,
    draw_shapes,
    parse_kernels,
    parse_matrix,
    square_steps,
)
from striate.networks.layers import KERNELS
from striate.networks.text import build_text

SCIPY = {"nearest": "nearest", "zeros": "constant", "mirror": "mirror", "wrap": "wrap"}


def a_picture(channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (channels, 13, 17), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("padding", SCIPY)
@pytest.mark.parametrize("kernels", [*KERNELS, "1 2; 3 4", "1 0 -2 1; 0 1 5 1", "2"])
def test_answers_are_scipys_correlation(kernels: str, padding: str) -> None:
    picture = a_picture(3)
    answers = apply_kernels(picture, kernels, padding=padding)
    assert answers.maps.keys() == answers.kernels.keys()
    for name, kernel in answers.kernels.items():
        for channel in range(3):
            expected = ndimage.correlate(picture[channel].numpy() / 255, kernel.numpy(), mode=SCIPY[padding])
            np.testing.assert_allclose(answers.maps[name][channel].numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["sobel", "kirsch", "curve"])
def test_away_from_the_border_they_are_scipys_valid_correlation(name: str) -> None:
    picture = a_picture()
    for kernel, answer in zip(KERNELS[name], apply_kernels(picture, name).maps.values(), strict=True):
        expected = signal.correlate(picture[0].numpy() / 255, np.array(kernel), mode="valid")
        half = len(kernel) // 2
        np.testing.assert_allclose(answer[0, half:-half, half:-half].numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", KERNELS)
def test_a_fixed_layer_of_a_network_text_answers_the_same(name: str) -> None:
    picture = a_picture(2)
    network = build_text(f"fixed {name}", (2, 13, 17))
    with torch.no_grad():
        maps = network(picture[None].float() / 255)[0].reshape(2, -1, 13, 17)
    answers = apply_kernels(picture, name).maps.values()
    for number, answer in enumerate(answers):
        torch.testing.assert_close(maps[:, number].double(), answer, rtol=1e-4, atol=1e-5)


def test_the_curve_detector_is_high_on_its_curve_and_near_zero_elsewhere() -> None:
    curve = torch.tensor(KERNELS["curve"][0]) > 0
    picture = torch.zeros(1, 40, 60, dtype=torch.uint8)
    picture[0, 4:11, 6:13][curve] = 255
    picture[0, 4:11, 40:47][curve.flip(1)] = 255
    picture[0, 24:31, 6:13][curve.flip(0)] = 255
    picture[0, 27, 30:50] = 255
    answer = apply_kernels(picture, "curve").maps["curve"][0]
    assert float(answer[7, 9]) == pytest.approx(1)
    elsewhere = answer.clone()
    elsewhere[4:11, 6:13] = 0
    assert float(elsewhere.max()) < 0.45


def test_kirsch_kernels_are_named_after_where_the_bright_side_is() -> None:
    picture = torch.zeros(1, 9, 9, dtype=torch.uint8)
    picture[:, :, 5:] = 255
    answers = {name: float(map[0, 4, 4]) for name, map in apply_kernels(picture, "kirsch").maps.items()}
    assert max(answers, key=answers.__getitem__) == "kirsch, east"
    assert len(answers) == 8


def test_a_matrix_may_be_typed_or_given() -> None:
    expected = [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    for matrix in ("0 -1 0; -1 5 -1; 0 -1 0", "0,-1,0\n-1,5,−1\n0,-1,0", expected, np.array(expected), "sharpen"):
        assert parse_matrix(matrix).tolist() == expected
    assert parse_matrix("1/9 .5;1e-1 -2").tolist() == [[1 / 9, 0.5], [0.1, -2]]
    several = parse_kernels(["sobel", "1 2; 3 4", expected])
    assert list(several) == ["sobel, brighter to the right", "sobel, brighter below", "kernel 2", "kernel 3"]
    assert list(parse_kernels({"mine": "1"})) == ["mine"]
    assert list(parse_kernels(expected)) == ["your kernel"]


@pytest.mark.parametrize(
    ("kernels", "words"),
    [
        ("sobl", r"No kernel named 'sobl'\. Did you mean 'sobel'\?"),
        ("1 2; 3", r"row 1 of '1 2; 3' has 2 numbers, row 2 has 1"),
        ("1 two; 3 4", "'two' in the kernel .* is not a number"),
        ("1/0", "'1/0' in the kernel"),
        ([], "at least one kernel"),
        ([[1, 2], [3]], "rows are equally long"),
        (np.zeros((2, 2, 2)), r"rows × columns, got the shape \(2, 2, 2\)"),
        ([[float("nan")]], "finite numbers"),
        ({"edges": "sobel"}, "'sobel' stands for 2 kernels"),
    ],
)
def test_what_is_no_kernel_is_said(kernels: object, words: str) -> None:
    with pytest.raises(st.NetworkError, match=words):
        apply_kernels(a_picture(), kernels)  # type: ignore[arg-type]


def test_what_is_no_picture_is_said() -> None:
    with pytest.raises(st.DataError, match="must be a file, bytes, a Pillow image"):
        apply_kernels(3, "blur")  # type: ignore[arg-type]
    with pytest.raises(st.DataError, match="must be uint8"):
        apply_kernels(torch.zeros(1, 4, 4), "blur")
    with pytest.raises(st.DataError, match=r"larger than 3 pixels for 'curve' .* its smaller side has 3"):
        apply_kernels(torch.zeros(1, 3, 4, dtype=torch.uint8), "curve", padding="mirror")
    with pytest.raises(st.DataError, match=r"no padding 'miror'\. Did you mean 'mirror'\?"):
        apply_kernels(a_picture(), "blur", padding="miror")  # type: ignore[arg-type]


def test_a_picture_may_be_a_file_bytes_an_image_or_an_array(tmp_path: Path) -> None:
    pixels = a_picture(3)
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    stream = io.BytesIO()
    turned = Image.Exif()
    turned[274] = 6  # stored lying on its side
    image.transpose(Image.Transpose.ROTATE_90).save(stream, "PNG", exif=turned)
    image.save(tmp_path / "picture.png")
    expected = apply_kernels(pixels, "edge").maps["edge"]
    for picture in (tmp_path / "picture.png", stream.getvalue(), image, np.asarray(image)):
        torch.testing.assert_close(apply_kernels(picture, "edge").maps["edge"], expected)
    assert apply_kernels(pixels[0].numpy(), "edge").maps["edge"].shape == (1, 13, 17)


@pytest.mark.parametrize("side", [6, 12, 16])
def test_the_chain_finds_the_square_and_nothing_else(side: int) -> None:
    picture, centre = draw_shapes(side)
    found = chain(picture, square_steps(side))
    assert found.found("square") == [centre]
    assert int((found.maps["squares"]["square"] > 0).sum()) == 1
    assert int((found.maps["crossings"]["crossing"] > 0).sum()) == 1


def test_the_chain_finds_no_square_of_another_size_and_each_of_several() -> None:
    picture, _ = draw_shapes(12)
    assert chain(picture, square_steps(8)).found("square") == []
    two = torch.zeros(1, 40, 60, dtype=torch.uint8)
    for row, column in ((3, 4), (20, 40)):
        two[0, row : row + 9, column : column + 9] = 255
        two[0, row + 1 : row + 8, column + 1 : column + 8] = 0
    assert chain(two, square_steps(8)).found("square") == [(7, 8), (24, 44)]


def test_a_chain_is_each_kernel_on_the_rectified_answers_before() -> None:
    picture = a_picture()
    found = chain(picture, ["sobel", "blur"])
    first = {name: map[0].clamp(min=0) for name, map in apply_kernels(picture, "sobel").maps.items()}
    blur = np.array(KERNELS["blur"][0])
    assert list(found.maps["step2"]) == [f"blur of {name}" for name in first]
    for name, map in first.items():
        torch.testing.assert_close(found.maps["step1"][name].double(), map, rtol=1e-5, atol=1e-6)
        expected = ndimage.correlate(map.numpy(), blur, mode="nearest")
        np.testing.assert_allclose(found.maps["step2"][f"blur of {name}"].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_chain_is_a_network_that_can_be_looked_into() -> None:
    picture, (row, column) = draw_shapes()
    network = chain(picture, square_steps()).network
    assert network.text.startswith("conv 2@3x3 pad same padmode nearest relu | conv 5@5x5")
    unit = explain_unit(network, picture, list(network.stages)[2], (0, row, column))
    assert unit.following == (("ReLU", pytest.approx(unit.value)),)
    assert unit.value == pytest.approx(4 * (10 / 3 - 2.5) - 2.9, abs=1e-5)


def test_a_chain_that_cannot_be_is_said() -> None:
    picture = a_picture()
    with pytest.raises(st.NetworkError, match="at least one step"):
        chain(picture, [])
    with pytest.raises(st.NetworkError, match=r"looks at a map 'acros', .* Did you mean 'across'\?"):
        chain(picture, {"one": {"across": Detector({PICTURE: "1"})}, "two": {"all": Detector({"acros": "1"})}})
    with pytest.raises(st.NetworkError, match="even number of pixels from 6 on, got 7"):
        square_steps(7)
    with pytest.raises(st.NetworkError, match=r"no map 'sqare'\. Did you mean 'square'\?"):
        chain(picture, square_steps()).found("sqare")


def test_the_random_state_is_left_as_it_was() -> None:
    state = torch.random.get_rng_state()
    chain(a_picture(), ["blur"])
    assert torch.equal(state, torch.random.get_rng_state())


def test_drawings_show_pictures_and_answers() -> None:
    picture, _ = draw_shapes()
    sheet = apply_kernels(picture, ["blur", "sobel", "curve"]).draw()
    assert sheet.png() == apply_kernels(picture, ["blur", "sobel", "curve"]).draw().png()
    framed = chain(picture, square_steps()).draw().image
    pink = (np.asarray(framed) == (255, 45, 149)).all(2)
    assert pink.any()  # the frame about the square
    _, columns = np.nonzero(pink)
    assert columns.max() < framed.width / 4
