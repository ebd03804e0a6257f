from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import striate as st
from striate.inspection.filters import parallel_from
from striate.training.doctor import before
from striate.training.doctor.evidence import Evidence, loss_of_no_answer
from striate.training.doctor.look import measured_layers
from tests.conftest import make_image_set
from tests.training.doctor.conftest import found, make_evidence, make_look, make_run

RULES = (
    before.structure,
    before.one_label,
    before.blank_pictures,
    before.tiny_set,
    before.class_without_pictures,
    before.small_norm_batch,
    before.norm_momentum,
    before.momentum,
    before.dropout,
    before.smoothing,
    before.unnormalised,
    before.loud_start,
    before.duplicates,
)


def test_a_healthy_run_has_nothing(healthy: Evidence) -> None:
    for rule in RULES:
        assert found(rule, healthy) == []


def changed(pictures: int = 240, **fields: torch.Tensor) -> st.ImageSet:
    images = make_image_set(pictures=pictures)
    split = images.train
    own = {"images": split.images, "labels": split.labels, "spec": split.spec, "origins": split.origins} | fields
    return st.ImageSet(st.Split(**own), images.val, images.test, name="changed")  # type: ignore[arg-type]


def test_pictures_and_labels() -> None:
    train = make_image_set(pictures=240).train
    one = make_run(images=changed(labels=torch.zeros_like(train.labels)))
    assert found(before.one_label, make_evidence(one)) == [("one-label-only", "error")]
    blank = train.images.clone()
    blank[::3] = 7
    assert found(before.blank_pictures, make_evidence(make_run(images=changed(images=blank)))) == [
        ("constant-pictures", "warning")
    ]
    blank[:] = train.images[:1]
    assert found(before.blank_pictures, make_evidence(make_run(images=changed(images=blank)))) == [
        ("constant-pictures", "error")
    ]
    assert found(before.tiny_set, make_evidence(make_run(images=make_image_set(pictures=60)))) == [
        ("tiny-training-set", "warning")
    ]


@pytest.mark.parametrize(("text", "code"), [
    ("conv 4@3x3 | conv 4@3x3 relu | gap | fc 3", "no-non-linearity"),
    ("conv 4@3x3 relu | gap | fc 3 softmax", "softmax-before-loss"),
    ("conv 4@3x3 relu | conv 4@3x3 relu | gap | fc 3", None),
])  # fmt: skip
def test_structure_is_the_advice_on_networks(text: str, code: str | None) -> None:
    images = make_image_set()
    run = make_run(st.build(text, images.spec), images)
    evidence = make_evidence(run, structure=before.advice(run))
    assert found(before.structure, evidence) == ([(code, "warning")] if code else [])


def test_pictures_of_one_colour_each_are_not_blank() -> None:
    train = make_image_set(pictures=240).train
    swatches = torch.arange(len(train), dtype=torch.uint8)[:, None, None, None].expand_as(train.images).clone()
    assert found(before.blank_pictures, make_evidence(make_run(images=changed(images=swatches)))) == []
    blank = torch.where(torch.arange(len(train))[:, None, None, None] % 2 == 0, 9, swatches)
    assert found(before.blank_pictures, make_evidence(make_run(images=changed(images=blank)))) == [
        ("constant-pictures", "warning")
    ]


def test_a_class_of_blank_pictures_is_named_though_others_are_blank_in_another_way() -> None:
    train = make_image_set(pictures=240).train
    labels, images = train.labels.clone(), train.images.clone()
    few, others = (train.labels == 0).nonzero()[:, 0], (train.labels == 2).nonzero()[:, 0]
    labels[few[10:]] = 1
    images[few[:10]], images[others[:20]] = 0, 255
    run = make_run(images=changed(images=images, labels=labels))
    (finding,) = before.blank_pictures(make_evidence(run))
    assert (finding.code, finding.where) == ("constant-pictures", run.spec.task.class_names[0])


def test_the_weights_of_norms_are_no_filters() -> None:
    norm = nn.LayerNorm([16, 6, 6])
    network = nn.Sequential(nn.Conv2d(1, 16, 3), norm, nn.Flatten(), nn.Linear(576, 3))
    assert found(before.duplicates, make_evidence(make_run(network))) == []
    assert [layer.name for layer in measured_layers(network)] == ["0.weight", "3.weight"]


def test_labels_are_counted_by_class() -> None:
    labels = (torch.rand(200, 10, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8)
    images = st.load_data((np.zeros((200, 8, 8), np.uint8), labels.numpy()))
    evidence = make_evidence(make_run(images=images))
    assert found(before.tiny_set, evidence) == []  # 75 for each label, though only 15 for each of ten


def test_chance_counts_auxiliary_heads() -> None:
    images = make_image_set()
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    network.auxiliary = {"a": 0.3, "b": 0.5}  # type: ignore[assignment]
    assert loss_of_no_answer(make_run(network, images)) == pytest.approx(1.8 * math.log(3))


def test_norms_of_frozen_stages_see_no_batches() -> None:
    network = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), nn.Flatten(), nn.Linear(144, 3))
    frozen = st.Recipe(epochs=10).changed(phases=[{"epochs": 10, "frozen": ["0"]}]).phases
    assert found(before.small_norm_batch, make_evidence(make_run(network, batch_size=2, phases=frozen))) == []
    network[0][1].momentum = 1e-3  # type: ignore[index]
    assert found(before.norm_momentum, make_evidence(make_run(network, phases=frozen))) == []
    assert found(before.norm_momentum, make_evidence(make_run(network))) == [("batch-norm-momentum", "warning")]


def test_norms_and_momentum() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    assert found(before.small_norm_batch, make_evidence(make_run(network, batch_size=2))) == [
        ("batch-norm-small-batch", "warning")
    ]
    assert found(before.small_norm_batch, make_evidence(make_run(batch_size=2))) == []
    assert found(before.norm_momentum, make_evidence(make_run(network))) == []
    network[1].momentum = 1e-3  # type: ignore[assignment]
    assert found(before.norm_momentum, make_evidence(make_run(network))) == [("batch-norm-momentum", "warning")]
    assert found(before.momentum, make_evidence(make_run(momentum=0.999))) == [("momentum-too-high", "warning")]
    assert found(before.momentum, make_evidence(make_run(momentum=0.95))) == []


@pytest.mark.parametrize(("mean", "deviation", "is_found"), [
    (0.0, 1.0, False), (0.3, 0.35, False), (-0.9, 1.5, False), (73.0, 90.0, True), (0.0, 255.0, True),
    (0.0, 0.004, True), (4.0, 1.0, True),
])  # fmt: skip
def test_what_the_first_layer_is_given(mean: float, deviation: float, is_found: bool) -> None:
    evidence = make_evidence(None, make_look(first_inputs=((mean, deviation),)))
    assert bool(found(before.unnormalised, evidence)) == is_found


def test_a_loud_start() -> None:
    assert found(before.loud_start, make_evidence(None, make_look(start=(5.0, 1.0986)))) == [
        ("loss-far-from-chance", "warning")
    ]
    assert found(before.loud_start, make_evidence(None, make_look(start=(2.0, 1.0986)))) == []
    alone = make_look(start=(5.0, 1.0986), logits=torch.randn(1, 3))  # of one picture, it is a matter of luck
    assert found(before.loud_start, make_evidence(None, alone)) == []


def test_chance_is_the_logarithm_of_k() -> None:
    assert loss_of_no_answer(make_run()) == pytest.approx(math.log(3), abs=1e-4)


def test_chance_is_of_all_pictures_where_classes_have_weights() -> None:
    images = make_image_set(pictures=300)
    labels = torch.tensor([0] * 190 + [1] * 9 + [2])
    split = st.Split(images.train.images[:200], labels, images.spec, images.train.origins[:200])
    run = make_run(images=st.ImageSet(split, images.val, images.test, name="x"), class_weights="balanced")
    assert run.class_weights is not None
    expected = sum(float(run.class_weights[k]) for k in labels.tolist()) / 200 * math.log(3)
    assert loss_of_no_answer(run) == pytest.approx(expected, rel=0.02)
    several = make_run(images=several_labels(), class_weights="balanced")
    assert several.class_weights is not None
    has = several.learned.labels.double()  # type: ignore[union-attr]
    by_hand = (has * several.class_weights.double() + 1 - has).mean() * math.log(2)
    assert loss_of_no_answer(several) == pytest.approx(float(by_hand), rel=1e-3)


def several_labels() -> st.ImageSet:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 255, (60, 8, 8), generator=generator, dtype=torch.uint8)
    return st.load_data((pictures.numpy(), torch.randint(0, 4, (60, 3), generator=generator).eq(0).long().numpy()))


def test_a_class_that_val_has_and_train_has_not() -> None:
    images = make_image_set()
    keep = images.train.labels != 1
    split = images.train
    origins = [one for one, kept in zip(split.origins, keep.tolist(), strict=True) if kept]
    train = st.Split(split.images[keep], split.labels[keep], split.spec, origins)
    run = make_run(images=st.ImageSet(train, images.val, images.test, name="x"))
    assert found(before.class_without_pictures, make_evidence(run)) == []  # where nothing is chosen by val
    run.val = images.val
    assert found(before.class_without_pictures, make_evidence(run)) == [("class-without-pictures", "warning")]


def test_duplicates_are_counted_as_by_hand() -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 5, 3, 3)
    weight[4:9] = 2 * weight[0]
    weight[9] = 0  # a dead filter has no direction
    weight[10] = -weight[1]  # nor is a negative a duplicate
    share, bound = before.duplicate_share(weight)
    assert bound == parallel_from(16, 45)
    count = 0
    for i in range(16):
        cosines = [
            float(nn.functional.cosine_similarity(weight[i].flatten(), weight[j].flatten(), 0)) for j in range(i)
        ]
        count += any(cosine >= bound - 1e-6 for cosine in cosines)
    assert share == count / 16 == 5 / 16
    network = nn.Sequential(nn.Conv2d(5, 16, 3))
    with torch.no_grad():
        network[0].weight.copy_(weight)  # type: ignore[operator]
    assert found(before.duplicates, make_evidence(make_run(network))) == [("duplicate-filters", "warning")]


def test_a_class_or_a_channel_without_contrast() -> None:
    train = make_image_set(pictures=240).train
    black = train.images.clone()
    black[train.labels == 1] = 0
    black[train.labels == 0] = train.images[train.labels == 0]
    share = float((train.labels == 1).double().mean())
    run = make_run(images=changed(images=black))
    assert share > before.MOST_BLANK  # so a part of it
    keep = ((train.labels != 1) | (torch.arange(len(train)) % 4 == 0)).nonzero().flatten()
    few = st.ImageSet(run.learned[keep], train, train, name="few")  # type: ignore[index, arg-type]
    (finding,) = before.blank_pictures(make_evidence(make_run(images=few)))
    assert (finding.code, finding.where) == ("constant-pictures", train.spec.task.class_names[1])
    coloured = make_image_set(pictures=60, channels=3)
    pixels = coloured.train.images.clone()
    pixels[:, 1] = 9
    still = st.Split(pixels, coloured.train.labels, coloured.spec, coloured.train.origins)
    evidence = make_evidence(make_run(images=st.ImageSet(still, coloured.val, coloured.test, name="x")))
    (finding,) = before.blank_pictures(evidence)
    assert (finding.code, finding.where) == ("constant-channel", "channel 1")


def test_dropout_smoothing_and_a_momentum_that_keeps_nothing() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.95), nn.Linear(64, 3))
    assert found(before.dropout, make_evidence(make_run(network))) == [("dropout-too-high", "warning")]
    network[1].p = 0.75  # type: ignore[assignment]
    assert found(before.dropout, make_evidence(make_run(network))) == []
    assert found(before.smoothing, make_evidence(make_run(label_smoothing=0.95))) == [
        ("label-smoothing-too-high", "warning")
    ]
    assert found(before.smoothing, make_evidence(make_run(label_smoothing=0.4))) == []
    norm = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=0.99), nn.Flatten(), nn.Linear(144, 3))
    assert found(before.norm_momentum, make_evidence(make_run(norm))) == [("batch-norm-momentum", "warning")]
    norm[1].momentum = 0.3  # type: ignore[assignment]
    assert found(before.norm_momentum, make_evidence(make_run(norm))) == []


def test_small_norm_batches_are_those_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    assert found(before.small_norm_batch, make_evidence(make_run(network, batch_size=8))) == []
    monkeypatch.setattr("striate.core.processes.world", lambda: 4)
    assert found(before.small_norm_batch, make_evidence(make_run(network, batch_size=8))) == [
        ("batch-norm-small-batch", "warning")
    ]
    assert found(before.small_norm_batch, make_evidence(make_run(network, batch_size=8, sync_norm=True))) == []


def test_one_linear_pair_of_many_layers_wastes_weights_and_no_more() -> None:
    images = make_image_set()
    text = "conv 4@3x3 | conv 4@3x3 relu | 4x(conv 4@3x3 pad 1 relu) | gap | fc 3"
    run = make_run(st.build(text, images.spec), images)
    evidence = make_evidence(run, structure=before.advice(run))
    assert found(before.structure, evidence) == [("no-non-linearity", "note")]
