from __future__ import annotations

import doctest
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import judge as judging  # noqa: E402
import makers  # noqa: E402
import pages  # noqa: E402
import published  # noqa: E402
import run  # noqa: E402
import tracks  # noqa: E402
from judge import Comparison, both_saw, grid, judge  # noqa: E402
from ours import Command  # noqa: E402
from tracks import Deadline, NotInstalled, Track, open_track, progressive  # noqa: E402

RECORDS = 2_000
TOML = 'file = "tiny.parquet"\ntask = "click"\nlabel = "click"\nignore = ["junk"]\n'


def write_stream(folder: Path, *, records: int = RECORDS, flipped: int | None = None) -> None:
    """Write a stream in which the site tells the click; every tenth label is unknown."""
    rng = np.random.default_rng(0)
    site = rng.integers(0, 5, records)
    click = (rng.random(records) < (site + 1) / 6).astype(int)
    if flipped is not None:
        click[flipped] = 1 - click[flipped]
    log = {
        "click": [None if k % 10 == 9 else int(y) for k, y in enumerate(click)],
        "site": [f"s{k}" for k in site],
        "age": rng.random(records),
        "junk": click,
    }
    pq.write_table(pa.table(log), folder / "tiny.parquet")
    (folder / "tiny.toml").write_text(TOML)


def tiny(folder: Path, *, delay: int = 0, **how: Any) -> Track:
    write_stream(folder, **how)
    return open_track(folder / "tiny.toml", folder / "tiny.parquet", delay=delay)


class Until:
    """A deadline that passes when so many records were begun."""

    def __init__(self, records: int) -> None:
        self._left = iter(range(records))

    @property
    def passed(self) -> bool:
        return next(self._left, None) is None


def test_a_track_has_the_products_columns_kinds_and_labels(tmp_path: Path) -> None:
    track = tiny(tmp_path)
    assert track.kinds == {"site": "categorical", "age": "numeric"}
    assert track.n == RECORDS and np.isnan(track.labels).sum() == RECORDS // 10
    record = next(track.records())
    assert record == {"site": track.columns()["site"][0].as_py(), "age": pytest.approx(0.5, abs=1)}
    short = open_track(tmp_path / "tiny.toml", tmp_path / "tiny.parquet", limit=7)
    assert short.n == 7 and short.columns().equals(track.columns().slice(0, 7))


@pytest.mark.parametrize("delay", [0, 3, 300])
def test_the_loop_predicts_before_it_learns_and_holds_labels_back(
    tmp_path: Path, delay: int
) -> None:
    track = tiny(tmp_path, delay=delay, records=300)
    said: list[tuple[str, int]] = []

    def predict(i: int) -> float:
        said.append(("predict", i))
        assert sum(what == "learn" for what, _ in said) == np.sum(
            ~np.isnan(track.labels[: track.known(i)])
        )
        return i / 300

    def learn(i: int, y: float) -> None:
        assert y == track.labels[i]
        said.append(("learn", i))

    p = progressive(track, predict, learn, Deadline(None), range(track.n))
    assert p.tolist() == [i / 300 for i in range(300)]
    for what, i in said:
        if what == "learn":
            assert said.index(("predict", i + delay)) < said.index((what, i))
    cut = progressive(track, lambda i: 0.5, lambda i, y: None, Until(11), range(track.n))
    assert len(cut) == 11


def test_the_judge_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y = (rng.random(5_000) < 0.2).astype(float)
    p = np.clip(0.2 + 0.15 * (y - 0.2) + rng.normal(0, 0.1, len(y)), 1e-4, 1 - 1e-4)
    y[::7] = np.nan
    found = judge(p, np.append(y, [1.0, 0.0]))
    known = ~np.isnan(y)
    scores, loss = found["scores"], metrics.log_loss(y[known], p[known])
    assert scores["records"] == known.sum()
    assert scores["log_loss"] == pytest.approx(loss, rel=1e-6)
    assert scores["auc"] == pytest.approx(metrics.roc_auc_score(y[known], p[known]), abs=5e-4)
    assert scores["accuracy"] == metrics.accuracy_score(y[known], p[known] > 0.5)
    assert scores["calibration"] == pytest.approx(p[known].mean() / y[known].mean(), rel=1e-6)
    constant = np.full(known.sum(), y[known].mean())
    entropy = metrics.log_loss(y[known], constant)
    assert scores["normalized_entropy"] == pytest.approx(loss / entropy, rel=1e-6)
    points = grid(known.sum())
    assert len(found["curve"]) == len(points)
    for at, so_far in list(zip(points, found["curve"], strict=True))[50::37]:
        expected = metrics.log_loss(y[known][:at], p[known][:at], labels=[0, 1])
        assert so_far == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="probabilities"):
        judge(np.array([0.5, np.nan]), y)


def test_cells_that_were_cut_are_compared_on_the_records_both_saw() -> None:
    rng = np.random.default_rng(2)
    y = (rng.random(4_000) < 0.5).astype(float)
    good, bad = np.where(y > 0, 0.8, 0.2), np.where(y > 0, 0.7, 0.3)
    good[1_000:] = 0.5  # what the other did not see
    whole, cut = judge(good, y), judge(bad[:1_000], y)
    comparison = Comparison(whole, cut)
    assert comparison.records == grid(1_000)[-1]
    assert comparison.more == pytest.approx(np.log(0.7) / np.log(0.8) - 1, rel=1e-6)
    assert comparison.clear
    assert not Comparison(whole, judge(good, y)).clear
    assert both_saw(whole, judge(bad[:400], y)) is None
    noise = judge(np.clip(good + rng.normal(0, 0.01, len(y)), 0.01, 0.99), y)
    assert not Comparison(
        noise, judge(np.clip(good + rng.normal(0, 0.01, len(y)), 0.01, 0.99), y)
    ).clear


def test_our_command_learns_no_label_before_its_delay(tmp_path: Path) -> None:
    flipped, delay = 101, 40
    found = []
    for name, how in (("one", {}), ("other", {"flipped": flipped})):
        folder = tmp_path / name
        folder.mkdir()
        track = tiny(folder, delay=delay, records=300, **how)
        learner = Command("linear")
        learner.prepare(track, folder)
        found.append(learner.run(track, Deadline(None)))
    changed = np.flatnonzero(found[0] != found[1])
    # the constant weight is in every prediction
    assert len(found[0]) == 300 and changed[0] == flipped + delay + 1


def arguments(folder: Path) -> list[str]:
    page = folder / "README.md"
    page.write_text("<!-- learners:begin -->\n<!-- learners:end -->\n")
    asked = ["--data", str(folder), "--descriptions", str(folder), "--made", str(folder / "made")]
    return [*asked, "--results", str(folder / "cells"), "--page", str(page)]


def test_cells_are_made_once_told_when_cut_and_turned_into_the_same_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stream(tmp_path)
    asked = arguments(tmp_path)
    river = "river LogisticRegression"
    chosen = ["--streams", "tiny", "tiny@100", "--learners"]
    ours = ["running rate", "onlinestack linear", "onlinestack stack", river]
    assert run.main([*asked, *chosen, *ours, "--limit", "100"]) == 0, capsys.readouterr().err
    cells = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "cells").glob("*.json")}
    assert len(cells) == 8
    late = cells["tiny@100--onlinestack-linear"]
    linear = cells["tiny--onlinestack-linear"]
    constant = cells["tiny--running-rate"]
    assert linear["scores"]["log_loss"] < late["scores"]["log_loss"]
    assert linear["scores"]["log_loss"] < constant["scores"]["log_loss"] < 0.71
    assert linear["done"] == linear["records"] == RECORDS and not linear["cut"]
    assert linear["scores"]["records"] == RECORDS * 9 // 10
    assert 0 < linear["cpu"] and 0 < linear["wall"] and 20 < linear["peak_mb"] < 4000
    assert str(tmp_path) not in json.dumps(cells)

    page = tmp_path / "README.md"
    files = [page, tmp_path / "DETAILS.md", *sorted((tmp_path / "pictures").glob("*.svg"))]
    first = [path.read_bytes() for path in files]
    assert len(files) == 4 and b"How much better?" in first[0] and b"tiny@100" in first[1]
    assert run.main([*asked, "--pages"]) == 0
    assert [path.read_bytes() for path in files] == first

    def refuse(order: Any) -> None:
        raise run.Failure("nothing is left to run")

    with monkeypatch.context() as patched:
        patched.setattr(run, "answer_of", refuse)
        assert run.main([*asked, *chosen, *ours, "--limit", "100"]) == 0
        kept = (tmp_path / "cells" / "tiny--running-rate.json").read_text()
        assert json.loads(kept) == constant
        write_stream(tmp_path, records=RECORDS + 1)
        assert run.main([*asked, *chosen, "running rate"]) == 0
        failed = json.loads((tmp_path / "cells" / "tiny--running-rate.json").read_text())
        assert failed["failed"] == "nothing is left to run"

    write_stream(tmp_path, records=400_000)
    assert run.main([*asked, "--streams", "tiny", "--learners", river, "--limit", "3"]) == 0
    cut = json.loads((tmp_path / "cells" / "tiny--river-logisticregression.json").read_text())
    assert cut["cut"] and 0 < cut["done"] < cut["records"] == 400_000
    assert cut["scores"]["records"] <= cut["done"] and cut["cpu"] < 6


def test_what_is_unknown_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stream(tmp_path)
    asked = arguments(tmp_path)
    assert run.main([*asked, "--streams", "tinny"]) == 1
    assert "no stream 'tinny'" in capsys.readouterr().err
    assert run.main([*asked, "--learners", "onlinestack stake"]) == 1
    assert "no learner is called 'onlinestack stake'" in capsys.readouterr().err
    assert run.main([*asked, "--streams", "tiny@soon"]) == 1
    assert "a number of records" in capsys.readouterr().err
    assert run.main([*asked, "--pages"]) == 1
    assert "run them first" in capsys.readouterr().err


def test_streams_that_river_carries_are_made(tmp_path: Path) -> None:
    shares = {"phishing": (1250, 548), "bananas": (5300, 2376), "image_segments": (2310, 330)}
    for name, (records, clicks) in shares.items():
        makers.make(name, tmp_path / f"{name}.parquet")
        track = open_track(ROOT / "streams" / f"{name}.toml", tmp_path / f"{name}.parquet")
        assert (track.n, track.labels.sum()) == (records, clicks)


def test_flights_are_those_of_the_data_folder(tmp_path: Path) -> None:
    known = run.default_data() / "flights_nyc13.parquet"
    if not known.exists():
        pytest.skip("the data folder has no flights to compare with")
    try:
        makers.make("flights_nyc13", tmp_path / "flights.parquet")
    except NotInstalled as reason:
        pytest.skip(str(reason))
    expected = pq.read_table(known)
    assert pq.read_table(tmp_path / "flights.parquet").cast(expected.schema).equals(expected)


@pytest.mark.parametrize(
    ("name", "head"), [("criteo_kaggle", "criteo_head.tsv"), ("avazu_kaggle", "avazu_head.csv")]
)
def test_published_logs_become_the_streams_that_are_known(
    tmp_path: Path, name: str, head: str
) -> None:
    data = run.default_data()
    if not (data / "raw" / head).exists():
        pytest.skip("the data folder has no lines of the published log")
    assert published.main([name, str(data / "raw" / head), str(tmp_path / f"{name}.parquet")]) == 0
    track = open_track(ROOT / "streams" / f"{name}.toml", tmp_path / f"{name}.parquet")
    other = "criteo_dac" if name == "criteo_kaggle" else "avazu_head"
    same = open_track(ROOT / "streams" / f"{other}.toml", data / f"{other}.parquet", limit=5000)
    assert np.array_equal(track.labels, same.labels)
    shared = [field for field in same.kinds if field in track.kinds]
    assert track.columns().select(shared).equals(same.columns().select(shared))
    assert published.main([name, str(tmp_path / "none"), str(tmp_path / "out")]) == 1


def test_examples_of_the_benches_are_true() -> None:
    for module in (tracks, judging):
        found = doctest.testmod(module)
        assert found.attempted and not found.failed


def test_short_table_has_a_line_a_cell(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bench" / "results" / "cells", tmp_path / "cells")
    cells = pages.load_cells(tmp_path / "cells")
    assert len(pages.short_table(cells).splitlines()) == len(cells) > 0
