"""The doctor on more faults and more healthy runs, thought of after its rules and its two tables stood.

Other pictures and networks than in `doctor`: MNIST, CIFAR-10 and photographs of clothes at 48×48, two digits side by
side as 47 classes or as several labels; feed-forward, LeNet-5, network in network, DenseNet, modules of one's own.

    python benchmarks/doctor_tried.py [part of a name]
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

import doctor
import striate as st
from doctor import Case, Plant, Table, Wrapped, few, layers_of, scaled
from trials import data_folder, report

TRAIN, VAL = 1_000, 400
RECIPE = {"epochs": 4, "batch_size": 64, "learning_rate": 3e-3}

# -------------------------------------------------------------------------------------------------------- pictures


@functools.cache
def mnist() -> st.ImageSet:
    """Return MNIST, complete."""
    return st.load_data("mnist", data_dir=data_folder("mnist"))


def pairs(*, several: bool) -> st.ImageSet:
    """Return two digits side by side at 14×14: 47 pairs as classes, or the digits that are there as labels."""
    whole = st.load_data("mnist", data_dir=data_folder("mnist"), size=14).train
    digits, labels = whole.images[:20_000], whole.labels[:20_000]
    left, right = torch.arange(0, 20_000, 2), torch.arange(1, 20_000, 2)
    pictures = torch.cat([digits[left], digits[right]], dim=3)[:, 0]
    number = 10 * labels[left] + labels[right]
    if several:
        here = torch.zeros(len(left), 10, dtype=torch.int64)
        here.scatter_(1, labels[left][:, None], 1).scatter_(1, labels[right][:, None], 1)
        return st.load_data((pictures[:4_000].numpy(), here[:4_000].numpy()))
    keep = number < 47
    return st.load_data((pictures[keep].numpy(), number[keep].numpy()))


@functools.cache
def pictures(name: str) -> st.ImageSet:
    """Return pictures by name: ``mnist@16``, ``two``, ``ten``, ``imbalanced`` and so on."""
    if name == "several":
        return pairs(several=True)
    if name == "47 pairs":
        return pairs(several=False)
    if name == "two classes":
        return relabelled(mnist(), {3: 0, 8: 1}, 1_500)
    if name == "one to ten":
        return one_to_ten(doctor.cut(mnist(), torch.arange(4_000), torch.arange(VAL)))
    if name == "10,000 pictures":
        return doctor.cut(mnist(), torch.arange(10_000), torch.arange(VAL))
    if name.startswith("mnist"):
        side = int(name.partition("@")[2] or 28)
        whole = mnist() if side == 28 else st.load_data("mnist", data_dir=data_folder("mnist"), size=side)
        return doctor.cut(whole, torch.arange(TRAIN), torch.arange(VAL))
    if name.startswith("cifar10"):
        return doctor.cut(doctor.pictures(name), torch.arange(TRAIN), torch.arange(VAL))
    return doctor.pictures(name)


def relabelled(images: st.ImageSet, new: dict[int, int], count: int) -> st.ImageSet:
    """Keep some classes under other numbers."""
    parts = []
    for split, most in ((images.train, count), (images.val, count // 3)):
        keep = torch.tensor([int(label) in new for label in split.labels]).nonzero().flatten()[:most]
        parts.append((split.images[keep][:, 0].numpy(), [new[int(label)] for label in split.labels[keep]]))
    pixels, labels = zip(*parts, strict=True)
    return st.load_data((np.concatenate(pixels), np.array([*labels[0], *labels[1]])))


def one_to_ten(images: st.ImageSet) -> st.ImageSet:
    """Keep a tenth of every third class of train and val."""
    splits = []
    for split in (images.train, images.val):
        chance = torch.rand(len(split), generator=torch.Generator().manual_seed(0))
        splits.append(split[((split.labels % 3 != 0) | (chance < 0.1)).nonzero().flatten()])
    return st.ImageSet(splits[0], splits[1], images.test, name=images.name)


# -------------------------------------------------------------------------------------------------------- networks


@final
class Mixing(nn.Module):
    """A small network of one's own with GELU and layer norm, and a branch in its Python."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(channels, 32, 4, stride=4)
        self.norm = nn.LayerNorm(32)
        self.wide, self.back = nn.Linear(32, 64), nn.Linear(64, 32)
        self.across = nn.Linear((side // 4) ** 2, (side // 4) ** 2)
        self.head = nn.Linear(32, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (N, K)."""
        tokens = nn.functional.gelu(self.patch(pictures)).flatten(2).transpose(1, 2)
        tokens = tokens + self.across(tokens.transpose(1, 2)).transpose(1, 2)
        tokens = tokens + self.back(nn.functional.gelu(self.wide(self.norm(tokens))))
        return self.head(tokens.mean(1))  # type: ignore[no-any-return]


def mixing(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Take `Mixing` instead."""
    torch.manual_seed(0)
    shape = images.spec.input
    return Mixing(shape.channels, shape.height, images.spec.task.classes), images


def own(*, bias: float = 0.0) -> Plant:
    """Take a plain module of one's own, with the biases of a layer as given."""

    def plant(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Conv2d(images.spec.input.channels, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2),
            nn.ReLU(), nn.Flatten(), nn.LazyLinear(64), nn.ReLU(), nn.Linear(64, images.spec.task.classes),
        )  # fmt: skip
        made(torch.zeros(2, *images.train.images.shape[1:]))
        if bias:
            nn.init.constant_(made[5].bias, bias)  # type: ignore[arg-type]
        return made, images

    return plant


NIN = (
    "conv 24@5x5 pad 2 bn relu | 2x(conv 16@1x1 bn relu) | maxpool 2 | conv 32@3x3 pad 1 bn relu | conv 32@1x1 bn relu "
    "| conv 10@1x1 | gap"
)
VGG = (
    "2x(conv 16@3x3 pad 1 relu) | maxpool 2 | 2x(conv 32@3x3 pad 1 relu) | maxpool 2 | fc 128 relu dropout 0.5 | fc 10"
)
VGG_BN = VGG.replace("pad 1 relu", "pad 1 bn relu")
DENSE = (
    "conv 16@3x3 stride 3 pad 1 bn relu | 3x(concat(bn | relu | conv 8@3x3 pad 1; bn | relu | conv 8@1x1)) | "
    "conv 24@1x1 bn relu | "
    "avgpool 2 | 3x(concat(bn | relu | conv 8@3x3 pad 1; bn | relu | conv 8@1x1)) | bn | relu | gap | fc 10"
)
COARSE = "conv 16@5x5 stride 3 bn relu | conv 32@3x3 pad 1 bn relu | maxpool 2 | conv 32@3x3 bn relu | gap | fc 10"
SIGMOIDS = "12x(fc 64 sigmoid) | fc 10"
DEEP = "conv 16@3x3 pad 1 relu | maxpool 2 | 18x(conv 16@3x3 pad 1 relu) | gap | fc 10"
SHALLOW = "conv 16@5x5 stride 2 bn relu | conv 32@3x3 stride 2 bn relu | gap | fc {}"

# ---------------------------------------------------------------------------------------------------------- faults


def then(*plants: Plant) -> Plant:
    """Do one after the other."""

    def plant(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
        for one in plants:
            network, images = one(network, images)
        return network, images

    return plant


def around(
    *, before: Callable[[Tensor], Tensor] | None = None, after: Callable[[Tensor], Tensor] | None = None
) -> Plant:
    """Do something before or after the network."""
    return lambda network, images: (Wrapped(network, before=before, after=after), images)


def on_pictures(change: Callable[[Tensor, Tensor], Tensor], *, val: bool = False, train: bool = True) -> Plant:
    """Change pictures (N, C, H, W), with their labels at hand, of train or val or both."""

    def plant(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
        def changed(split: st.Split) -> st.Split:
            return st.Split(change(split.images.clone(), split.labels), split.labels, split.spec, split.origins)

        parts = (changed(images.train) if train else images.train, changed(images.val) if val else images.val)
        return network, st.ImageSet(*parts, images.test, name=images.name)

    return plant


def on_labels(change: Callable[[Tensor], Tensor], *, val: bool = False, train: bool = True) -> Plant:
    """Change labels (N,) of train or val or both."""

    def plant(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
        def changed(split: st.Split) -> st.Split:
            return st.Split(split.images, change(split.labels.clone()), split.spec, split.origins)

        parts = (changed(images.train) if train else images.train, changed(images.val) if val else images.val)
        return network, st.ImageSet(*parts, images.test, name=images.name)

    return plant


def scale_of_pixels(mean: float, std: float) -> Plant:
    """Write another mean and std into the Spec."""

    def plant(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
        channels = images.spec.input.channels
        update = {"mean": (mean,) * channels, "std": (std,) * channels}
        spec = images.spec.model_copy(update={"input": images.spec.input.model_copy(update=update)})
        splits = [st.Split(o.images, o.labels, spec, o.origins) for o in (images.train, images.val, images.test)]
        return network, st.ImageSet(*splits, name=images.name)

    return plant


def on_modules(kind: type[nn.Module], **values: Any) -> Plant:
    """Set attributes of all modules of a kind."""

    def plant(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
        for module in network.modules():
            if isinstance(module, kind):
                for name, value in values.items():
                    setattr(module, name, value)
        return network, images

    return plant


@torch.no_grad()
def same_weights(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Start all weights of the second layer at 0.01."""
    nn.init.constant_(layers_of(network)[1].weight, 0.01)
    return network, images


@torch.no_grad()
def infinite(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Make one weight of a layer infinite."""
    layers_of(network)[1].weight.flatten()[3] = float("inf")
    return network, images


@torch.no_grad()
def loud_layers(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Start all layers at 6 times He's deviation."""
    for layer in layers_of(network):
        nn.init.normal_(layer.weight, std=6 * (2 / layer.weight[0].numel()) ** 0.5)
    return network, images


@torch.no_grad()
def he(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Start all layers by He's deviation."""
    torch.manual_seed(0)
    for layer in layers_of(network):
        nn.init.normal_(layer.weight, std=(2 / layer.weight[0].numel()) ** 0.5)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return network, images


def frozen_but_head(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Let nothing learn but the last layer."""
    network.requires_grad_(False)
    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    layers[-1].requires_grad_(True)
    return network, images


def black(pictures: Tensor, labels: Tensor) -> Tensor:
    """Make the pictures of class 4 black."""
    pictures[labels == 4] = 0
    return pictures


def the_first(pictures: Tensor, labels: Tensor) -> Tensor:
    """Make all pictures the first one."""
    return pictures[:1].expand_as(pictures).clone()


def one_black(pictures: Tensor, labels: Tensor) -> Tensor:
    """Make one picture black."""
    pictures[123] = 0
    return pictures


def no_green(pictures: Tensor, labels: Tensor) -> Tensor:
    """Make the second channel 0."""
    pictures[:, 1] = 0
    return pictures


def off_by_one(labels: Tensor) -> Tensor:
    """Give 40 % the class after theirs."""
    wrong = torch.rand(len(labels), generator=torch.Generator().manual_seed(3)) < 0.4
    return torch.where(wrong, (labels + 1) % 10, labels)


def any_label(labels: Tensor, share: float = 0.4) -> Tensor:
    """Give so many any class."""
    generator = torch.Generator().manual_seed(3)
    wrong = torch.rand(len(labels), generator=generator) < share
    return torch.where(wrong, torch.randint(0, 10, labels.shape, generator=generator), labels)


def logarithm(pictures: Tensor) -> Tensor:
    """Add the logarithm of how much the brightest pixel is above the darkest: none at all in a black picture."""
    contrast = pictures.flatten(1).amax(1) - pictures.flatten(1).amin(1)
    return pictures + 0.01 * contrast.log()[:, None, None, None]


def permuted(labels: Tensor) -> Tensor:
    """Number the classes in another order."""
    return (labels + 5) % 10


def gradient_cut(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Cut the last but one layer's gradient."""
    layers_of(network)[-2].weight.register_hook(torch.zeros_like)
    return network, images


@final
class Backwards(nn.Module):
    """Eight layers that are registered from the last one to the first."""

    def __init__(self, pixels: int, activation: nn.Module) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.body = nn.ModuleList(nn.Linear(64, 64) for _ in range(8))
        self.first, self.activation = nn.Linear(pixels, 64), activation

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (N, K)."""
        features = self.activation(self.first(pictures.flatten(1)))
        for layer in reversed(self.body):
            features = self.activation(layer(features))
        return self.head(features)  # type: ignore[no-any-return]


def backwards(activation: nn.Module) -> Plant:
    """Take `Backwards` instead."""

    def plant(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
        torch.manual_seed(0)
        return Backwards(images.train.images[0].numel(), activation), images

    return plant


def unused(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Give the network layers that it does not use."""
    network.spare = nn.ModuleList(nn.Linear(8, 8) for _ in range(9))
    return network, images


def small_head(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Start the last layer at a deviation of 0.001."""
    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    nn.init.normal_(layers[-1].weight, std=1e-3)
    return network, images


HIGH = ("learning-rate-too-high",)
SGD = {"optimizer": "sgd", "weight_decay": 0.0}
FAULTS: tuple[tuple[str, Case], ...] = (
    ("mnist", Case("learning rate × 100, LeNet-5", HIGH, {**SGD, "learning_rate": 10.0}, "lenet5")),
    ("mnist", Case("learning rate × 100, AdamW, LeNet-5", HIGH, {"learning_rate": 0.3}, "lenet5")),
    ("clothing@48", Case("learning rate × 100, clothing", HIGH, {"learning_rate": 0.3}, COARSE)),
    ("mnist", Case("learning rate × 100, feed-forward", HIGH, {"learning_rate": 0.3}, "feedforward1")),
    ("mnist", Case("learning rate × 100, one layer", HIGH, {**SGD, "learning_rate": 10.0}, "feedforward0")),
    ("cifar10@16", Case("learning rate × 100, Muon", HIGH, {"optimizer": "muon", "learning_rate": 2.0}, NIN)),
    ("mnist", Case("learning rate × 100, RMSprop", HIGH, {"optimizer": "rmsprop", "learning_rate": 0.1}, "lenet5")),
    ("cifar10@16", Case("learning rate ÷ 1000, NIN", ("learning-rate-too-low",), {"learning_rate": 3e-6}, NIN)),
    ("mnist", Case("learning rate ÷ 1000, LeNet-5", ("learning-rate-too-low",), {**SGD, "learning_rate": 1e-4},
                   "lenet5")),
    ("mnist", Case("learning rate ÷ 1000, feed-forward", ("learning-rate-too-low",), {"learning_rate": 3e-6},
                   "feedforward2")),
    ("mnist", Case("logarithm of 0 in a black picture", ("non-finite-picture",), {}, "lenet5",
                   plant=then(on_pictures(one_black), around(before=logarithm)))),
    ("cifar10@16", Case("an infinite weight", ("non-finite-weights", "overflow"), {}, VGG_BN, plant=infinite)),
    ("mnist", Case("labels shuffled, feed-forward", ("labels-shuffled",), {"epochs": 8}, "feedforward1",
                   plant=doctor.shuffled)),
    ("clothing@48", Case("labels shuffled, clothing", ("labels-shuffled",), {}, SHALLOW.format(10),
                         plant=doctor.shuffled)),
    ("mnist", Case("40 % of the labels off by one", ("labels-noisy", "val-labels-differ"), {}, "lenet5",
                   plant=on_labels(off_by_one))),
    ("mnist", Case("40 % off by one, val too", ("labels-noisy",), {"epochs": 8}, "lenet5",
                   plant=on_labels(off_by_one, val=True))),
    ("mnist", Case("40 % of the labels at random", ("labels-noisy",), {"epochs": 8}, SHALLOW.format(10),
                   plant=on_labels(any_label))),
    ("mnist", Case("classes of val numbered otherwise", ("val-labels-differ",), {}, "lenet5",
                   plant=on_labels(permuted, val=True, train=False))),
    ("mnist", Case("pixels from 0 to 255", ("input-not-normalised",), {}, "lenet5",
                   plant=scale_of_pixels(0.0, 1 / 255))),
    ("cifar10@16", Case("mean and std × 255", ("input-not-normalised",), {}, NIN, plant=scale_of_pixels(121.0, 63.0))),
    ("clothing@48", Case("pixels × 255 in the network", ("input-not-normalised",), {}, DENSE,
                         plant=around(before=lambda pictures: pictures * 255))),
    ("cifar10@16", Case("all of one class", ("one-label-only",), {}, NIN, plant=doctor.one_label)),
    ("mnist", Case("dead ReLUs, own module", ("dead-units",), {}, plant=own(bias=-10.0))),
    ("cifar10@16", Case("dead ReLUs by SGD at 0.5", ("dead-units", *HIGH), {**SGD, "learning_rate": 0.5}, VGG)),
    ("mnist", Case("l2 of 1, LeNet-5", ("penalty-out-of-scale",), {**SGD, "l2": 1.0, "learning_rate": 0.05},
                   "lenet5")),
    ("cifar10@16", Case("weight decay of 10", ("penalty-out-of-scale",), {"weight_decay": 10.0}, VGG_BN)),
    ("mnist", Case("no non-linearity, fc", ("no-non-linearity",), {}, "fc 100 | fc 50 | fc 10")),
    ("cifar10@16", Case("40 pictures", ("tiny-training-set",), {"batch_size": 8}, NIN, plant=few(40))),
    ("mnist", Case("filters copied, LeNet-like", ("duplicate-filters",), {}, VGG, plant=doctor.copied_filters)),
    ("cifar10@16", Case("a layer's weights all alike", ("duplicate-filters",), {}, VGG_BN, plant=same_weights)),
    ("mnist", Case("twelve sigmoids, fully connected", ("vanishing-gradients", "answers-alike"), {}, SIGMOIDS)),
    ("mnist", Case("all pictures the same", ("constant-pictures",), {}, "lenet5",
                   plant=on_pictures(the_first))),
    ("cifar10@16", Case("no green", ("constant-channel",), {}, NIN, plant=on_pictures(no_green, val=True))),
    ("cifar10@16", Case("momentum 0.999", ("momentum-too-high",), {**SGD, "momentum": 0.999, "learning_rate": 0.05},
                          NIN)),
    ("mnist", Case("all weights 0", ("no-gradient", "answers-alike"), {}, VGG, plant=scaled(0.0, slice(None)))),
    ("mnist", Case("all weights × 10", ("loss-far-from-chance", "exploding-gradients"), {}, "lenet5",
                   plant=scaled(10.0, slice(None)))),
    ("cifar10@16", Case("batch norm momentum 0", ("batch-norm-momentum",), {}, VGG_BN,
                     plant=on_modules(nn.BatchNorm2d, momentum=0.0))),
    ("cifar10@16", Case("batch norm momentum 1", ("batch-norm-momentum",), {}, VGG_BN,
                     plant=on_modules(nn.BatchNorm2d, momentum=1.0))),
    ("mnist", Case("dropout 0.95", ("dropout-too-high",), {}, VGG, plant=on_modules(nn.Dropout, p=0.95))),
    ("mnist", Case("softmax at the end", ("softmax-before-loss",), {}, plant=then(
        own(), around(after=lambda logits: logits.softmax(1))))),
    ("mnist", Case("sigmoid at the end", ("activation-before-loss",), {}, "lenet5", plant=around(after=torch.sigmoid))),
    ("cifar10@16", Case("ReLU at the end", ("activation-before-loss",), {}, NIN, plant=around(after=torch.relu))),
    ("cifar10@16", Case("tanh at the end", ("activation-before-loss",), {}, VGG_BN, plant=around(after=torch.tanh))),
    ("mnist", Case("batches of 1 with batch norm", ("batch-norm-small-batch",), {"batch_size": 1, "epochs": 1},
                   SHALLOW.format(10), plant=few(300))),
    ("cifar10@16", Case("frozen but for the head", ("frozen-weights",), {}, VGG_BN, plant=frozen_but_head)),
    ("mnist", Case("val inverted", ("val-unlike-train",), {}, "lenet5",
                   plant=on_pictures(lambda pictures, labels: 255 - pictures, train=False, val=True))),
    ("cifar10@16", Case("val darker", ("val-unlike-train",), {}, NIN,
                     plant=on_pictures(lambda pictures, labels: pictures // 6, train=False, val=True))),
    ("cifar10@16", Case("20 layers, loud", ("exploding-gradients", "loss-far-from-chance", *HIGH), {}, DEEP,
                     plant=loud_layers)),
    ("cifar10@16", Case("20 layers, quiet", ("vanishing-gradients", "answers-alike"), {}, DEEP,
                     plant=scaled(0.3, slice(None)))),
    ("mnist", Case("constant rate, too high to the end", HIGH,
                   {"schedule": "constant", "learning_rate": 0.02, "warmup_fraction": 0.0, "epochs": 6}, "lenet5")),
    ("cifar10@16", Case("constant rate of SGD, too high", HIGH,
                     {**SGD, "schedule": "constant", "learning_rate": 1.0, "epochs": 6}, VGG_BN)),
    ("mnist", Case("a class all black", ("constant-pictures",), {}, "lenet5", plant=on_pictures(black, val=True))),
    ("cifar10@16", Case("label smoothing 0.95", ("label-smoothing-too-high",), {"label_smoothing": 0.95}, NIN)),
    ("mnist", Case("a layer at rate 0", ("layer-stands-still",),
                   {"phases": ({"epochs": 4, "learning_rates": {"c3": 0}},)},
                   "lenet5")),
    ("mnist", Case("a layer's gradient cut", ("no-gradient",), {}, "lenet5", plant=gradient_cut)),
    ("mnist", Case("gradients clipped to 1e-4", ("clipping-too-low", "learning-rate-too-low"),
                   {**SGD, "learning_rate": 0.05, "clip_gradient_norm": 1e-4}, "lenet5")),
    ("mnist", Case("20 % of the labels at random, val too", ("labels-noisy",), {"epochs": 8}, "lenet5",
                   plant=on_labels(functools.partial(any_label, share=0.2), val=True))),
    ("mnist", Case("30 % of the labels at random, by heart", ("labels-noisy",), {"epochs": 15}, "feedforward1",
                   plant=on_labels(functools.partial(any_label, share=0.3)))),
    ("mnist", Case("softmax and a little", ("softmax-before-loss",), {}, plant=then(
        own(), around(after=lambda logits: logits.softmax(1) + 1e-7)))),
    ("mnist", Case("logits divided by their length", ("activation-before-loss",), {}, "lenet5",
                   plant=around(after=nn.functional.normalize))),
    ("mnist", Case("a schedule that falls to nothing", ("learning-rate-too-low",),
                   {"learning_rate": 3e-4, "schedule": "step", "step_epochs": 1, "step_factor": 1e-3,
                    "warmup_fraction": 0.0}, plant=own())),
    ("mnist", Case("the last phase at half the size", ("val-unlike-train",),
                   {"learning_rate": 0.01, "epochs": 6, "phases": ({"epochs": 6, "resolution": 14},)},
                   SHALLOW.format(10))),
    ("mnist", Case("SGD at 1, own module", HIGH, {**SGD, "learning_rate": 1.0}, plant=own())),
    ("cifar10@16", Case("norms that never see a batch", ("batch-norm-evaluating",), {}, VGG_BN,
                     plant=on_modules(nn.BatchNorm2d, training=False, train=lambda mode=True: None))),
    ("mnist", Case("a softmax over the batch", ("pictures-mixed", "softmax-before-loss"), {}, plant=then(
        own(), around(after=lambda logits: 20 * logits.softmax(0))))),
    ("mnist", Case("sigmoids, registered backwards", ("vanishing-gradients", "answers-alike"), {},
                   plant=backwards(nn.Sigmoid()))),
    ("mnist", Case("layers that are not used", ("no-gradient",), {}, "lenet5", plant=unused)),
    ("mnist", Case("200 to 1", ("rare-classes-ignored", "one-class-only"), {"epochs": 3}, SHALLOW.format(10),
                   plant=lambda network, images: (network, unequal(images)))),
)  # fmt: skip


def unequal(images: st.ImageSet) -> st.ImageSet:
    """Keep few pictures of all classes but 1, in train."""
    labels = images.train.labels
    chance = torch.rand(len(labels), generator=torch.Generator().manual_seed(0))
    return st.ImageSet(
        images.train[((labels < 5) | (chance < 0.02)).nonzero().flatten()], images.val, images.test, name="unequal"
    )


ADAMW = {"learning_rate": 1e-3}
HEALTHY: tuple[tuple[str, Case], ...] = (
    ("mnist", Case("LeNet-5", (), {}, "lenet5")),
    ("mnist", Case("LeNet-5, AdamW at 1e-3", (), ADAMW, "lenet5")),
    ("mnist", Case("LeNet-5, SGD at 0.1", (), {**SGD, "learning_rate": 0.1}, "lenet5")),
    ("mnist", Case("LeNet-5, SGD at 0.01", (), {**SGD, "learning_rate": 0.01, "epochs": 10}, "lenet5")),
    ("mnist", Case("LeNet-5, constant rate", (), {**ADAMW, "schedule": "constant", "warmup_fraction": 0.0}, "lenet5")),
    ("mnist", Case("LeNet-5, dropout, shift", (), {"shift": 2, "rotation": 10, "epochs": 6}, "lenet5")),
    ("10,000 pictures", Case("LeNet-5, 10,000 pictures", (), {"epochs": 2, "batch_size": 128}, "lenet5")),
    ("10,000 pictures", Case("1 epoch", (), {"epochs": 1, "batch_size": 128}, SHALLOW.format(10))),
    ("mnist", Case("feed-forward", (), ADAMW, "feedforward1")),
    ("mnist", Case("feed-forward, 40 epochs", (), {**ADAMW, "epochs": 40}, "feedforward2")),
    ("mnist", Case("one layer", (), {}, "feedforward0")),
    ("mnist", Case("one layer, SGD at 0.1, 20 epochs", (), {**SGD, "learning_rate": 0.1, "epochs": 20},
                   "feedforward0")),
    ("mnist", Case("own module with GELU and layer norm", (), {"epochs": 8}, plant=mixing)),
    ("mnist", Case("own plain module", (), {}, plant=own())),
    ("clothing@48", Case("clothing, VGG with norms", (), {"epochs": 6, "flip": "random"}, COARSE)),
    ("clothing@48", Case("clothing, small DenseNet", (), {"flip": "random", "epochs": 6, "batch_size": 16}, DENSE)),
    ("clothing@48", Case("clothing, SpeedNet", (), {"flip": "random", "epochs": 5}, "speednet_small")),
    ("cifar10@16", Case("CIFAR, NIN", (), {"epochs": 6, "flip": "random"}, NIN)),
    ("cifar10@16", Case("CIFAR, NIN, SGD at 0.1", (), {**SGD, "learning_rate": 0.1, "epochs": 6, "l2": 5e-4}, NIN)),
    ("cifar10@16", Case("CIFAR, NIN, Muon", (), {"optimizer": "muon", "learning_rate": 0.02, "epochs": 4}, NIN)),
    ("cifar10@16", Case("CIFAR, VGG without norms", (), {**ADAMW, "epochs": 8, "flip": "random"}, VGG)),
    ("cifar10@16", Case("CIFAR, VGG with norms, RMSprop", (), {**ADAMW, "optimizer": "rmsprop", "epochs": 5}, VGG_BN)),
    ("cifar10@16", Case("CIFAR at 16, ResNet-20, cutmix", (), {"cutmix": 1.0, "flip": "random", "epochs": 8},
                        "resnet20_cifar10")),
    ("mnist@16", Case("ResNet-20, cosine", (), {"schedule": "cosine"}, "resnet20_cifar10")),
    ("mnist@16", Case("SpeedNet, 25 epochs, averaged", (), {"epochs": 25, "average": "ema", "shift": 1},
                      SHALLOW.format(10))),
    ("two classes", Case("two classes", (), {}, SHALLOW.format(2))),
    ("two classes", Case("two classes, LeNet-5", (), ADAMW, "lenet5")),
    ("one to ten", Case("one to ten, and fine", (), {"epochs": 8}, SHALLOW.format(10))),
    ("47 pairs", Case("47 classes", (), {"epochs": 8}, VGG_BN.replace("fc 10", "fc 47"))),
    ("several", Case("several labels", (), {"epochs": 8}, VGG_BN)),
    ("mnist@16", Case("300 pictures", (), {"batch_size": 16, "epochs": 10, "shift": 1}, SHALLOW.format(10),
                      plant=few(300))),
    ("mnist", Case("tanh and sigmoid", (), {"epochs": 5},
                   "conv 8@5x5 tanh | avgpool 2 | conv 16@5x5 tanh | avgpool 2 | fc 64 sigmoid | fc 10")),
    ("mnist", Case("hinge", (), {"loss": "hinge"}, "lenet5")),
    ("mnist", Case("batches of 8", (), {**SGD, "batch_size": 8, "learning_rate": 0.01, "epochs": 1}, "lenet5")),
    ("mnist", Case("clipped to 1", (), {**SGD, "learning_rate": 0.1, "clip_gradient_norm": 1.0}, "lenet5")),
    ("mnist", Case("balanced classes", (), {"class_weights": "balanced"}, "lenet5")),
    ("cifar10@16", Case("step schedule", (), {**SGD, "learning_rate": 0.05, "schedule": "step", "step_epochs": 2,
                                          "epochs": 6}, VGG_BN)),
    ("mnist", Case("log-softmax at the end", (), {}, plant=then(
        own(), around(after=lambda logits: logits.log_softmax(1))))),
    ("cifar10@16", Case("nine steps an epoch", (), {"batch_size": 128, "epochs": 10}, VGG_BN)),
    ("cifar10@16", Case("nine steps an epoch, mixup", (),
                     {"batch_size": 128, "epochs": 30, "mixup": 0.4, "label_smoothing": 0.1}, VGG_BN)),
    ("mnist", Case("batches of 1", (), {**SGD, "batch_size": 1, "learning_rate": 2e-3, "epochs": 1}, plant=own())),
    ("mnist", Case("batches of 1, AdamW", (), {"batch_size": 1, "learning_rate": 3e-4, "epochs": 1}, plant=own())),
    ("mnist", Case("weight decay of 0.2", (), {"weight_decay": 0.2}, plant=own())),
    ("mnist", Case("a head that begins small", (), {}, "feedforward1", plant=small_head)),
    ("mnist", Case("registered backwards", (), {}, plant=backwards(nn.ReLU()))),
    ("mnist", Case("20 layers by He", (), {**ADAMW, "epochs": 4}, "12x(fc 64 relu) | fc 10", plant=he)),
)  # fmt: skip


def main() -> None:
    """Try them all, or those whose name has a part in it."""
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    rows = []
    for name, case in (*FAULTS, *HEALTHY):
        if part in case.name:
            rows.append(doctor.run_case(case, Table((name,), {"usual": "lenet5"}, RECIPE), pictures(name)))
            print(rows[-1], flush=True)
    planted, fine = [r for r in rows if r["expected"]], [r for r in rows if not r["expected"]]
    recall, alarms = sum(r["right"] for r in planted) / max(1, len(planted)), sum(not r["right"] for r in fine)
    figures = {"faults": len(planted), "recall": recall, "healthy": len(fine), "false_alarms": alarms}
    print(figures)
    if not part:
        claim = "of the faults that were tried afterwards, 0.9 or more are named, and at most 1 healthy run in 20 warns"
        report("doctor_tried", claim, recall >= 0.9 and alarms <= len(fine) / 20, rows, tables=figures)


if __name__ == "__main__":
    main()
