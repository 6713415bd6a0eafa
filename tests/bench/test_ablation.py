from __future__ import annotations

import inspect
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onlinestack.io.source import open_source

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import ablation  # noqa: E402
import drive  # noqa: E402
from ablation import Variant, without  # noqa: E402

ENTRIES: dict[str, list[dict[str, Any]]] = {
    "member": [
        {"name": "one", "learning_rate": 0.5},
        {"name": "two", "learning_rate": 0.1},
        {"name": "rates", "reads": "c"},
        {"name": "trees", "kind": "trees", "base": "one", "inputs": ["two", "rates"]},
        {"name": "pairs 1", "kind": "factorisation"},
        {"name": "pairs 2", "kind": "factorisation"},
    ],
    "stacker": [{"name": "s", "reads": "s"}, {"name": "ss", "interactions": ["ss"]}],
}


def names(variant: Variant) -> list[str]:
    return [entry["name"] for key in ("member", "stacker") for entry in variant.entries[key]]


def test_every_member_stacker_and_group_is_left_out_once() -> None:
    found = {variant.name: variant for variant in ablation.variants(ENTRIES)}
    every = names(found[ablation.BASE])
    assert {"one", "rates", "trees", "pairs 2", "ss"} <= set(found)
    assert set(every) - set(names(found["all factorisation"])) == {"pairs 1", "pairs 2"}
    assert set(every) - set(names(found["all stackers"])) == {"s", "ss"}
    assert found["statistics"].blank and "rates" not in names(found["statistics"])
    assert "all trees" not in found  # one of them: the same as without it
    assert len({json.dumps([each.entries, each.blank]) for each in found.values()}) == len(found)


def test_trees_on_a_member_that_is_gone_lean_on_the_next_like_it_or_go() -> None:
    trees = without("one", ENTRIES, ["one"]).entries["member"][2]
    assert trees["base"] == "two" and trees["inputs"] == ["two", "rates"]
    less = without("two", ENTRIES, ["two"])
    assert less.entries["member"][2]["inputs"] == ["rates"]
    assert less.note == "trees reads less"
    base = Variant(ablation.BASE, {**ENTRIES, "stacker": [{"name": "s", "reads": "s"}]})
    assert not ablation.can_replay(without("two", base.entries, ["two"]), base)
    assert ablation.can_replay(without("trees", base.entries, ["trees"]), base)
    assert not ablation.can_replay(without("trees", ENTRIES, ["trees"]), base)  # ss reads f
    assert "trees" not in names(without("both", ENTRIES, ["one", "two"]))
    assert ENTRIES["member"][3]["base"] == "one"


def test_what_is_saved_are_the_parts_that_are_gone_and_less_work_for_shared_ones() -> None:
    base = {
        "parts": {"statistics": 1.0, "factorisation": 6.0, "score:one": 2.0},
        "training": {"trees": 3.0},
        "records": 1_000_000,
    }
    less = {"parts": {"statistics": 9.0, "factorisation": 4.0}, "training": {"trees": 8.0}}
    assert ablation.saved_us(base, less, ()) == pytest.approx(2.0)
    assert ablation.saved_us(base, less, ("factorisation",)) == pytest.approx(4.0)
    assert ablation.saved_us(base, {**less, "training": {}}, ()) == pytest.approx(5.0)


@pytest.mark.parametrize("path", sorted((ROOT / "streams").glob("*.toml")), ids=lambda p: p.stem)
def test_streams_are_described_in_options_of_sources(path: Path) -> None:
    stream = tomllib.loads(path.read_text(encoding="utf-8"))
    assert stream["file"] == f"{path.stem}.parquet"
    assert stream["task"] == "click" and stream["label"]
    assert set(stream) - {"file", "task"} <= set(inspect.signature(open_source).parameters)


def test_ablation_runs_cells_once_and_writes_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    site, n = rng.integers(0, 5, 3000), 3000
    click = [
        int(hit) if known else None
        for hit, known in zip(rng.random(n) < site / 5, rng.random(n) < 0.9, strict=True)
    ]
    log = {"click": click, "site": [f"s{k}" for k in site], "junk": rng.random(n)}
    log |= {"age": rng.random(n), "much": rng.integers(1, 4, n)}
    pq.write_table(pa.table(log), tmp_path / "tiny.parquet")
    toml = 'file = "tiny.parquet"\ntask = "click"\nlabel = "click"\nignore = ["junk"]\n'
    toml += 'weight = "much"\n'
    (tmp_path / "tiny.toml").write_text(toml)
    (tmp_path / "absent.toml").write_text(toml.replace("tiny", "absent"))
    readme = tmp_path / "README.md"
    readme.write_text("<!-- ablation:begin -->\n<!-- ablation:end -->\n")
    cells = tmp_path / "cells"
    arguments = ["--data", str(tmp_path), "--descriptions", str(tmp_path), "--limit", "2900"]
    arguments += ["--results", str(cells), "--readme", str(readme)]
    chosen = ["--without", "statistics,pairs 0.6,newton 300"]
    assert ablation.main([*arguments, *chosen]) == 0, capsys.readouterr().err

    found = {path.stem: json.loads(path.read_text()) for path in cells.glob("*.json")}
    replays = {"tiny--pairs-0.6": "pairs 0.6", "tiny--newton-300": "newton 300"}
    assert set(found) == {"tiny--nothing", "tiny--statistics", *replays}
    base, blank = found["tiny--nothing"], found["tiny--statistics"]
    assert base["records"] == blank["records"] == 2900 and base["generations"] > 0
    assert 0.3 < base["log_loss"] != blank["log_loss"] < 0.65
    assert "score:c 0.5" in base["parts"] and "score:c 0.5" not in blank["parts"]
    assert str(tmp_path) not in json.dumps(found)
    change = 100 * (blank["log_loss"] / base["log_loss"] - 1)
    verdict = "stays" if change >= ablation.RULE else "out"
    assert f"| **{change:+.3f}** | {change:+.3f} | {verdict} |" in readme.read_text()
    every = {variant.name: variant for variant in ablation.variants(drive.preset_entries())}
    stream = ablation.load_streams(tmp_path, tmp_path, ["tiny"])["tiny"]
    for cell, name in replays.items():
        run = drive.walk(ablation.order_of(stream, every[name], 2900), 2900)
        assert found[cell]["replayed"] and "replayed" not in base
        assert found[cell]["log_loss"] == ablation._rounded(run["log_loss"]) != base["log_loss"]
        assert found[cell]["auc"] == ablation._rounded(run["auc"])
        assert set(found[cell]["parts"]) == set(run["parts"])

    def refuse(order: Any, environment: Any) -> None:
        raise RuntimeError("nothing is left to run")

    monkeypatch.setattr(ablation, "driven", refuse)
    assert ablation.main([*arguments, *chosen]) == 0
    assert ablation.main([*arguments, "--without", "pairs 0.25"]) == 1
    assert "nothing is left to run" in capsys.readouterr().err
    assert ablation.main([*arguments, "--streams", "absent"]) == 1
    assert "needs absent.parquet" in capsys.readouterr().err
