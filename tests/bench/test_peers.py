from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import peers.of_sklearn as of_sklearn  # noqa: E402
import peers.retrained as retrained  # noqa: E402
from peers import peers  # noqa: E402
from peers.baselines import LastLabel, RunningRate  # noqa: E402
from peers.matrix import TOKENS, coded  # noqa: E402
from peers.statistics import statistics  # noqa: E402
from peers.vw import lines, log_loss  # noqa: E402
from tracks import Deadline, NotInstalled, Track, open_track  # noqa: E402

RECORDS, CHANGED, DELAY = 300, 200, 40
TOML = 'file = "log.parquet"\ntask = "click"\nlabel = "click"\ntext = ["words"]\n'


def track_of(
    folder: Path, *, flipped: int | None = None, unknown: int | None = None, delay: int = 0
) -> Track:
    """Return a tiny track in which the site tells the click; one of its labels may be another."""
    random = np.random.default_rng(3)
    site = random.integers(0, 4, RECORDS)
    click = (random.random(RECORDS) < np.array([0.1, 0.3, 0.6, 0.9])[site]).astype(float)
    if flipped is not None:
        click[flipped] = 1 - click[flipped]
    price = random.normal(size=RECORDS)
    columns = {
        "site": [f"s {k}" for k in site],
        "price": [None if k % 17 == 0 else v for k, v in enumerate(price.tolist())],
        "words": [["red car", "blue", ""][k % 3] for k in range(RECORDS)],
        "click": [None if k == unknown else v for k, v in enumerate(click.tolist())],
    }
    pq.write_table(pa.table(columns), folder / "log.parquet")
    (folder / "tiny.toml").write_text(TOML)
    return open_track(folder / "tiny.toml", folder / "log.parquet", delay=delay)


def predictions(name: str, track: Track) -> np.ndarray:
    peer = peers()[name]
    try:
        peer.versions()
    except NotInstalled as reason:
        pytest.skip(str(reason))
    return peer.run(track, Deadline(None))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let learners of batches train within a tiny track."""
    monkeypatch.setattr(of_sklearn, "BATCH", 20)
    monkeypatch.setattr(retrained, "FIRST", 60)
    monkeypatch.setattr(retrained, "EVERY", 60)
    monkeypatch.setattr(retrained, "ROUNDS", 5)


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
@pytest.mark.parametrize("name", list(peers()))
def test_peer_predicts_before_the_label_and_learns(name: str, tmp_path: Path) -> None:
    p = predictions(name, track_of(tmp_path))
    assert p.dtype == np.float64 and p.shape == (RECORDS,)
    assert np.all((p >= 0) & (p <= 1))

    if peers()[name].marks:
        return  # what is chosen afterwards knows every label

    other = predictions(name, track_of(tmp_path, flipped=CHANGED))
    assert np.array_equal(p[: CHANGED + 1], other[: CHANGED + 1])
    assert not np.array_equal(p, other)

    late = predictions(name, track_of(tmp_path, delay=DELAY))
    later = predictions(name, track_of(tmp_path, flipped=CHANGED, delay=DELAY))
    seen = CHANGED + DELAY + 1
    assert np.array_equal(late[:seen], later[:seen])
    assert not np.array_equal(late, later)
    assert not np.array_equal(late, p)


def test_chosen_afterwards_is_no_worse_than_the_rate_of_its_own(tmp_path: Path) -> None:
    track = track_of(tmp_path)
    best, plain = (log_loss(track.labels, predictions(n, track)) for n in ("VW, best rate", "VW"))
    assert best <= plain


def test_peers_describe_themselves() -> None:
    every = peers()
    assert len(every) == len(set(every)) >= 20
    for name, peer in every.items():
        assert peer.name == name and peer.family and peer.settings
        assert ("chosen afterwards" in " ".join(peer.marks)) == ("best rate" in name)


def test_peer_without_its_library_says_so() -> None:
    lacking = dataclasses.replace(peers()["VW"], packages=("no-such-library",))
    with pytest.raises(NotInstalled, match=r"^no-such-library is not installed here; .*\.$"):
        lacking.versions()


def test_deadline_cuts_a_peer_off(tmp_path: Path) -> None:
    track = track_of(tmp_path)
    for name in ("river LogisticRegression", "scikit-learn SGDClassifier", "XGBoost"):
        assert len(peers()[name].run(track, Deadline(0))) == 0


def test_baselines_are_those_of_the_league_table(tmp_path: Path) -> None:
    track = track_of(tmp_path, unknown=1)
    labels = track.labels
    rate = RunningRate("", "").run(track, Deadline(None))
    last = LastLabel("", "").run(track, Deadline(None))
    assert rate[0] == last[0] == 0.5
    assert rate[1] == rate[2] == (labels[0] + 0.5) / 2
    assert last[1] == last[2] == (0.999 if labels[0] else 1 - 0.999)
    known = labels[:10][~np.isnan(labels[:10])]
    assert rate[10] == (known.sum() + 0.5) / (len(known) + 1)


def test_text_for_vw_tells_late_labels_apart(tmp_path: Path) -> None:
    track = track_of(tmp_path, unknown=1)
    written = list(lines(track))
    assert all(counted for _, counted in written) and len(written) == RECORDS
    sign = "1" if track.labels[0] else "-1"
    assert (
        written[0][0]
        == f"{sign} |a site={track.columns()['site'][0].as_py().replace(' ', '_')} |c red car\n"
    )
    assert written[1][0].startswith(" |a site=") and " |b price:" in written[1][0]

    late = list(lines(track_of(tmp_path, unknown=1, delay=2)))
    assert [counted for _, counted in late[:6]] == [True, True, True, False, True, True]
    assert late[3][0] == written[0][0]
    assert late[0][0] == written[0][0].removeprefix(sign)


def test_matrices_hold_what_was_known(tmp_path: Path) -> None:
    track = track_of(tmp_path)
    matrix = coded(track)
    assert matrix.names[:2] == ["site", "price"] and matrix.levels == {0: 4}
    assert matrix.x.shape == (RECORDS, len(matrix.names)) == (RECORDS, 2 + TOKENS)
    assert matrix.x[0, 0] == 0 and np.isnan(matrix.x[0, 1])
    assert matrix.x[:3, 2:].sum(axis=1).tolist() == [2, 1, 0]
    assert coded(track, texts=False).names == ["site", "price"]

    at_once = statistics(track, Deadline(None)).x
    one_by_one = np.concatenate(
        [at_once[:1], statistics(track_of(tmp_path, delay=1), Deadline(None)).x[1:2]]
    )
    assert at_once.shape[0] == RECORDS
    assert np.array_equal(at_once[:1], one_by_one[:1], equal_nan=True)
    assert not np.array_equal(at_once[1], one_by_one[1], equal_nan=True)
