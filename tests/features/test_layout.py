"""The layout of a stack's blocks: every namespace where its readers look for it."""

from __future__ import annotations

import numpy as np
import pytest

from onlinestack.block import Block
from onlinestack.features.encoder import Encoder
from onlinestack.features.layout import Layout, dense_index
from onlinestack.io.schema import Field


def layout_of(rows: int = 8, fields: int = 3, numbers: int = 1) -> Layout:
    return Layout(rows, fields=fields, numbers=numbers, statistics=4, scores=3, members=2)


def encoded(records: list[dict[str, object]]) -> tuple[Encoder, list[Block]]:
    fields = (Field("a", "category"), Field("n", "number"), Field("words", "text"))
    encoder = Encoder(fields, extents=True)
    blocks = []
    for x in records:
        one = encoder.encode_one(x)
        nothing = np.zeros(1, np.float32)
        row = np.zeros(1, np.int64)
        copies = [np.array(array) for array in one]
        blocks.append(Block(nothing, nothing + 1, nothing, row, *copies))
    return encoder, blocks


def test_fields_lie_where_their_extents_say() -> None:
    records: list[dict[str, object]] = [
        {"a": "x", "n": 3.5, "words": "to be or not"},
        {"n": None, "words": ""},
    ]
    _, blocks = encoded(records)
    layout = layout_of()
    for before, sizes in zip(blocks, ([1, 1, 4], [1, 1, 1]), strict=True):
        block = layout.lay(before)
        assert (block.closes - block.opens)[0].tolist() == sizes
        a, b = int(block.start[0, 0]), int(block.stop[0, 0])
        assert chr(block.names[0, 0]) == "f"
        assert block.index[a:b].tolist() == before.index.tolist()
        assert block.value[a:b].tolist() == before.value.tolist()
        assert block.opens[0, 0] == a and block.closes[0, -1] == b
    assert np.isnan(block.table[0, 0])


def test_scores_are_namespace_s_for_members_only() -> None:
    block = layout_of().lay(encoded([{"a": "x"}])[1][0])
    block.scores[0] = 1, 2, 3
    column = block.names[0].tobytes().index(b"s")
    a, b = block.start[0, column], block.stop[0, column]
    assert block.value[a:b].tolist() == [1, 2]
    assert block.index[a:b].tolist() == dense_index("s", 3)[:2].tolist()


def test_a_longer_record_than_ever_keeps_what_is_dense() -> None:
    layout = layout_of()
    for size in (1, 50, 5000):
        block = layout.lay(Block.of([[("w", range(size), [1.0] * size)]]))
        assert block.index[block.start[0, 0] : block.stop[0, 0]].tolist() == list(range(size))
        for letter, (index, value) in block.dense.items():
            assert index[0].tolist() == dense_index(letter, index.shape[1]).tolist()
            value[:] = 7
            column = block.names[0].tobytes().index(letter.encode())
            assert block.value[block.start[0, column]] == 7


@pytest.mark.parametrize("size", [1, 2, 4])
def test_namespaces_get_their_slots_in_the_order_met(size: int) -> None:
    records = [
        [("b", [1, 2], [1.0, 1.0])],
        [("a", [3], [1.0]), ("b", [4], [1.0])],
        [],
        [("c", [5], [1.0]), ("d", [6], [1.0]), ("a", [7], [1.0])],
    ]
    layout, seen = layout_of(numbers=0), []
    whole = Block.of(records)
    for start in range(0, 4, size):
        block = layout.lay(whole.rows(start, start + size))
        for opens, closes in zip(block.opens, block.closes, strict=True):
            seen.append([block.index[a:b].tolist() for a, b in zip(opens, closes, strict=True)])
    assert seen == [[[1, 2], [], []], [[4], [3], []], [[], [], []], [[], [7], [5]]]
    again = layout_of(numbers=0)
    again.restore(layout.state())
    assert again.state() == layout.state() == {"slots": {"b": 0, "a": 1, "c": 2}, "places": {}}


def test_fields_met_in_dicts_keep_their_places() -> None:
    encoder, layout = Encoder(extents=True), layout_of(fields=3, numbers=1)
    met: list[dict[str, object]] = [{"m": "x"}, {"b": 2.5, "m": "y"}, {"a": "z", "c": 1.0}]
    for x in met:
        encoder.meet(x)
        fields = encoder.fields
        layout.meet([f.name for f in fields], [f.name for f in fields if f.kind == "number"])
    assert layout.state() == {"slots": {"m": 0, "b": 1, "a": 2}, "places": {"b": 0}}
    x = {"new": "w", "c": 3.0, "b": 4.0, "a": "t"}
    one = encoder.encode_one(x)
    nothing = np.zeros(1, np.float32)
    block = layout.lay(Block(nothing, nothing + 1, nothing, np.zeros(1, np.int64), *one))
    assert block.table[0, 0] == 4.0
    by_name = dict(zip(sorted({*x, "m"}), block.index[block.start[0, 0] :].tolist(), strict=False))
    for slot, name in enumerate("mba"):
        assert block.closes[0, slot] - block.opens[0, slot] == 1
        assert block.index[block.opens[0, slot]] == by_name[name]
