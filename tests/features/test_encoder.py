"""Columns of any type, CSV bytes and dicts give the same features, whatever the blocks."""

from __future__ import annotations

import json
import math
import pickle
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlinestack.block import Block, immediate_tape
from onlinestack.features import columns as kernels
from onlinestack.features.bins import FIRST_CHANGE, NEVER, lower_edge
from onlinestack.features.encoder import KNOWN_FIELDS, Encoded, Encoder, field_seed
from onlinestack.features.values import canonical
from onlinestack.io.schema import Field
from onlinestack.kernel import KERNELS, TWINS
from onlinestack.murmur import uniform_hash

FIELDS = [Field("a", "number"), Field("b", "category"), Field("c", "text"), Field("d", "category")]
WORDS = st.one_of(st.none(), st.sampled_from(["", "x", "007", "true", "1e5", "ünï"]), st.text())
NUMBERS = st.one_of(st.none(), st.integers(-(2**53), 2**53), st.floats(), st.just(math.nan))
TOKENS = st.one_of(st.none(), st.text("ab \t\n", max_size=8))


def rows_of(encoded: Encoded) -> list[list[list[int]]]:
    """Return the indices of each namespace of each row."""
    return [
        [
            encoded.index[encoded.start[i, g] : encoded.stop[i, g]].tolist()
            for g in range(encoded.names.shape[1])
        ]
        for i in range(len(encoded.names))
    ]


def features(encoder: Encoder, arrays: list[pa.Array], step: int = 1000) -> list[list[int]]:
    """Return the features of all rows, encoded in steps."""
    found = []
    for start in range(0, len(arrays[0]), step):
        stop = min(start + step, len(arrays[0]))
        encoded = encoder.encode(arrays, start, stop)
        assert set(encoded.value.tolist()) <= {1.0}
        assert (encoded.names == ord("f")).all()
        found += [row for (row,) in rows_of(encoded)]
    return found


def single(encoder: Encoder, array: pa.Array) -> list[list[int]]:
    return features(encoder, [array])


def hashes(name: str, *texts: bytes) -> list[int]:
    return [uniform_hash(text, field_seed(name)) for text in texts]


def observe(encoder: Encoder, encoded: Encoded) -> None:
    """Show encoded rows, all labelled, to the encoder."""
    rows = len(encoded.names)
    zero = np.zeros(rows, np.float32)
    block = Block(zero, zero + 1, zero, np.arange(rows), *encoded)
    encoder.run(block, immediate_tape(block.label))


def trained(fields: list[Field] = FIELDS, **options: Any) -> Encoder:
    """Return an encoder whose number fields have edges."""
    encoder = Encoder(fields, **options)
    random = np.random.default_rng(5)
    for _ in range(2 * FIRST_CHANGE):
        value = float(np.round(random.normal(0, 100), 1))
        x = {f.name: value if f.kind == "number" else "x" for f in fields}
        observe(encoder, encoder.encode_one(x))
        if encoder.learned == encoder.next_change():
            encoder.change()
    return encoder


def test_hash_rule() -> None:
    encoder = Encoder([Field("C1", "category"), Field("I1", "number")])
    encoded = encoder.encode([pa.array(["68fd1e64", None]), pa.array([5, None])], 0, 2)
    assert rows_of(encoded) == [
        [hashes("C1", b"68fd1e64") + hashes("I1", np.float64(4.0).tobytes())],
        [hashes("C1", b"") + hashes("I1", b"")],
    ]
    np.testing.assert_array_equal(encoded.numbers, [[5.0], [math.nan]])
    assert encoded.index.dtype == np.uint32
    assert encoded.value.dtype == np.float32
    assert field_seed("C1") == uniform_hash(b"C1", 728008763)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(NUMBERS, WORDS, TOKENS, st.one_of(NUMBERS, st.booleans())), max_size=12),
    st.integers(0, 3),
    st.booleans(),
)
def test_columns_and_dicts_agree(records: list[Any], cut: int, edges: bool) -> None:
    encoder = trained() if edges else Encoder(FIELDS)
    a, b, c, d = (list(column) for column in zip(*records, strict=True)) if records else [[]] * 4
    words = [None if value is None else canonical(value) for value in d]
    expected, numbers = [], []
    for record in records:
        x = dict(zip("abcd", record, strict=True))
        before = dict(x)
        one = encoder.encode_one(x)
        expected.append(one.index.tolist())
        numbers.append(one.numbers[0].tolist())
        assert repr(x) == repr(before)
    floats = [None if v is None else float(v) for v in a]
    texts = [None if v is None else canonical(v) for v in a]
    typed = [pa.array(floats, pa.float64()), pa.array(b, pa.string()), pa.array(c, pa.string())]
    typed.append(pa.array(words, pa.binary()))
    csv = [pa.array(texts, pa.binary())]
    csv += [
        pa.array([b"" if v is None else canonical(v) for v in column], pa.large_binary())
        for column in (b, c, d)
    ]
    coded = [typed[0], typed[1].dictionary_encode(), typed[2].dictionary_encode()]
    coded.append(typed[3].dictionary_encode())
    for arrays in (typed, csv, coded):
        assert features(encoder, arrays) == expected
        assert features(encoder, [array[cut:] for array in arrays], 5) == expected[cut:]
        encoded = encoder.encode(arrays, 0, len(records))
        np.testing.assert_array_equal(encoded.numbers, np.reshape(numbers, (-1, 1)))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(NUMBERS, st.text(max_size=5), TOKENS, st.text("0123456789.e- ", max_size=24)),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
    st.integers(0, 3),
)
def test_kernel_equals_its_twin(records: list[Any], edges: bool, offset: int) -> None:
    fields = [*FIELDS, Field("e", "number"), Field("f", "category"), Field("g", "text")]
    encoder = trained(fields) if edges else Encoder(fields)
    a, b, c, e = (list(column) for column in zip(*records, strict=True))
    floats = pa.array([None if v is None else float(v) for v in a], pa.float64())
    lists = pa.array([None if v is None else v.split("a") for v in c])
    arrays = [floats, pa.array(b), pa.array(c), pa.array(b).dictionary_encode(), pa.array(e)]
    arrays = [array[offset:] for array in [*arrays, floats, lists]]
    rows = len(arrays[0])
    encoder._prepare(arrays)
    results = []
    for encode, count in (
        (kernels.encode_rows, kernels.count_features),
        (
            KERNELS["onlinestack.features.columns.encode_rows"].twin,
            KERNELS["onlinestack.features.columns.count_features"].twin,
        ),
    ):
        counts = np.zeros(rows, np.int64)
        count(encoder._table, 0, rows, counts)
        place = np.cumsum(counts) - counts
        index = np.zeros(int(counts.sum()), np.uint32)
        numbers = np.zeros((rows, 2))
        flagged = np.zeros((50, 3), np.int64)
        left = encode(
            encoder._table, encoder._edges, encoder._hashes, 0, rows, place, index, numbers,
            flagged, np.empty(kernels.SCRATCH, np.int64),
        )  # fmt: skip
        results.append((counts, index, numbers, {tuple(row) for row in flagged[:left].tolist()}))
    (counts, index, numbers, left_by_kernel), twin = results
    np.testing.assert_array_equal(counts, twin[0])
    # what the kernel leaves to Python the twin may know; nowhere else may they differ
    known = np.ones(len(index), bool)
    known[[at for _, _, at in left_by_kernel]] = False
    np.testing.assert_array_equal(index[known], twin[1][known])
    for row, column, _ in left_by_kernel:
        if column == 4:
            numbers[row, 1] = twin[2][row, 1]
    np.testing.assert_array_equal(numbers, twin[2])
    assert twin[3] <= left_by_kernel


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["7", None, "-3", ""], pa.string()),
        pa.array(["7", None, "-3", ""], pa.large_string()),
        pa.array(["7", None, "-3", ""], pa.string_view()),
        pa.array([b"7", None, b"-3", b""], pa.binary()),
        pa.array([b"7", None, b"-3", b""], pa.large_binary()),
        pa.array([b"7", None, b"-3", b""], pa.binary_view()),
        pa.array([7, None, -3, None], pa.int8()),
        pa.array([7, None, -3, None], pa.int64()),
        pa.array([7.0, None, -3.0, math.nan], pa.float32()),
        pa.array([7.0, math.nan, -3.0, None], pa.float64()),
        pa.array([7, None, -3, None], pa.decimal128(5, 0)),
        pa.array([7, None, -3, None], pa.duration("s")),
        pa.array(["7", None, "-3", ""]).dictionary_encode(),
        pa.array([7, None, -3, None], pa.int16()).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None], pa.uint8()), ["7", None, "-3"]),
        pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4], pa.array(["7", None, "-3", ""])),
        pa.array([["7"], None, ["-3"], []]),
        pa.array([["7"], None, ["-3"], []], pa.large_list(pa.string())),
        pa.array([["7"], [None], ["-3"], [""]], pa.list_(pa.string(), 1)),
        pa.array([[7], None, [-3], []], pa.list_(pa.int32())),
    ],
    ids=lambda array: str(array.type).replace(" ", ""),
)
def test_types(array: pa.Array) -> None:
    encoder = Encoder([Field("a", "category")])
    expected = [hashes("a", text) for text in (b"7", b"", b"-3", b"")]
    assert single(encoder, array) == expected
    padded = pa.concat_arrays([array, array, array])
    assert single(encoder, padded[3:9]) == (3 * expected)[3:9]


def test_values_of_other_types() -> None:
    encoder = Encoder([Field("a", "category")])
    assert single(encoder, pa.array([True, False, None])) == [
        hashes("a", text) for text in (b"true", b"false", b"")
    ]
    big = pa.array([2**64 - 1, 3, 2**63], pa.uint64())
    assert single(encoder, big) == [hashes("a", str(v).encode()) for v in big.to_pylist()]
    least = pa.array([-(2**63), 2**63 - 1, 0])
    assert single(encoder, least) == [hashes("a", str(v).encode()) for v in least.to_pylist()]
    floats = pa.array([0.5, 1e300, -0.0, math.inf, 1e22] * 30)
    assert single(encoder, floats) == [hashes("a", canonical(v)) for v in floats.to_pylist()]
    assert single(encoder, pa.nulls(3)) == [hashes("a", b"")] * 3
    assert single(encoder, pa.array([], pa.string())) == []
    assert single(encoder, pa.array([b"ab", None], pa.binary(2))) == [
        hashes("a", b"ab"),
        hashes("a", b""),
    ]
    dates = pa.array([1, None], pa.date32())
    assert single(encoder, dates) == [hashes("a", b"1970-01-02"), hashes("a", b"")]


def test_numbers_of_all_types_fall_into_the_same_bins() -> None:
    encoder = trained([Field("n", "number")])
    values = [-120, -7, 0, 3, 99, None, 55]
    expected = single(encoder, pa.array(values, pa.float64()))
    assert len({tuple(row) for row in expected}) > 3
    signed = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    for kind in (*signed, pa.float16(), pa.float32(), pa.float64()):
        assert single(encoder, pa.array(values, kind)) == expected
        assert single(encoder, pa.array([9, *values], kind)[1:]) == expected
    above = [None if v is None else abs(v) for v in values]
    expected_above = single(encoder, pa.array(above, pa.float64()))
    for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        assert single(encoder, pa.array(above, kind)) == expected_above
    texts = [None if v is None else f" {v}.0 " for v in values]
    for array in (
        pa.array(texts),
        pa.array(texts, pa.large_string()),
        pa.array(texts, pa.binary()),
    ):
        assert single(encoder, array) == expected
        assert single(encoder, array.dictionary_encode()) == expected
    assert [encoder.encode_one({"n": v}).index.tolist() for v in values] == expected
    assert [encoder.encode_one({"n": v}).index.tolist() for v in texts] == expected


def test_text_in_a_number_field() -> None:
    encoder = trained([Field("n", "number")])
    words = ["n/a", "1_000", "nan", "inf", "  ", "0x1f"]
    expected = [hashes("n", word.encode()) for word in words]
    for i in (2, 3, 4):
        expected[i] = hashes("n", b"")
    assert single(encoder, pa.array(words)) == expected
    assert [encoder.encode_one({"n": word}).index.tolist() for word in words] == expected
    numbers = encoder.encode([pa.array(words)], 0, 6).numbers
    assert np.isnan(numbers).all()
    # booleans are words, in columns as in dicts
    assert single(encoder, pa.array([True])) == [hashes("n", b"true")]
    assert encoder.encode_one({"n": True}).index.tolist() == hashes("n", b"true")


def test_many_digits_are_left_to_python_and_exact() -> None:
    encoder = trained([Field("n", "number")])
    texts = ["0." + "1234567890" * 3, "9" * 40, "1e-320"] * 50
    encoded = encoder.encode([pa.array(texts)], 0, len(texts))
    assert encoded.numbers[:, 0].tolist() == [float(text) for text in texts]
    assert [row for (row,) in rows_of(encoded)] == [
        encoder.encode_one({"n": float(text)}).index.tolist() for text in texts
    ]


def test_tokens_and_lists() -> None:
    encoder = Encoder([Field("a", "category"), Field("t", "text")])
    texts = ["red  green\tblue", "", None, " ", "x"]
    lists = [["red", "green", "blue"], [], None, [""], ["x"]]
    first = hashes("a", b"1")
    nothing = first + hashes("t", b"")
    expected = [first + hashes("t", b"red", b"green", b"blue"), *[nothing] * 3]
    expected.append(first + hashes("t", b"x"))
    ones = pa.array([1] * 5)
    for array in (
        pa.array(texts),
        pa.array(texts, pa.large_string()),
        pa.array(texts).dictionary_encode(),
        pa.array(lists),
        pa.array([["0"], *lists])[1:],
    ):
        assert features(encoder, [ones, array]) == expected
        assert features(encoder, [ones, array], 2) == expected
        assert features(encoder, [ones[2:], array[2:]]) == expected[2:]
    for values in (texts, lists):
        got = [encoder.encode_one({"a": "1", "t": v}).index.tolist() for v in values]
        assert got == expected
    assert encoder.encode_one({"a": "1", "t": {"b", "a"}}).index.tolist() == first + hashes(
        "t", b"a", b"b"
    )


def test_types_that_cannot_be_features() -> None:
    encoder = Encoder([Field("a", "category")])
    for array in (
        pa.array([{"x": 1}]),
        pa.array([[["x"]]]),
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    ):
        with pytest.raises(ValueError, match="cannot be"):
            encoder.encode([array], 0, 1)
    with pytest.raises(ValueError, match="one for each"):
        encoder.encode([], 0, 0)
    with pytest.raises(ValueError, match="in order"):
        Encoder([Field("b", "number"), Field("a", "number")])


def test_dictionaries_are_hashed_once_and_grow() -> None:
    encoder = Encoder([Field("a", "category")])
    for size in (3, 3, 5, 2, 5):
        words = pa.array([f"w{i}" for i in range(size)])
        array = pa.DictionaryArray.from_arrays(pa.array([size - 1, None, 0], pa.int32()), words)
        last = f"w{size - 1}".encode()
        assert single(encoder, array) == [hashes("a", text) for text in (last, b"", b"w0")]
    # a dictionary much longer than the batch is not hashed whole
    words = pa.array([f"v{i}" for i in range(1000)])
    array = pa.DictionaryArray.from_arrays(pa.array([999, None], pa.int32()), words)
    assert single(encoder, array) == [hashes("a", b"v999"), hashes("a", b"")]


def test_blocks_do_not_matter() -> None:
    random = np.random.default_rng(1)
    n = 700
    arrays = [
        pa.array(random.normal(0, 10, n), mask=random.random(n) < 0.1),
        pa.array(random.integers(0, 50, n)),
        pa.array([" ".join(["u"] * k) for k in random.integers(0, 4, n)]),
        pa.array([f"c{v}" for v in random.integers(0, 9, n)]).dictionary_encode(),
    ]
    encoder = trained()
    expected = features(encoder, arrays)
    for step in (1, 7, 256, 300):
        assert features(encoder, arrays, step) == expected
        sliced = [array.slice(13, 400) for array in arrays]
        assert features(encoder, sliced, step) == expected[13:413]


def test_plain_numbers() -> None:
    encoder = Encoder(
        [Field("a", "number"), Field("b", "category"), Field("c", "number")], plain=True
    )
    arrays = [pa.array([1.5, None]), pa.array(["x", "y"]), pa.array(["7", "-2"])]
    encoded = encoder.encode(arrays, 0, 2)
    assert encoded.names.tolist() == [[ord("f"), ord("x")]] * 2
    seeds = [field_seed("a", b"x"), field_seed("c", b"x")]
    found = rows_of(encoded)
    assert [row[1] for row in found] == [seeds, seeds[1:]]
    extents = zip(encoded.start[:, 1], encoded.stop[:, 1], strict=True)
    assert [encoded.value[a:b].tolist() for a, b in extents] == [[1.5, 7.0], [-2.0]]
    for i, x in enumerate([{"a": 1.5, "b": "x", "c": 7}, {"b": "y", "c": -2.0}]):
        assert rows_of(encoder.encode_one(x))[0] == found[i]
    again = encoder.encode(arrays, 0, 1)
    assert again.value[: again.stop[0, 0]].tolist() == [1.0, 1.0, 1.0]


def test_block_of_a_batch() -> None:
    encoder = Encoder([Field("a", "category")])
    n = 5
    batch = SimpleNamespace(
        row=np.arange(n) + 10,
        label=np.array([0, 1, np.nan, 0, 1], np.float32),
        weight=np.ones(n, np.float32),
        initial=np.zeros(n, np.float32),
        columns=[pa.array(list("abcde"))],
        features=None,
        prepared=None,
    )
    block = encoder.block(batch, 2, 4)
    assert block.n == 2
    assert block.row.tolist() == [12, 13]
    assert block.index.tolist() == hashes("a", b"c") + hashes("a", b"d")
    batch.features = block
    assert encoder.block(batch, 1, 2).row.tolist() == [13]
    encoder.run(block, immediate_tape(block.label))
    assert encoder.learned == 1


def test_a_batch_prepared_ahead_gives_the_same_features() -> None:
    """Also when the edges moved, and other columns came, since it was prepared."""
    fields = [Field("a", "category"), Field("n", "number")]
    random = np.random.default_rng(3)

    def batch_of(n: int) -> SimpleNamespace:
        words = pa.array(random.choice(["x", "y", "z"], n)).dictionary_encode()
        return SimpleNamespace(
            row=np.arange(n),
            label=np.ones(n, np.float32),
            weight=np.ones(n, np.float32),
            initial=np.zeros(n, np.float32),
            columns=[words, pa.array(random.integers(0, 1000, n), pa.int32())],
            features=None,
            prepared=None,
            ahead=0,
        )

    batches = [batch_of(FIRST_CHANGE), batch_of(50)]
    found = []
    for ahead in (False, True):
        encoder = Encoder(fields)
        for batch in batches:
            batch.prepared = None
            if ahead:
                encoder.prepare(batch)
        first = encoder.block(batches[0], 0, FIRST_CHANGE)
        found.append([first.index.copy()])
        encoder.run(first, immediate_tape(first.label))
        encoder.change()
        found[-1] += [encoder.block(batches[1], a, a + 25).index.copy() for a in (0, 25)]
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_warming_changes_nothing() -> None:
    encoder = trained()
    arrays, meta = encoder.state()
    encoder.warm()
    after, meta_after = encoder.state()
    assert meta_after == meta
    assert all(after[key].tobytes() == arrays[key].tobytes() for key in arrays)


# dicts without a schema


def test_fields_are_learned_from_dicts() -> None:
    encoder = Encoder()
    first, second = {"b": "x", "a": 2}, {"c": [1, 2], "b": None, 5: True}
    assert encoder.encode_one(first).index.tolist() == [
        *hashes("a", np.float64(2).tobytes()),
        *hashes("b", b"x"),
    ]
    assert encoder.fields == ()
    encoder.meet(first)
    expected = [
        *hashes("5", b"true"),
        *hashes("a", b""),
        *hashes("b", b""),
        *hashes("c", b"1", b"2"),
    ]
    assert encoder.encode_one(second).index.tolist() == expected
    encoder.meet(second)
    assert encoder.encode_one(second).index.tolist() == expected
    assert encoder.fields == tuple(
        Field(name, kind)
        for name, kind in zip("5abc", ["category", "number", "category", "text"], strict=True)
    )
    assert encoder.encode_one({}).index.tolist() == [
        h for name in "5abc" for h in hashes(name, b"")
    ]
    assert encoder.next_change() == FIRST_CHANGE
    assert Encoder().next_change() == NEVER


def test_a_field_first_met_missing_takes_the_kind_of_its_first_value() -> None:
    encoder = Encoder()
    encoder.meet({"a": None, "b": "x"})
    assert encoder.encode_one({"a": 3.0, "b": "x"}).index.tolist() == [
        *hashes("a", np.float64(2).tobytes()),
        *hashes("b", b"x"),
    ]
    encoder.meet({"a": 3.0, "b": "x"})
    assert encoder.fields[0].kind == "number"
    # from now on text that is no number is a word of its own there
    assert encoder.encode_one({"a": "n/a"}).index.tolist() == [
        *hashes("a", b"n/a"),
        *hashes("b", b""),
    ]


def test_fields_known_are_bounded() -> None:
    encoder = Encoder()
    for i in range(0, 3 * KNOWN_FIELDS, 64):
        encoder.meet({f"k{j:05d}": "x" for j in range(i, i + 64)})
    assert len(encoder.fields) == KNOWN_FIELDS
    one = encoder.encode_one({"zzz": "y"})
    assert one.index[-1:].tolist() == hashes("zzz", b"y")
    assert len(one.index) == KNOWN_FIELDS + 1


def test_new_number_fields_keep_the_edges_of_the_others() -> None:
    encoder = Encoder()
    for i in range(FIRST_CHANGE):
        x = {"m": float(i)}
        encoder.meet(x)
        observe(encoder, encoder.encode_one(x))
    encoder.change()
    before = [encoder.encode_one({"m": float(i)}).index.tolist() for i in range(40)]
    encoder.meet({"a": 1.0, "z": 2})
    for i in range(40):
        one = encoder.encode_one({"a": 5.0, "m": float(i)})
        assert one.index[1:2].tolist() == before[i]
        assert one.index[:1].tolist() == hashes("a", np.float64(lower_edge(5.0)).tobytes())
        np.testing.assert_array_equal(one.numbers, [[5.0, float(i), math.nan]])


# time and state


def test_nothing_looks_ahead() -> None:
    random = np.random.default_rng(2)
    fields = [Field("n", "number")]
    values = random.normal(0, 5, 300)
    other = np.where(np.arange(300) < 100, values, 1e6)
    seen = []
    for stream in (values, other):
        encoder, rows = Encoder(fields), []
        for value in stream:
            rows.append(encoder.encode_one({"n": value}).index.tolist())
            observe(encoder, encoder.encode_one({"n": value}))
            if encoder.learned == encoder.next_change():
                encoder.change()
        seen.append(rows)
    assert seen[0][:100] == seen[1][:100]


def test_state_goes_through_json_and_pickle() -> None:
    encoder = trained(seed=4)
    arrays, meta = encoder.state()
    other = Encoder()
    other.restore(arrays, json.loads(json.dumps(meta)))
    copies = [other, pickle.loads(pickle.dumps(encoder))]
    x = {"a": 3.25, "b": "x", "c": "u v", "d": 7}
    expected = encoder.encode_one(x)
    for copy in copies:
        assert copy.fields == encoder.fields
        assert (copy.learned, copy.next_change()) == (encoder.learned, encoder.next_change())
        assert copy.encode_one(x).index.tolist() == expected.index.tolist()
        for i in range(200):
            y = {"a": i / 7}
            observe(copy, copy.encode_one(y))
        copy.change()
    assert pickle.dumps(copies[0]) == pickle.dumps(copies[1])


def test_ten_thousand_columns() -> None:
    fields = [Field(f"f{j:05d}", "number" if j % 3 else "category") for j in range(10_000)]
    encoder = Encoder(fields)
    numbers, words = pa.array([1.0, None, 3.0] * 8), pa.array(["a", "b", ""] * 8)
    arrays = [numbers if field.kind == "number" else words for field in fields]
    encoder.encode(arrays[:], 0, 1)
    start = time.perf_counter()
    encoded = encoder.encode(arrays, 0, 24)
    observe(encoder, encoded)
    encoder.change()
    encoder.encode(arrays, 0, 24)
    assert TWINS or time.perf_counter() - start < 5
    assert encoder.bins.reservoir.nbytes < 2**25
