"""How many cores there are, where a container may have less than the node."""

import os
from pathlib import Path

import pytest

from app.machine import cores

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        (f"{100_000 * (ALL + 3)} 100000", ALL),
        ("max 100000", ALL),
        ("nonsense", ALL),
    ],
)
def test_a_quota_bounds_the_cores(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(quota, encoding="ascii")

    assert cores(tmp_path / "cpu.max") == expected


def test_without_a_control_group_the_cores_are_those_allowed(tmp_path: Path) -> None:
    assert cores(tmp_path / "none") == ALL
