"""Kill −9 at random moments, while a checkpoint is written too: the weights are those of a run that never stopped."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

import striate as st
from striate.training import checkpoint
from striate.training.run import checkpoints_in

PLAIN = ("conv 8@3x3 pad 1 bn relu | maxpool 2 | fc 10", st.Recipe(epochs=2, optimizer="sgd", learning_rate=0.05))
RICH = (
    "conv 8@3x3 pad 1 bn relu dropout 0.2 | maxpool 2 | conv 8@3x3 pad 1 relu | gap | fc 10",
    st.Recipe(
        epochs=3,
        learning_rate=0.02,
        average="ema",
        flip="alternating",
        shift=1,
        mixup=0.4,
        phases=(st.Phase(epochs=1, resolution=6), st.Phase(epochs=2)),
    ),
)
KINDS = {"plain": PLAIN, "rich": RICH}


class Says(st.Observer):
    """Tells another process when training begins, by a byte in a pipe."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def on_train_begin(self, run: st.Run) -> None:
        os.write(self.pipe, b".")


@dataclass
class Training:
    """One kind of run on the digits, again and again in processes of its own; the parent never trains."""

    kind: str
    folder: Path

    def __post_init__(self) -> None:
        self.images = st.load_data("digits")
        checkpoint.MOST_COST, checkpoint.MIDDLE_SECONDS = 1e9, 0.0  # a checkpoint after every step

    def start(self, name: str, *, resume: bool) -> tuple[int, int]:
        """Begin a run, or go on with it, and return its process and a pipe that says when training begins."""
        reading, writing = os.pipe()
        process = os.fork()
        if process:
            os.close(writing)
            return process, reading
        try:
            text, recipe = KINDS[self.kind]
            recipe = recipe.changed(batch_size=128, threads=1, precision="fp32", memory_format="contiguous")
            network = st.build(text, self.images.spec, seed=int(resume))
            options = {"resume": self.folder / name} if resume else {"recipe": recipe, "folder": self.folder / name}
            st.fit(network, self.images, progress=False, observers=[Says(writing)], **options)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def finish(self, name: str, *, resume: bool = False) -> float:
        """Let a run end, and return the seconds that it trained."""
        process, pipe = self.start(name, resume=resume)
        os.read(pipe, 1)
        began = time.monotonic()
        assert os.waitpid(process, 0)[1] == 0
        os.close(pipe)
        return time.monotonic() - began

    def kill(self, name: str, seconds: float, *, early: bool, resume: bool) -> bool:
        """Kill a run some time after it began to train, or to prepare, and return whether it was still alive then."""
        process, pipe = self.start(name, resume=resume)
        if not early:
            os.read(pipe, 1)
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
        os.close(pipe)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL

    def outcome(self, name: str) -> str:
        """Return the sha256 of the saved weights and of the history but its seconds."""
        digest = hashlib.sha256()
        for tensor in st.load(self.folder / name).network.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        history = checkpoint.read_header(self.folder / name).history
        digest.update(json.dumps([{k: v for k, v in entry.items() if k != "seconds"} for entry in history]).encode())
        return digest.hexdigest()


def kill_and_compare(kind: str, folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill runs at random moments, go on with each (some are killed again), and compare with one that never stopped.

    A tenth of the kills at least must come while a checkpoint is written: there are more until it is so.

    Returns:
        How often what happened.
    """
    training, draw = Training(kind, folder), random.Random(seed)
    length = training.finish("whole")
    expected = training.outcome("whole")
    seen = {"killed": 0, "too late": 0, "before the first checkpoint": 0, "while writing": 0, "outcomes": 0}
    while seen["killed"] < kills or seen["while writing"] < kills // 10:
        name, resume = f"run-{seen['outcomes']}", False
        while True:
            early = draw.random() < 0.1
            alive = training.kill(name, draw.uniform(0, length), early=early, resume=resume)
            seen["killed" if alive else "too late"] += 1
            seen["while writing"] += any((folder / name / "checkpoint").glob(".*"))
            resume = bool(checkpoints_in(folder / name))
            if not resume:
                seen["before the first checkpoint"] += 1
                with pytest.raises(st.FileError, match=r"stopped before its first checkpoint|There is no checkpoint"):
                    checkpoint.read(folder / name)
                shutil.rmtree(folder / name, ignore_errors=True)
            if draw.random() < 0.5:
                break
        training.finish(name, resume=resume)
        assert training.outcome(name) == expected, (name, seen)
        assert len(list((folder / name / "checkpoint").iterdir())) == 2
        seen["outcomes"] += 1
    return seen


def in_a_fresh_process(kind: str, folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Run it where nothing has computed yet: threads of OpenMP do not survive a fork."""
    root = Path(__file__).resolve().parents[2]
    code = (
        "import json, sys, pathlib; from tests.training.test_kill import kill_and_compare as run; "
        "print(json.dumps(run(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))"
    )
    words = [sys.executable, "-c", code, kind, str(folder), str(kills), str(seed)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_kills(kind: str, tmp_path: Path) -> None:
    assert in_a_fresh_process(kind, tmp_path, kills=3, seed=1)["killed"] >= 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_kills(kind: str, tmp_path: Path) -> None:
    seen = in_a_fresh_process(kind, tmp_path, kills=50, seed=0)
    print(seen)
    assert seen["killed"] >= 50
    assert seen["while writing"] >= 5
