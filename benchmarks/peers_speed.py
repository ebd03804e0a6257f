"""Training throughput in memory, against Keras on PyTorch and on JAX, and against fastai.

Run ``python benchmarks/peers_speed.py [--quick]``: ResNet-18 on the clothing photographs at 64×64, batches of 64. Each
trains in a process and environment of its own, in turns of some steps within an epoch: nobody's validation and
bookkeeping between epochs counts. Keras runs ``model.fit`` on arrays, with its default of channels last and, on
PyTorch, with channels first too; fastai its Learner with one-cycle on tensors, by Adam; all in fp32, and Keras in bf16
where the processor has instructions for it. fastai's ``to_bf16`` is for GPUs alone.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
from pathlib import Path

import striate as st
from contestants import computes_in_bf16, save_arrays
from trials import data_folder, lower_bound, quick, report, say, spread
from turns import Contestant, in_turns

SIDE, BATCH, BAR = 64, 64, 2.0
STEPS, PAIRS = 4, 15
QUICK_STEPS, QUICK_PAIRS = 1, 1


def contestants(arrays: Path, steps: int) -> dict[str, Contestant]:
    """Start all of them."""
    options = {"arrays": str(arrays), "batch_size": BATCH, "steps": steps}
    torch, jax = {"KERAS_BACKEND": "torch"}, {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    all_of_them = {
        "striate": Contestant("striate_memory", model="resnet18", **options),
        "keras on torch": Contestant("keras_memory", peer="keras", environment=torch, **options),
        "keras on torch, channels first": Contestant(
            "keras_memory", peer="keras", environment=torch, channels_first=True, **options
        ),
        "keras on jax": Contestant("keras_memory", peer="keras", environment=jax, **options),
        "fastai": Contestant("fastai_memory", peer="fastai", **options),
    }
    if computes_in_bf16():
        all_of_them |= {
            "keras on torch, bf16": Contestant("keras_memory", peer="keras", environment=torch, bf16=True, **options),
            "keras on jax, bf16": Contestant("keras_memory", peer="keras", environment=jax, bf16=True, **options),
        }
    return all_of_them


def main() -> None:
    """Measure, and report the ratios with their bounds."""
    pairs, steps = (QUICK_PAIRS, QUICK_STEPS) if quick() else (PAIRS, STEPS)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        shutil.unpack_archive(data_folder("") / "clothing.tar.gz", folder, filter="data")
        images = st.load_data(folder / "clothing-small", size=SIDE, channels=3)
        save_arrays(folder / "arrays.npz", train=images.train, val=images.val)
        all_of_them = contestants(folder / "arrays.npz", steps)
        for contestant in all_of_them.values():
            stack.enter_context(contestant)
        trials = []
        for answers in in_turns(all_of_them, pairs + 2):
            trials.append({name: answer["seconds"] for name, answer in answers.items()})
            say({name: round(seconds, 2) for name, seconds in trials[-1].items()})
    trials = trials[2:]  # the first are the starts; the second also plan and compile
    peers = [name for name in trials[0] if name != "striate"]
    ratios = {name: [trial[name] / trial["striate"] for trial in trials] for name in peers}
    bounds = {name: lower_bound(of_peer) for name, of_peer in ratios.items()}
    report(
        "peers_speed",
        f"training ResNet-18 at {SIDE}×{SIDE} in memory: ≥ {BAR:g} × each of Keras and fastai",
        min(bounds.values()) >= BAR,
        trials,
        pairs=len(trials),
        steps_in_a_turn=steps,
        ratios={name: [statistics.median(ratios[name]), bounds[name]] for name in peers},
        pictures_per_second={name: spread(BATCH * steps / trial[name] for trial in trials) for name in trials[0]},
    )


if __name__ == "__main__":
    main()
