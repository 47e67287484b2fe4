"""The bucket: client, command line and shell agree on every unit, and units spread evenly."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import serinus.client
from serinus.client import bucket_header, bucket_of

SALT = "5f1c0a9be3d27744"
UNITS = [f"{number}" for number in range(12346, 17346)] + [f"user-{number}#ü {number % 7}" for number in range(5_000)]
RECIPE = (
    'while IFS= read -r unit; do echo $((0x$(printf "%s%s" "$salt" "$unit" | b2sum -l 56 | cut -c1-14) % 1000)); done'
)


def test_known_values_never_change() -> None:
    """A changed function would assign every unit of every service anew."""
    assert [bucket_of("ab12", "12347"), bucket_of(SALT, ""), bucket_of(SALT, "ü")] == [449, 87, 2]


@pytest.mark.slow
def test_the_shell_recipe_agrees_on_ten_thousand_units() -> None:
    assert shutil.which("b2sum"), "coreutils has b2sum"
    done = subprocess.run(
        ["bash", "-c", RECIPE],
        input="\n".join(UNITS) + "\n", env=os.environ | {"salt": SALT}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [int(line) for line in done.stdout.split()] == [bucket_of(SALT, unit) for unit in UNITS]


def test_units_spread_evenly() -> None:
    """Chi-square over 1,000 buckets: mean 999, standard deviation 45; the units are fixed, so this never flickers."""
    counts = np.bincount([bucket_of(SALT, str(number)) for number in range(100_000)], minlength=1_000)
    assert 850 < float(((counts - 100) ** 2 / 100).sum()) < 1_150


def test_the_header_has_three_digits() -> None:
    unit = next(unit for unit in UNITS if bucket_of(SALT, unit) < 10)
    assert bucket_header(SALT, unit) == {"x-serinus-bucket": f"00{bucket_of(SALT, unit)}"}


@pytest.mark.parametrize("path", sorted(Path(serinus.client.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_the_client_needs_the_standard_library_alone(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] in sys.stdlib_module_names or name.startswith("serinus.client"), name
