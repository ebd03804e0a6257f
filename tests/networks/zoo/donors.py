"""What the usual donor libraries build: facts and digests to compare ours with, without the donors.

torchvision 0.28, timm 1.0.31, pytorchcv 0.0.74. Logits are those of `donor_fill` on `donor_images`, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Logits:
    """Of two pictures: the first five, mean, unbiased deviation and place of the largest of each row."""

    first5: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    argmax: tuple[int, ...]


@dataclass(frozen=True)
class Donor:
    """One network as its donor builds it.

    Args:
        donor: the library.
        input: side of the pictures in pixels.
        parameters: auxiliary heads included.
        auxiliary_parameters: of the auxiliary heads.
        multiply_adds: of convolutions and matrix products, for one picture.
        digest: of the state dict, see `state_digest`; of the shapes alone where the donor is pytorchcv.
        logits: where they are known.
    """

    donor: str
    input: int
    parameters: int
    auxiliary_parameters: int
    multiply_adds: int
    digest: str
    logits: Logits | None = None


DONORS: dict[str, Donor] = {
    "alexnet": Donor(
        "torchvision",
        224,
        61100840,
        0,
        714188480,
        "25c71b0a8ccd1962",
        Logits(
            (
                (1.853680085, -3.214327867, 1.211744779, 1.901036534, -3.267865158),
                (1.854489703, -3.214439132, 1.211041203, 1.901818349, -3.267906698),
            ),
            (0.0005541520263, 0.0005542068501),
            (2.285416536, 2.285550096),
            (349, 349),
        ),
    ),
    "vgg11": Donor("torchvision", 224, 132863336, 0, 7609090048, "b5be72eb18e373b9"),
    "vgg13": Donor("torchvision", 224, 133047848, 0, 11308466176, "d7ec027e64a962d0"),
    "vgg16": Donor("torchvision", 224, 138357544, 0, 15470264320, "9eb5cb12aeb51866"),
    "vgg19": Donor("torchvision", 224, 143667240, 0, 19632062464, "516450fdcf4b4ef8"),
    "vgg11_bn": Donor(
        "torchvision",
        224,
        132868840,
        0,
        7609090048,
        "584c020e58f14a47",
        Logits(
            (
                (1.599956083, -3.314486561, 1.334210669, 1.938987346, -3.116402996),
                (1.599942994, -3.314483842, 1.334221167, 1.938974622, -3.116401368),
            ),
            (0.0003951431041, 0.0003951420644),
            (2.286010008, 2.286007552),
            (741, 741),
        ),
    ),
    "vgg13_bn": Donor("torchvision", 224, 133053736, 0, 11308466176, "5ed408f3007b756f"),
    "vgg16_bn": Donor("torchvision", 224, 138365992, 0, 15470264320, "3b23644c6cb2848b"),
    "vgg19_bn": Donor("torchvision", 224, 143678248, 0, 19632062464, "af3b94f3fd7ba0bd"),
    "resnet18": Donor(
        "torchvision",
        224,
        11689512,
        0,
        1814073344,
        "f77af260c2dbd0ec",
        Logits(
            (
                (-182.5618553, 439.6065642, 1032.547075, 1556.901954, 1977.870973),
                (-182.9069003, 437.9481285, 1029.6854, 1553.027111, 1973.240323),
            ),
            (1.561260144, 1.5556952),
            (1708.181663, 1704.547452),
            (55, 55),
        ),
    ),
    "resnet34": Donor("torchvision", 224, 21797672, 0, 3663761408, "711a38316e70a2c9"),
    "resnet50": Donor(
        "torchvision",
        224,
        25557032,
        0,
        4089184256,
        "a9e37deb781a9d89",
        Logits(
            (
                (-10.25181801, 4.597975361, 14.9222268, 10.66830947, -3.975448834),
                (-10.25570264, 4.588500957, 14.91641721, 10.6718395, -3.966027318),
            ),
            (0.01225325377, 0.01223401619),
            (10.84049625, 10.83770294),
            (920, 920),
        ),
    ),
    "resnet101": Donor("torchvision", 224, 44549160, 0, 7801405440, "118649ce994d655c"),
    "resnet152": Donor("torchvision", 224, 60192808, 0, 11513626624, "c99111e5479cd991"),
    "densenet121": Donor(
        "torchvision",
        224,
        7978856,
        0,
        2834161664,
        "1e5db126f490e342",
        Logits(
            (
                (0.5576871058, 2.40352503, 3.638908114, 3.944324881, 3.233471156),
                (0.557696258, 2.403546295, 3.638935937, 3.944351992, 3.233490472),
            ),
            (0.007361920024, 0.007361983974),
            (2.861223194, 2.861242983),
            (805, 805),
        ),
    ),
    "densenet161": Donor("torchvision", 224, 28681000, 0, 7727907072, "e47d8ef711423538"),
    "densenet169": Donor("torchvision", 224, 14149480, 0, 3359843328, "007fbf80ba43fca5"),
    "densenet201": Donor("torchvision", 224, 20013928, 0, 4291365888, "fe691dc5630a7bbe"),
    "googlenet": Donor(
        "torchvision",
        224,
        13004888,
        6379984,
        1498376192,
        "b0933cf81f04fa6d",
        Logits(
            (
                (-1.279862319, -0.488594486, 0.4441847411, 1.261431527, 1.736043259),
                (-1.279879974, -0.4886059745, 0.4441824204, 1.26143898, 1.736058539),
            ),
            (-0.001101790925, -0.001101821656),
            (1.203949782, 1.203962405),
            (588, 588),
        ),
    ),
    "inception_v3": Donor("torchvision", 299, 27161264, 3326696, 5713216096, "311b9aadb9a0c28a"),
    "inception_v4": Donor(
        "timm",
        299,
        42679816,
        0,
        12253974624,
        "4d1f08c5c0310444",
        Logits(
            (
                (-0.2482718108, -0.5605595971, -0.5558698253, -0.2422129654, 0.1999189312),
                (-0.2482718106, -0.560559597, -0.5558698252, -0.2422129654, 0.199918931),
            ),
            (-0.001492676537, -0.001492676537),
            (0.3908773188, 0.3908773187),
            (905, 905),
        ),
    ),
    "inception_resnet_v2": Donor("timm", 299, 55843464, 0, 13155794016, "e607b9ac19258ec7"),
    "zfnet": Donor("pytorchcv", 224, 62357608, 0, 1168032896, "127ce4d536bc0c36"),
    "bninception": Donor(
        "pytorchcv",
        224,
        11295240,
        0,
        2032600064,
        "54b55ff159cf59fb",
        Logits(
            (
                (-2.879800334, -1.933355949, -0.4981009026, 1.046391124, 2.30183603),
                (-2.879831524, -1.933208214, -0.4978128412, 1.046744252, 2.302161965),
            ),
            (-0.005185060314, -0.005184587576),
            (2.177103259, 2.17720739),
            (747, 747),
        ),
    ),
    "inceptionresnetv1": Donor("pytorchcv", 299, 23995624, 0, 6308235360, "37850bf5b7a8af82"),
    "nin_cifar10": Donor(
        "pytorchcv",
        32,
        966986,
        0,
        222486528,
        "56427c376009497a",
        Logits(
            ((0.1988613205, 0, 0.6766030128, 0, 0.06375735251), (0.1988611924, 0, 0.6766028389, 0, 0.06375741366)),
            (0.2170558653, 0.2170558108),
            (0.296399051, 0.2963989733),
            (2, 2),
        ),
    ),
    "preresnet18": Donor(
        "pytorchcv",
        224,
        11687848,
        0,
        1814073344,
        "e3c900c1eab88a3d",
        Logits(
            (
                (200.4393951, 349.2474565, 474.8986188, 569.0334288, 625.3735017),
                (200.1383341, 348.5099229, 473.7735988, 567.5956451, 623.7184505),
            ),
            (1.131767705, 1.129339321),
            (452.9355645, 451.696279),
            (248, 248),
        ),
    ),
    "preresnet34": Donor("pytorchcv", 224, 21796008, 0, 3663761408, "5dbe7333b0adff91"),
    "preresnet50": Donor("pytorchcv", 224, 25549480, 0, 3857973248, "91b312a5772a0147"),
    "preresnet101": Donor("pytorchcv", 224, 44541608, 0, 7570194432, "b20bb5f5660e1722"),
    "preresnet152": Donor("pytorchcv", 224, 60185256, 0, 11282415616, "515fc6c6512e7a66"),
    "resnet20_cifar10": Donor("pytorchcv", 32, 272474, 0, 40813184, "3218b8122a12907e"),
    "resnet56_cifar10": Donor("pytorchcv", 32, 855770, 0, 125747840, "7ae3b984c89fc2aa"),
    "resnet110_cifar10": Donor("pytorchcv", 32, 1730714, 0, 253149824, "31aa881055de99bc"),
    "densenet40_k12_cifar10": Donor("pytorchcv", 32, 599050, 0, 205906452, "777a4b4eb22a6715"),
    "densenet100_k12_bc_cifar10": Donor("pytorchcv", 32, 769162, 0, 287929692, "9b1ae6bbe123183e"),
    "preresnet110_cifar10": Donor("pytorchcv", 32, 1730522, 0, 253149824, "f50526a1d80f241b"),
}
