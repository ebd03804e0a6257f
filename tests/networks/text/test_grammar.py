from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.networks.text import NetworkTextError, parse

LENET = (
    "conv 6@5x5 pad 2 tanh | avgpool 2 | conv 16@5x5 tanh | avgpool 2 | "
    "conv 120@5x5 tanh | flatten | fc 84 tanh | fc 10"
)

SIZES = st.one_of(
    st.integers(1, 9).map(str), st.tuples(st.integers(1, 9), st.integers(1, 9)).map("{0[0]}x{0[1]}".format)
)
NUMBERS = st.floats(0, 0.99).map(repr)
SUFFIX = st.one_of(
    st.sampled_from(["bn", "lrn", "relu", "leaky", "prelu", "gelu", "scaledtanh", "softmax", "maxout 2"]),
    NUMBERS.map("dropout {}".format),
    NUMBERS.map("leaky {}".format),
)
GEOMETRY = {
    "stride": SIZES,
    "pad": st.one_of(SIZES, st.sampled_from(["same", "valid", "0"])),
    "padmode": st.one_of(
        st.sampled_from(["zeros", "mirror", "nearest", "wrap"]), st.floats(-9, 9).map("constant {}".format)
    ),
    "dilation": SIZES,
    "groups": st.sampled_from(["1", "2", "depthwise"]),
    "nobias": st.just(""),
}


@st.composite
def convolutions(draw: st.DrawFn) -> str:
    words = [f"conv {draw(st.integers(1, 99))}", draw(st.one_of(st.just(""), SIZES.map("@{}".format)))]
    for word in draw(st.lists(st.sampled_from(sorted(GEOMETRY)), unique=True)):
        words.append(f"{word} {draw(GEOMETRY[word])}")
        words.extend(draw(st.lists(SUFFIX, max_size=1)))
    return " ".join(words)


POOLS = st.builds(
    "{} {}{}{}{}".format,
    st.sampled_from(["maxpool", "avgpool", "sumpool", "l2pool", "medianpool", "blurpool"]),
    SIZES,
    st.one_of(st.just(""), SIZES.map(" stride {}".format)),
    st.one_of(st.just(""), SIZES.map(" pad {}".format)),
    st.sampled_from(["", " ceil"]),
)
LAYERS = st.one_of(
    convolutions(),
    POOLS,
    SUFFIX,
    st.sampled_from(["gap", "gmp", "adaptive avg 7", "flatten", "fixed sobel", "fc 84 nobias tanh", "fc 10 relu bn"]),
)


def _networks(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    separator = st.sampled_from(["|", " | ", "\n", " # a comment | (\n\n", " |\n"])
    return st.builds(lambda parts, between: between.join(parts), st.lists(items, min_size=1, max_size=3), separator)


def _nested(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    branch = _networks(items)
    return st.one_of(
        st.builds("{}x({})".format, st.integers(1, 5), branch),
        st.builds("add({}) {}".format, branch, SUFFIX),
        st.builds("add( {} ; {} )".format, branch, branch),
        st.builds("concat({};\n{}; {}) {}".format, branch, branch, branch, SUFFIX),
    )


NETWORKS = _networks(st.recursive(LAYERS, _nested, max_leaves=8))


@settings(deadline=None, max_examples=150)
@given(NETWORKS)
def test_what_is_printed_reads_as_the_same_network(text: str) -> None:
    network = parse(text)
    assert parse(str(network)) == network
    assert str(parse(str(network))) == str(network)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (LENET, LENET),
        ("conv 8", "conv 8@3x3"),
        ("conv1d 8@5\n\nrelu", "conv1d 8@5 | relu"),
        ("conv3d 8 stride 2x1x1", "conv3d 8@3x3x3 stride 2x1x1"),
        ("conv 8@3 relu stride 2x2 bn pad valid nobias", "conv 8@3x3 stride 2 nobias relu bn"),
        ("conv 8 pad same padmode constant -.5", "conv 8@3x3 pad same padmode constant -0.5"),
        ("maxpool 2x2 stride 2", "maxpool 2"),
        ("maxpool 3 stride 2x2", "maxpool 3 stride 2"),
        ("avgpool 3×2 ceil pad 0", "avgpool 3x2 ceil"),
        ("3x ( stem : conv 8|relu ) # three", "3x(stem: conv 8@3x3 | relu)"),
        (
            "add(conv 8 ; conv 8@1)relu|concat(gap;gmp)",
            "add(conv 8@3x3 ; conv 8@1x1) relu | concat(gap ; gmp)",
        ),
        (
            "fixed kirsch | leaky | leaky 1e-3 | dropout 0.5",
            "fixed kirsch | leaky | leaky 0.001 | dropout 0.5",
        ),
        (
            "conv 12 groups depthwise padmode mirror pad 1",
            "conv 12@3x3 pad 1 padmode mirror groups depthwise",
        ),
        ("adaptive avg 7x7 | fc 10 nobias", "adaptive avg 7 | fc 10 nobias"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "pointed_at", "sentence", "fix"),
    [
        ("conv 6@5x5 rellu", "rellu", "no property or suffix 'rellu'", "Did you mean 'relu'?"),
        ("cnv 6", "cnv", "no layer 'cnv'", "Did you mean 'conv'?"),
        ("conv16@3x3", "conv16", "no layer 'conv16'", "Did you mean 'conv 16'?"),
        ("conv 8 conv 8", "conv", "'conv' must be a layer of its own", 'Try "… | conv".'),
        ("maxpool 2 relu", "relu", "'relu' must be a layer of its own", 'Try "… | relu".'),
        ("fc 10 stride 2", "stride", "'stride' does not apply", "Remove it."),
        ("stride 2", "stride", "'stride' belongs to a layer", "on the same line"),
        ("add(conv 8", "(", "this parenthesis is never closed", 'Add ")"'),
        ("add conv 8", "conv", "an opening parenthesis must stand here, not 'conv'", '"( … )"'),
        ("conv 8)", ")", "')' stands outside of any parentheses", "Remove it."),
        ("conv 8 ; relu", ";", "';' stands outside of any parentheses", "Remove it."),
        ("add(gap; gap; gap)", ";", 'no more than two branches and then ")" must stand here', ""),
        ("conv relu", "relu", "the number of filters must be a whole number, not 'relu'", 'Try "2".'),
        ("conv 8@relu", "relu", "the filter size must be a size such as 3 or 3x5, not 'relu'", 'Try "3".'),
        ("conv 8 stride -1", "-1", "the stride must be a size such as 3 or 3x5, not '-1'", 'Try "3".'),
        ("conv 8 stride 0", "0", "the stride must be at least 1, not 0", 'Try "1".'),
        ("conv 8@3x3x3", "3x3x3", "the filter size must have one or 2 numbers here, not 3", 'Try "3x3".'),
        ("conv 8 pad some", "some", "one of same, valid must stand here, not 'some'", "Did you mean 'same'?"),
        ("conv 8 stride 2 stride 2", "stride", "'stride' is written twice", "Remove one"),
        ("fixed sobl", "sobl", "must stand here, not 'sobl'", "Did you mean 'sobel'?"),
        ("dropout 1.5", "1.5", "must lie from 0 to 0.999, not 1.5", ""),
        ("dropout", "", "must be a number, not the end of the text", ""),
        (
            "conv 999999999999@1x1",
            "999999999999",
            "must be at most 1,000,000, not 999999999999",
            "smaller number",
        ),
        ("conv 8 | | relu", "|", "a layer must stand here, not '|'", "Remove what is too much"),
        ("conv 8 |", "", 'after "|" a layer must stand here, not the end of the text', ""),
        ("", "", "a layer must stand here, not the end of the text", "conv 16@3x3 relu"),
        ("conv 8 & relu", "&", "the character '&' has no meaning", "Remove it"),
        ("_a: relu", "_a", "a label must begin with a letter", 'Try "a:"'),
        ("0x(relu)", "0x", "copies must be at least 1, not 0", 'Try "1x".'),
        ("999x(999x(relu))", "999x", "at most 10,000 layers", "Repeat fewer times."),
        (f"{'9' * 5000}x(relu)", "9" * 5000 + "x", "at most 10,000 layers", "Repeat fewer times."),
        ("relu\n" * 50_000, "r", "at most 200,000 characters, and this has 250,000", "3x( … )"),
        ("add(" * 10_000, "(", "must not be nested more than 50 deep", ""),
    ],
)
def test_a_mistake_is_pointed_at_and_mended(text: str, pointed_at: str, sentence: str, fix: str) -> None:
    with pytest.raises(NetworkTextError) as caught:
        parse(text)
    error = caught.value
    assert sentence in error.sentence
    assert fix in error.fix
    assert text[error.span.start : error.span.end] == pointed_at


def test_the_carets_stand_exactly_under_the_mistake() -> None:
    with pytest.raises(NetworkTextError) as caught:
        parse("conv 8\nstem: conv 16@5x5 strid 3 | relu\ngap")
    assert str(caught.value) == (
        "stem: conv 16@5x5 strid 3 | relu\n"
        "                  ^^^^^ there is no property or suffix 'strid'.\n"
        "                        Did you mean 'stride'?"
    )


def test_a_long_line_is_cut_around_the_mistake() -> None:
    with pytest.raises(NetworkTextError) as caught:
        parse(" | ".join(["relu"] * 200) + " | rellu | " + " | ".join(["relu"] * 200))
    line, carets, _ = str(caught.value).split("\n")
    assert len(line) <= 100
    assert line[carets.index("^") : carets.rindex("^") + 1] == "rellu"


WORDS = st.sampled_from([
    "conv", "conv1d", "fc", "maxpool", "3", "3x3", "3x(", "(", ")", ";", "|", "\n", "@", ":", "stride",
    "pad", "same", "0", "999999999999", "1e999", "-1", ".5", "relu", "add(", "concat(", "#", "x", "×",
    "bn", "maxout", "dropout", "label", "gap", "flatten", "fixed", "curve", "groups", "depthwise",
    "nobias", "padmode", "constant",
])  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(WORDS, max_size=20).map(" ".join),
        st.lists(WORDS, max_size=9).map("".join),
    )
)
def test_any_text_is_read_or_refused_cleanly(text: str) -> None:
    try:
        network = parse(text)
    except NetworkTextError:
        return
    assert parse(str(network)) == network
