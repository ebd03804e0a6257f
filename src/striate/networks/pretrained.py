"""Pretrained weights: where they are, what they must hash to, what they cost to use, and how their pictures look.

Each entry was read in its publisher's own source, which is named above it; what could not be read there is not here.

What the checksums are worth: torchvision and timm give the first eight digits of the SHA-256 in the file's name, which
tells a damaged or wrong file from the right one but not from a forged one, against which there is HTTPS; pytorchcv
gives the whole SHA-1 of the file inside its zip. Whatever arrives is only ever read as tensors (see ``weights.py``).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from striate.core import downloads
from striate.core.errors import NetworkError, suggest
from striate.core.files import cache_folder
from striate.core.spec import InputSpec, Interpolation, Spec
from striate.networks import contract
from striate.networks.build import build_on_meta
from striate.networks.saved import read_tensors, write_tensors
from striate.networks.weights import LoadReport, fit_weights, read_weights

DEFAULT = "imagenet"  # the name for the default weights of a network that has several

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_CLOSE = 1e-3  # between two means or deviations that are called the same


@dataclass(frozen=True)
class Pretrained:
    """One file of weights that somebody has published.

    Args:
        network: of the zoo.
        name: of these weights, such as ``imagenet1k_v1``.
        url: of the file, or of a zip that holds only it.
        sha256_prefix, sha1: exactly one of them; ``sha1`` is that of the file inside the zip.
        library: whose they are.
        licence: as that library states it.
        data: what they were trained on.
        size: height and width in pixels of the pictures.
        resize: the shorter side before the centre was cut out, where accuracy was measured.
        mean, std: per channel, of values scaled to 0–1.
        interpolation: of the resize.
        top1: published accuracy on one centre crop, 0–1.
        classes: K.
        untrained: prefixes of auxiliary heads in the file that were never trained, which are left out.
        background: the layer whose class 0 means none of the others and is left out; empty where there is none.
    """

    network: str
    name: str
    url: str
    library: str
    licence: str
    data: str
    size: int
    resize: int
    top1: float
    sha256_prefix: str | None = None
    sha1: str | None = None
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    classes: int = 1000
    untrained: tuple[str, ...] = ()
    background: str = ""

    @property
    def file_name(self) -> str:
        """Of the file with the weights, outside any zip."""
        return self.url.rpartition("/")[2].removesuffix(".zip")

    def input_spec(self, *, channels: int = 3, size: int | None = None) -> InputSpec:
        """Return the pictures that these weights take.

        Args:
            channels: 1 gets the mean over the channels, any other number the channels' numbers in turn.
            size: height and width, where it is not that of the training.
        """
        mean, std = (_for_channels(numbers, channels) for numbers in (self.mean, self.std))
        side = size or self.size
        return InputSpec(
            channels=channels, height=side, width=side, mean=mean, std=std, interpolation=self.interpolation
        )

    def __str__(self) -> str:
        mean, std = (" ".join(f"{number:g}" for number in numbers) for numbers in (self.mean, self.std))
        return (
            f"{self.network}: weights {self.name} of {self.library}, trained on {self.data}, {self.top1:.2%} right\n"
            f"  licence   {self.licence}; the terms of {self.data} are its own\n"
            f"  pictures  {self.size}×{self.size} from the centre of {self.resize}, {self.interpolation}, "
            f"mean {mean}, std {std}"
        )


def _for_channels(numbers: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if channels == 1:
        return (sum(numbers) / len(numbers),)
    return tuple(numbers[channel % len(numbers)] for channel in range(channels))


def _torchvision(
    network: str,
    file: str,
    top1: float,
    *,
    version: int = 1,
    size: int = 224,
    resize: int = 256,
    mean: tuple[float, ...] = _IMAGENET_MEAN,
    std: tuple[float, ...] = _IMAGENET_STD,
    untrained: tuple[str, ...] = (),
) -> Pretrained:
    """Return an entry; the default resize, mean, std and bilinear are those of torchvision/transforms/_presets.py."""
    return Pretrained(
        network=network,
        name=f"imagenet1k_v{version}",
        url=f"https://download.pytorch.org/models/{file}.pth",
        sha256_prefix=file.rpartition("-")[2],
        library="torchvision",
        licence="BSD-3-Clause",
        data="ImageNet-1k",
        size=size,
        resize=resize,
        top1=top1 / 100,
        mean=mean,
        std=std,
        untrained=untrained,
    )


def _timm(network: str, url: str, top1: float, *, resize: int, background: str) -> Pretrained:
    """Return an entry of the weights that timm has ported from TensorFlow; their class 0 is the background."""
    return Pretrained(
        network=network,
        name="imagenet1k_tf",
        url=f"https://github.com/rwightman/pytorch-image-models/releases/download/{url}.pth",
        sha256_prefix=url.rpartition("-")[2],
        library="timm",
        licence="Apache-2.0",
        data="ImageNet-1k",
        size=299,
        resize=resize,
        top1=top1 / 100,
        mean=_HALF,
        std=_HALF,
        interpolation="bicubic",
        background=background,
    )


def _pytorchcv(network: str, file: str, release: str, sha1: str, error: float, *, size: int = 224) -> Pretrained:
    """Return an entry; ``size`` 32 means CIFAR-10, whose pictures are taken as they are."""
    cifar = size == 32
    return Pretrained(
        network=network,
        name="cifar10" if cifar else "imagenet1k_pytorchcv",
        url=f"https://github.com/osmr/imgclsmob/releases/download/v{release}/{file}-{sha1[:8]}.pth.zip",
        sha1=sha1,
        library="pytorchcv",
        licence="MIT",
        data="CIFAR-10" if cifar else "ImageNet-1k",
        size=size,
        resize=size if cifar else round(size / 0.875),
        top1=1 - error / 100,
        mean=_CIFAR_MEAN if cifar else _IMAGENET_MEAN,
        std=_CIFAR_STD if cifar else _IMAGENET_STD,
        classes=10 if cifar else 1000,
    )


# The first of a network is its default.
SOURCES: tuple[Pretrained, ...] = (
    # pytorch/vision: torchvision/models/alexnet.py, AlexNet_Weights
    _torchvision("alexnet", "alexnet-owt-7be5be79", 56.522),
    # pytorch/vision: torchvision/models/vgg.py, VGG*_Weights
    _torchvision("vgg11", "vgg11-8a719046", 69.020),
    _torchvision("vgg13", "vgg13-19584684", 69.928),
    _torchvision("vgg16", "vgg16-397923af", 71.592),
    _torchvision("vgg19", "vgg19-dcbb9e9d", 72.376),
    _torchvision("vgg11_bn", "vgg11_bn-6002323d", 70.370),
    _torchvision("vgg13_bn", "vgg13_bn-abd245e5", 71.586),
    _torchvision("vgg16_bn", "vgg16_bn-6c64b313", 73.360),
    _torchvision("vgg19_bn", "vgg19_bn-c79401a0", 74.218),
    # pytorch/vision: torchvision/models/resnet.py, ResNet*_Weights; the second version is the donor's default
    _torchvision("resnet18", "resnet18-f37072fd", 69.758),
    _torchvision("resnet34", "resnet34-b627a593", 73.314),
    _torchvision("resnet50", "resnet50-11ad3fa6", 80.858, version=2, resize=232),
    _torchvision("resnet50", "resnet50-0676ba61", 76.130),
    _torchvision("resnet101", "resnet101-cd907fc2", 81.886, version=2, resize=232),
    _torchvision("resnet101", "resnet101-63fe2227", 77.374),
    _torchvision("resnet152", "resnet152-f82ba261", 82.284, version=2, resize=232),
    _torchvision("resnet152", "resnet152-394f9c45", 78.312),
    # pytorch/vision: torchvision/models/densenet.py, DenseNet*_Weights
    _torchvision("densenet121", "densenet121-a639ec97", 74.434),
    _torchvision("densenet161", "densenet161-8d451a50", 77.138),
    _torchvision("densenet169", "densenet169-b2777c0a", 75.600),
    _torchvision("densenet201", "densenet201-c1103571", 76.896),
    # pytorch/vision: torchvision/models/googlenet.py and inception.py. With these weights the donor turns pictures of
    # ImageNet's mean and std into pictures of mean and std 0.5 first (transform_input); here they come so at once.
    # GoogLeNet's auxiliary heads are in the file but were not trained, as its source says.
    _torchvision("googlenet", "googlenet-1378be20", 69.778, mean=_HALF, std=_HALF, untrained=("aux1.", "aux2.")),
    _torchvision("inception_v3", "inception_v3_google-0cc3c7bd", 77.294, size=299, resize=342, mean=_HALF, std=_HALF),
    # huggingface/pytorch-image-models: timm/models/inception_v4.py and inception_resnet_v2.py before commit 960a8825,
    # which still have the files' addresses and their label_offset; crops and licence as there today; accuracies in
    # results/results-imagenet.csv. Newer files are on a hub, without a checksum in the source.
    _timm("inception_v4", "v0.1-cadene/inceptionv4-8e4777a0", 80.144, resize=342, background="last_linear."),
    _timm(
        "inception_resnet_v2", "v0.1-weights/inception_resnet_v2-940b1cd6", 80.434, resize=333, background="classif."
    ),
    # osmr/pytorchcv: pytorchcv/models/common/model_store.py and model_metainfos.csv; osmr/imgclsmob: the errors in
    # pytorch/README.md (revision 5d228e07), pictures in pytorch/datasets/imagenet1k_cls_dataset.py and
    # cifar10_cls_dataset.py.
    _pytorchcv("zfnet", "zfnet-1727", "0.0.395", "d010ddca1eb32a50a8cceb475c792f53e769b631", 39.79),
    _pytorchcv("bninception", "bninception-0774", "0.0.405", "d79ba5f573ba2da5fea5e4c9a7f67ddd526e234b", 25.37),
    _pytorchcv(
        "inceptionresnetv1",
        "inceptionresnetv1-0480",
        "0.0.552",
        "f8b3e9e369ff38e28b4ae4def273ef78741e2e28",
        19.63,
        size=299,
    ),
    _pytorchcv("preresnet18", "preresnet18-0972", "0.0.140", "5651bc2dbb200382822a6b64375d240f747cc726", 28.43),
    _pytorchcv("preresnet34", "preresnet34-0774", "0.0.300", "fd5bd1e883048e29099768465df2dd9e891803f4", 24.89),
    _pytorchcv("preresnet50", "preresnet50-0647", "0.0.330", "222ca73b021f893b925c15e24ea2a6bc0fdf2546", 22.40),
    _pytorchcv("preresnet101", "preresnet101-0563", "0.0.504", "8ec82f7d697b7329aea2c95b399093e9cb2b1114", 20.81),
    _pytorchcv("preresnet152", "preresnet152-0464", "0.0.510", "baeb6c5208310ab7c919fc0da3c20267471a8fa1", 19.36),
    _pytorchcv("nin_cifar10", "nin_cifar10-0743", "0.0.175", "795b082470b58c1aa94e2f861514b7914f6e2f58", 7.43, size=32),
    _pytorchcv(
        "resnet20_cifar10",
        "resnet20_cifar10-0597",
        "0.0.163",
        "9b0024ac4c2f374cde2c5052e0d0344a75871cdb",
        5.97,
        size=32,
    ),
    _pytorchcv(
        "resnet56_cifar10",
        "resnet56_cifar10-0452",
        "0.0.163",
        "628c42a26fe347b84060136212e018df2bb35e0f",
        4.52,
        size=32,
    ),
    _pytorchcv(
        "resnet110_cifar10",
        "resnet110_cifar10-0369",
        "0.0.163",
        "4d6ca1fc02eaeed724f4f596011e391528536049",
        3.69,
        size=32,
    ),
    _pytorchcv(
        "densenet40_k12_cifar10",
        "densenet40_k12_cifar10-0561",
        "0.0.193",
        "8b8e819467a2e4c450e4ff72ced80582d0628b68",
        5.61,
        size=32,
    ),
    _pytorchcv(
        "densenet100_k12_bc_cifar10",
        "densenet100_k12_bc_cifar10-0416",
        "0.0.189",
        "b9232829b13c3f3f2ea15f4be97f500b7912c3c2",
        4.16,
        size=32,
    ),
    _pytorchcv(
        "preresnet110_cifar10",
        "preresnet110_cifar10-0386",
        "0.0.164",
        "cc08946a2126a1224d1d2560a47cf766a763c52c",
        3.86,
        size=32,
    ),
)


def find_pretrained(network: str, weights: str = DEFAULT) -> Pretrained:
    """Return the entry of a zoo network's weights.

    Args:
        network: a zoo name.
        weights: the name of its weights; ``imagenet`` is the default of a network trained on ImageNet.

    Raises:
        NetworkError: none are known for this network, or none of this name.
    """
    own = [entry for entry in SOURCES if entry.network == network]
    if not own:
        known = list(dict.fromkeys(entry.network for entry in SOURCES))
        near = suggest(network, known)
        raise NetworkError(f"No pretrained weights are known for {network!r}.{near} They are for {', '.join(known)}.")
    names = {entry.name: entry for entry in own}
    if own[0].data.startswith("ImageNet"):
        names = {DEFAULT: own[0]} | names
    if weights not in names:
        near = suggest(weights, names)
        raise NetworkError(f"{network} has no weights named {weights!r}.{near} It has {', '.join(names)}.")
    return names[weights]


def default_pretrained(network: str) -> Pretrained:
    """Return a zoo network's default weights, whatever they were trained on; see `find_pretrained`."""
    own = [entry.name for entry in SOURCES if entry.network == network]
    return find_pretrained(network, own[0] if own else DEFAULT)


def load_pretrained(network: nn.Module, entry: Pretrained) -> LoadReport:
    """Fill a network with published weights, and say on standard error what they are and what became of them.

    Raises:
        FileError: they cannot be downloaded, do not have their checksum, or do not fit.
    """
    path = _stored(entry)
    _, tensors = read_tensors(path)
    fitted = fit_weights(network, tensors, ordered=False, origin=str(path))
    network.load_state_dict({**network.state_dict(), **fitted.tensors})
    print(f"{entry.network}: {entry.name}: {fitted.report}", file=sys.stderr)
    spec = contract.spec_of(network)
    if spec is not None and not _same_pictures(entry, spec.input):
        print(
            f"{entry.network}: these weights know pictures of mean {entry.mean} and std {entry.std}; yours have "
            f"{spec.input.mean} and {spec.input.std}. Load them with like=find_pretrained(...).input_spec().",
            file=sys.stderr,
        )
    return fitted.report


def _same_pictures(entry: Pretrained, given: InputSpec) -> bool:
    wanted = entry.input_spec(channels=given.channels)
    pairs = zip((*wanted.mean, *wanted.std), (*given.mean, *given.std), strict=True)
    return all(abs(one - other) < _CLOSE for one, other in pairs)


def _stored(entry: Pretrained) -> Path:
    """Return the file of ours with the weights, which is made from the publisher's on first use."""
    folder = cache_folder() / "weights"
    digits = (entry.sha256_prefix or entry.sha1 or "")[:8]
    stored = folder / f"{entry.network}-{entry.name}-{digits}.safetensors"
    if stored.is_file():
        return stored
    original = folder / entry.file_name
    brought = original.is_file()
    if brought:
        downloads.verify(original, sha256_prefix=entry.sha256_prefix, sha1=entry.sha1)
    else:
        unpack = ", unpack it" if entry.sha1 else ""
        downloads.download(
            entry.url,
            original,
            sha256_prefix=entry.sha256_prefix,
            zipped_sha1=entry.sha1,
            by_hand=f"Download it yourself{unpack} and put {entry.file_name} into {folder}.",
        )
    print(entry, file=sys.stderr)
    write_tensors(stored, _converted(entry, original), json.dumps(asdict(entry)))
    if not brought:
        original.unlink(missing_ok=True)
    return stored


def _converted(entry: Pretrained, original: Path) -> dict[str, Tensor]:
    """Return the tensors under our names, without what was never trained and without the background class."""
    tensors = {name: t for name, t in read_weights(original).items() if not name.startswith(entry.untrained)}
    if entry.background:
        tensors |= {n: t[1:] for n, t in tensors.items() if n.startswith(entry.background) and len(t) > entry.classes}
    network = build_on_meta(entry.network, Spec.of((3, entry.size, entry.size), entry.classes))
    fitted = fit_weights(network, tensors, ordered=True, origin=str(original))
    return {name: tensor.contiguous() for name, tensor in fitted.tensors.items()}
