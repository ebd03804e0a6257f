"""What the README and the examples say is run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

import striate as st
from striate.data.sources.table import COLUMN_NAMES, list_table, read_table
from tests.cli.conftest import call
from tests.networks.zoo.test_zoo import make_spec

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str, text: str = README) -> list[str]:
    """Return the blocks of the README, or of another text, in a language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [content for name, content in blocks if name == language]


def test_the_python_of_the_readme_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(fenced("python")).replace("epochs=20", "epochs=2")
    assert code.count("st.") >= 6
    exec(compile(code, "README.md", "exec"), {})
    assert "accuracy" in capsys.readouterr().out


class Frame(dict[str, list[str]]):
    """Stands in for a data frame: what pandas and polars have in common."""

    @property
    def columns(self) -> list[str]:
        return list(self)

    def to_dict(self) -> dict[str, list[str]]:
        return dict(self)


def test_every_way_to_hand_over_pictures_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for number in range(24):
        for name, path in (("photos", f"{number // 2}.png"), ("scans", f"patient{number // 4}_{number}.png")):
            picture = tmp_path / name / ("cat", "dog")[number % 2] / path
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (100 * (number % 2), number, 0)).save(picture)
    shutil.make_archive("photos", "zip", tmp_path / "photos")
    stated, marked = fenced("csv", text)
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name},,{path}" for path in (tmp_path / "photos").rglob("*.png")]
    (tmp_path / "photos.csv").write_text("\n".join([stated.splitlines()[0], *rows]))
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=Frame))
    names: dict[str, Any] = {}
    exec(compile("\n".join(fenced("python", text)), "data.md", "exec"), names)
    assert names["several"].spec.task.labels == "multi"
    assert names["images"].train.groups is not None
    for table, kind in ((stated, "single"), (marked, "multi")):
        (tmp_path / "shown.csv").write_text(table)
        listing = list_table(read_table(tmp_path / "shown.csv"))
        assert listing.class_names == ("cat", "dog")
        assert listing.labels["train"].ndim == {"single": 1, "multi": 2}[kind]


def test_the_columns_of_the_documented_table_are_those_that_are_understood() -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, flags=re.MULTILINE)
    assert {role: (role, *also.split(", ")) for role, also in rows} == COLUMN_NAMES


def test_the_network_text_of_the_readme_is_lenet_5() -> None:
    text = next(block for block in fenced("") if block.startswith("conv"))
    spec = make_spec((1, 28, 28), 10)
    assert st.summary(st.build(text, spec), spec).parameters == 61_706


def test_every_word_of_the_readmes_layer_table_is_understood() -> None:
    rows = {
        "conv 4@3x3 stride 2 pad same dilation 2 nobias | conv 4 groups depthwise padmode mirror pad 1 | gap | fc 10",
        "conv 4 padmode constant 0.5 pad 1 | maxpool 2 | sumpool 2 stride 1 | l2pool 2 | medianpool 2 | gmp | fc 10",
        "conv 4 bn lrn dropout 0.5 relu | blurpool 2 ceil | adaptive avg 4x4 | flatten | fc 100 maxout 2 | fc 10",
        "fixed kirsch | fixed sharpen | 2x(conv 8 leaky 0.1) | add(conv 8 pad 1 ; conv 8@1x1) | gap | fc 10",
        "concat(conv 4 pad 1 ; conv 4@1x1) selu | gap | fc 10 softmax",
    }
    for text in rows:
        assert st.build(text, make_spec((1, 28, 28), 10)) is not None


def test_the_verbs_of_the_readme_exist() -> None:
    verbs = set(re.findall(r"striate (\w+)", "\n".join(fenced("console"))))
    assert verbs
    for verb in verbs:
        assert call(verb, "--help").status == 0


def test_the_first_example_ends_with_a_label_and_the_next_step() -> None:
    script = ROOT / "examples" / "first_classifier.py"
    done = subprocess.run([sys.executable, script, "--epochs", "2"], capture_output=True, text=True, check=True)
    assert re.search(r"1\. 1,29\d handwritten digits to learn from, \d+ kept for the test\.", done.stdout)
    assert "digit.png" in done.stdout
    assert "striate train photos" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_says_what_it_claims(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith('"""')
