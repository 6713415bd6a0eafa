"""The parser of Vowpal Wabbit text against Vowpal Wabbit: its wheel, line by line and as files."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onlinestack.io.vw_stream import VWTextReader
from onlinestack.io.vw_text import VWParser

pytest.importorskip("vowpalwabbit")

PARITY = Path(__file__).parents[2] / "../shared/parity"
MASK = 2**22 - 1  # anonymous features come unmasked from VW, wider than 32 bits
FLT_MAX = np.float32(3.4028234663852886e38)
RUN = "import sys, vowpalwabbit; vowpalwabbit.Workspace(sys.argv[1]).finish()"


def number(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.3:
        return repr(draw.uniform(-1, 1) * 10 ** draw.randrange(-10, 10))
    if kind < 0.5:
        return repr(draw.randrange(-(10 ** draw.randrange(1, 12)), 10 ** draw.randrange(1, 12)))
    if kind < 0.6:
        return f"{draw.uniform(-100, 100):.{draw.randrange(0, 40)}f}"
    if kind < 0.7:
        return f"{draw.uniform(-1, 1) * 10.0 ** draw.randrange(-46, 40):.{draw.randrange(0, 12)}e}"
    if kind < 0.8:
        odd = "nan inf -inf 0x1p-3 1e400 1e-400 -0 +3 1e+5 . - .5 5. 1e 1e- 00012 nan(ab) infinity"
        return draw.choice([*odd.split(), "e5", "-e5", "1.2.3", "1,5", "x", "1e128", "9" * 41])
    if kind < 0.9:
        return "".join(draw.choices("0123456789.-e+", k=draw.randrange(1, 9)))
    return str(draw.randrange(1000))


def line(draw: random.Random) -> str:
    """Draw a line from the grammar, often malformed."""
    pieces = [number(draw) for _ in range(draw.choice([0, 1, 1, 2, 3, 3, 4]))]
    if draw.random() < 0.4:
        pieces.append(draw.choice(["'tag", "t", "'"]))
    text = " ".join(pieces) + draw.choice([" ", " ", "  ", ""])
    if draw.random() < 0.1:
        text = number(draw) + "\t" + text
    for _ in range(draw.randrange(4)):
        text += "|" + draw.choice(["f", "g", "", "f:" + number(draw), "fg", "12", "é", ":"])
        for _ in range(draw.randrange(4)):
            text += draw.choice([" ", " ", "\t", "  "])
            text += draw.choice(["a", "bc", "17", "", "日"])
            text += draw.choice(["", ":" + number(draw), ":" + number(draw), ": 5", ":foo", ":1:2"])
        text += draw.choice(["", " "])
    return text


def bits(values: Any) -> list[Any]:
    """Return float32 values as their bytes, every NaN alike."""
    return [b"nan" if v != v else np.float32(v).tobytes() for v in values]


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("", {}),
        ("--hash all --hash_seed 7", {"hash_all": True, "hash_seed": 7}),
        (
            "--redefine x:=fg",
            {"redefine": bytes(120 if c in b"fg" else c for c in range(256))},
        ),
    ],
)
def test_lines(options: str, arguments: dict[str, Any]) -> None:
    """Labels, weights, initials, tags, order, hashes and values agree to the last bit."""
    import vowpalwabbit

    workspace = vowpalwabbit.Workspace(f"--quiet --log_level off -b 22 --noconstant {options}")
    parser = VWParser(**arguments)
    draw = random.Random(1)
    for _ in range(1500):
        text = line(draw).strip()  # as the wheel's parse does
        if not text:
            continue
        records = parser.parse(text.encode())
        block = records.block
        example = workspace.parse(text)
        label = np.float32(example.get_simplelabel_label())
        theirs = [
            np.nan if label == FLT_MAX else label,
            example.get_simplelabel_weight(),
            example.get_simplelabel_initial(),
        ]
        assert bits([block.label[0], block.weight[0], block.initial[0]]) == bits(theirs), text
        assert (records.tag[0].as_py() or b"") == example.get_tag().encode(), text
        expected = [
            (example.get_ns(g).ord_ns, example.feature(g, k) & MASK, example.feature_weight(g, k))
            for g in range(example.num_namespaces())
            for k in range(example.num_features_in(g))
        ]
        found = [
            (block.names[0, g], int(block.index[k]) & MASK, block.value[k])
            for g in range(block.names.shape[1])
            for k in range(block.start[0, g], block.stop[0, g])
        ]
        assert [f[:2] for f in found] == [f[:2] for f in expected], text
        assert bits(f[2] for f in found) == bits(f[2] for f in expected), text
        workspace.finish_example(example)
    workspace.finish()


def audited(data: bytes, folder: Path) -> list[tuple[bytes, list[tuple[bytes, int, bytes]]]]:
    """Return tag and features of each example that VW reads from a file of these bytes."""
    (folder / "x.vw").write_bytes(data)
    command = f"-d {folder / 'x.vw'} -t --audit --log_level off --quiet --noconstant"
    done = subprocess.run([sys.executable, "-c", RUN, command], capture_output=True, check=True)
    rows = done.stdout.split(b"\n")[:-1]
    examples = []
    for head, row in zip(rows[::2], rows[1::2], strict=True):
        parts = [part.rsplit(b":", 3) for part in row.split(b"\t")[1:]]
        # All weights are 0, so sorting by their products keeps the order of the features.
        features = [(name, int(slot), value.lstrip(b"-")) for name, slot, value, _ in parts]
        examples.append((head.partition(b" ")[2], features))
    return examples


def read(data: bytes) -> list[tuple[bytes, list[tuple[bytes, int, bytes]]]]:
    records = VWParser(names=True).parse(data)
    block = records.block
    return [
        (
            records.tag[i].as_py() or b"",
            [
                (
                    records.feature_name(k),
                    int(block.index[k]) & 0x3FFFF,
                    f"{abs(float(block.value[k])):g}".encode(),
                )
                for g in range(block.names.shape[1])
                for k in range(block.start[i, g], block.stop[i, g])
            ],
        )
        for i in range(block.n)
    ]


def test_files(tmp_path: Path) -> None:
    """Line ends, blank lines, marks of UTF-8, and bytes of any kind agree."""
    draw = random.Random(2)
    # Not \v, \f and "a: CR CR LF": there VW looks for a number beyond the end of the line.
    plain = [c for c in range(256) if c not in (10, 11, 12)]
    odd = [bytes([c]) for c in b"ab|||:::  \t\r\r0123.e-'x+\0"]
    odd += [b"\xef\xbb\xbf", b"nan", b"|f", b" a:", b" 1 ", b"0x1", b"|:", b"|f:2 ", b"'t "]
    lines = []
    for _ in range(1500):
        lines.append(bytes(draw.choices(plain, k=draw.randrange(30))))
        lines.append(b"".join(draw.choices(odd, k=draw.randrange(25))))
        lines.append(draw.choice([b"", b"\r", b"\xef\xbb\xbf"]) + line(draw).encode())
    lines = [text for text in lines if not re.search(rb":[ \r]*\r$", text)]
    data = draw.choice([b"\n", b"\r\n"]).join(lines)
    expected, found = audited(data, tmp_path), read(data)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == theirs


@pytest.mark.skipif(not PARITY.is_dir(), reason="the parity corpus is not there")
def test_corpus(tmp_path: Path) -> None:
    """Every input of the corpus parses as VW parses it."""
    for path in sorted((PARITY / "inputs").rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            assert read(data) == audited(data, tmp_path), path.name


@pytest.mark.skipif(not PARITY.is_dir(), reason="the parity corpus is not there")
def test_corpus_counts() -> None:
    """Examples and features of the corpus's plain runs are as many as VW counted."""
    cases = json.loads((PARITY / "cases.json").read_text())["cases"]
    changing = (
        "-q --cubic --interactions --passes --ignore --keep --noconstant --oaa -c -i --examples"
    )
    checked = 0
    for case in cases:
        words = case["args"] if isinstance(case["args"], list) else case["args"].split()
        if any(w.startswith(tuple(changing.split())) for w in words) or "-d" not in words:
            continue
        path = PARITY / words[words.index("-d") + 1]
        expected = case["expected_number_of_examples"], case["expected_total_features"]
        if None in expected or not path.is_file():
            continue
        with open(path, "rb") as stream:
            blocks = [records.block for records in VWTextReader(stream)]
        n = sum(block.n for block in blocks)
        assert (n, n + sum(len(block.value) for block in blocks)) == expected, case["id"]
        checked += 1
    assert checked >= 20
