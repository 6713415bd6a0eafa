from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import limits  # noqa: E402
import micro  # noqa: E402


def test_every_kernel_is_measured_beside_its_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- micro:begin -->\nold\n<!-- micro:end -->\nafter\n")
    folders = ["--data", str(tmp_path), "--results", str(tmp_path), "--readme", str(readme)]
    assert micro.main(["--records", "6000", *folders]) == 0, capsys.readouterr().err

    result = json.loads((tmp_path / "micro.json").read_text())
    assert set(result["kernels"]) == set(micro.TITLES)
    for found in result["kernels"].values():
        assert found["ns"] > found["least_ns"] * 0.5 > 0
        assert found["share"] == pytest.approx(found["least_ns"] / found["ns"])
    by_size = [result["kernels"][f"linear 2^{bits}"]["table"] for bits in micro.SIZES]
    assert by_size == [16 << bits for bits in micro.SIZES]
    assert result["copy_gb_s"] > 0.1

    written = readme.read_text()
    assert written.startswith("before\n") and written.endswith("after\n") and "old" not in written
    assert written.count("\n| ") == 1 + len(micro.TITLES)


def test_places_are_those_that_records_lead_to() -> None:
    hashed = np.array([[5, 2**31 + 6]], np.uint64)
    assert limits.weights(4)(hashed).tolist() == [20, 24]
    assert limits.pairs(30)(hashed).tolist() == [4 * ((5 * 16777619 ^ (2**31 + 6)) % 2**30)]
    table = np.zeros(32, np.float32)
    limits.change(limits.weights(3)(hashed), table)
    assert table.reshape(8, 4).sum(axis=1).tolist() == [0, 0, 0, 0, 0, 4, 4, 0]


def test_memory_takes_the_traffic_of_a_block() -> None:
    touched = {
        "rows": limits.Traffic(1000.0),
        "table": limits.Traffic(1000.0, limits.weights(4), 256),
    }
    memory = limits.Memory(touched)
    index = np.arange(6, dtype=np.uint32)
    memory.measure(SimpleNamespace(index=index, opens=np.arange(6).reshape(3, 2), n=3))
    assert memory.least("table") > memory.least("rows") == 1000.0 / memory.copy_rate
