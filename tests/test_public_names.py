"""The public names: lazy, complete, and never hidden by a module of the same name."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import types

import striate


def test_every_public_name_works_after_every_submodule_has_been_imported() -> None:
    for module in pkgutil.walk_packages(striate.__path__, "striate."):
        importlib.import_module(module.name)
    packages = {module.name for module in pkgutil.iter_modules(striate.__path__)}
    for name in striate.__all__:
        assert name not in packages
        assert not isinstance(getattr(striate, name), types.ModuleType), name
    assert set(striate.__all__) <= set(dir(striate))


def test_importing_striate_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "PIL", "pydantic", "sklearn", "rich"}
    script = f"import sys, striate; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_lines_help_imports_no_torch() -> None:
    script = """
import sys
from striate.cli.app import main
try:
    main(["--help"])
except SystemExit:
    print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "False"
