"""The encoder: fields of a record to hashed features, the same for columns and for dicts."""

from __future__ import annotations

import json
import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import is_, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import AHEAD, Block, Tape
from onlinestack.features.bins import Bins, lower_edge
from onlinestack.features.columns import (
    COUNT,
    EDGE,
    HASH,
    HOW,
    LIST,
    MISSING_HASH,
    NUMBER_COLUMN,
    PADDING,
    SCRATCH,
    SEED,
    TOKENS,
    WIDTH,
    count_features,
    encode_rows,
    plain_numbers,
)
from onlinestack.features.names import Ledger
from onlinestack.features.number_text import TEXT, number_of
from onlinestack.features.singles import Singles
from onlinestack.features.values import canonical, elements, is_multiple, is_number, kind_of
from onlinestack.murmur import uniform_hash

if TYPE_CHECKING:
    from onlinestack.io.schema import Field

__all__ = ["Encoded", "Encoder", "field_seed"]

KNOWN_FIELDS = 1024
"""How many fields are learned from dicts; those beyond are hashed when present, not missed."""
RESERVOIR_ROWS, RESERVOIR_CELLS = 2048, 2**21
LARGEST = sys.float_info.max
NUMERIC = frozenset({int, float, type(None), np.int64, np.int32, np.float64, np.float32})
UNCHANGING = NUMERIC | {str, bool}
NO_EXTENTS = np.empty((0, 0), np.int64)
FIRST, ONE_NAME = np.zeros((1, 1), np.int64), np.array([[ord("f")]], np.uint8)


class Encoded(NamedTuple):
    """The features of consecutive records, as arrays of a `Block`, valid for `AHEAD` more calls.

    Parameters
    ----------
    index
        ``uint32``: feature hashes.
    value
        ``float32``: feature values, 1 in namespace ``f``.
    names
        ``uint8[n, g]``: namespace letters: ``f`` and, when asked for, ``x``.
    start, stop
        ``int64[n, g]``: extent of each namespace in the pool.
    numbers
        ``float64[n, k]``: the plain numbers, NaN where missing, fields in order of their names.
    opens, closes
        ``int64[n, fields]``: extent of each known field in the pool, when asked for.
    """

    index: NDArray[np.uint32]  # type: ignore[assignment]  # hides tuple.index
    value: NDArray[np.float32]
    names: NDArray[np.uint8]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    numbers: NDArray[np.float64]
    opens: NDArray[np.int64] = NO_EXTENTS
    closes: NDArray[np.int64] = NO_EXTENTS


def field_seed(name: str, namespace: bytes = b"f") -> int:
    """Return the seed that a field's values are hashed with.

    Examples
    --------
    >>> field_seed("C1") == uniform_hash(b"C1", uniform_hash(b"f", 0))
    True
    """
    return uniform_hash(canonical(name), uniform_hash(namespace, 0))


@dataclass(slots=True)
class _Reader:
    """How one field of a dict is read."""

    name: str
    kind: str
    seed: int
    missing: int
    number: int
    """Column in the matrix of numbers, -1 for none."""
    edges: list[float]
    hashes: list[int]
    """Of the bins, that of "below all edges" first; empty while there are no edges."""

    def bin(self, number: float) -> int:
        """Return the hash of the bin that a finite number lies in."""
        if self.hashes:
            return self.hashes[bisect_right(self.edges, number)]
        return uniform_hash(np.float64(lower_edge(number)).tobytes(), self.seed)

    def edge(self, number: float) -> float:
        """Return the lower edge of the bin that a finite number lies in."""
        if self.hashes:
            return (-math.inf, *self.edges)[bisect_right(self.edges, number)]
        return lower_edge(number)


def _picker(keys: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what picks some of a container's values, all at once."""
    if len(keys) > 1:
        return itemgetter(*keys)
    return lambda container: tuple(container[key] for key in keys)


def _texts(value: Any) -> list[bytes]:
    """Return a text's tokens, or a list's elements."""
    return elements(value) if is_multiple(value) else canonical(value).split()


def _reader(name: str, kind: str, number: int = -1) -> _Reader:
    seed = field_seed(name)
    return _Reader(name, kind, seed, uniform_hash(b"", seed), number, [], [])


class _Prepared(NamedTuple):
    """What an encoder made of the columns of a batch ahead of its turn."""

    encoder: Encoder
    columns: list[Any]
    table: NDArray[np.int64]
    keep: list[Any]


class _Pool:
    """Arrays that are filled again for each stretch of records."""

    def __init__(self) -> None:
        self.index = np.empty(0, np.uint32)
        self.value = np.empty(0, np.float32)
        self.flagged = np.empty((64, 3), np.int64)
        self.scratch = np.empty(SCRATCH, np.int64)
        self.numbers = np.empty(0)
        self.start = np.empty((0, 1), np.int64)
        self.width = -1

    def features(self, size: int) -> None:
        if len(self.index) < size:
            self.index = np.empty(size, np.uint32)
            self.value = np.ones(size, np.float32)

    def matrix(self, rows: int, columns: int) -> NDArray[np.float64]:
        if len(self.numbers) < rows * columns:
            self.numbers = np.empty(rows * columns)
        return self.numbers[: rows * columns].reshape(rows, columns)

    def starts(self, rows: int, width: int) -> NDArray[np.int64]:
        if len(self.start) < rows or self.width != width:
            self.width = width
            self.start = np.arange(max(rows, len(self.start)), dtype=np.int64)[:, None] * width
        return self.start[:rows]


class Encoder:
    """Turn the fields of records into hashed features, from columns and from dicts alike.

    A category gives the hash of its text, a number that of the bin it lies in, a text or a list
    one feature an element; a missing value has a hash of its own. Columns and dicts give the
    same features bit for bit, in the order of the fields. Bins move at doubling counts of
    labelled records only, on the word of the engine (`next_change`, `change`).

    Use it through a learner; alone it serves to look at features.

    Parameters
    ----------
    fields
        The fields of the schema, in order of their names. Without any, fields are learned from
        dicts as they come (`meet`), up to 1024 of them.
    bins
        A bin of a number field holds about one part in ``bins`` of its values.
    seed
        Seed of the sample of records that edges are drawn from.
    plain
        Whether namespace ``x``, the plain numbers, is given too.
    extents
        Whether to tell where each field's features lie.
    names
        Whether to keep names of features met in records that are learned; extents are then told.

    Attributes
    ----------
    ledger
        The names; None where none are kept.

    Raises
    ------
    ValueError
        When fields are not in order of their names, or a column cannot hold features.

    Examples
    --------
    >>> encoder = Encoder()
    >>> x = {"site": "news", "price": 3.5}
    >>> _ = encoder.meet(x)
    >>> one = encoder.encode_one(x)
    >>> [int(i) for i in one.index] == [
    ...     uniform_hash(np.float64(2.0).tobytes(), field_seed("price")),
    ...     uniform_hash(b"news", field_seed("site")),
    ... ]
    True
    >>> one.numbers
    array([[3.5]])
    """

    fills = "f"
    needs: tuple[str, ...] = ()

    def __init__(
        self,
        fields: Sequence[Field] = (),
        *,
        bins: int = 8,
        seed: int = 0,
        plain: bool = False,
        extents: bool = False,
        names: bool = False,
    ) -> None:
        own, kinds = [field.name for field in fields], [str(field.kind) for field in fields]
        if own != sorted(set(own)):
            raise ValueError(
                f"Fields came as {', '.join(own[:20])}; expected each name once, in order: sort "
                "them by name."
            )
        self.growing = not fields
        self.plain, self.extents = plain, extents or names
        self.ledger = Ledger() if names else None
        self._names, self._kinds = own, kinds
        numbers = kinds.count("number")
        rows = RESERVOIR_ROWS
        if not self.growing:
            rows = max(128, min(rows, RESERVOIR_CELLS // max(numbers, 1)))
        self.bins = Bins(numbers, share=bins, rows=rows, seed=seed)
        self._set_up()

    def _set_up(self) -> None:
        """Derive all that follows from fields and bins."""
        self._pools = [_Pool() for _ in range(AHEAD + 1)]
        self._pool_of_one = _Pool()
        self._columns: list[Any] | None = None
        self._table = np.empty((0, WIDTH), np.int64)
        self._keep: list[Any] = []
        self._dictionaries: dict[int, tuple[Any, NDArray[np.uint32]]] = {}
        self._lay_out()

    def _lay_out(self) -> None:
        """Derive all that follows from the fields."""
        count, numbers = len(self._names), 0
        self._known, self._undecided = set(self._names), "" in self._kinds
        self._all_of = _picker(self._names)
        self._texts = "text" in self._kinds
        self._readers: list[_Reader] = []
        self._fields_table = np.zeros((count, WIDTH), np.int64)
        self._fields_table[:, NUMBER_COLUMN] = -1
        for j, (name, kind) in enumerate(zip(self._names, self._kinds, strict=True)):
            reader = _reader(name, kind, numbers if kind == "number" else -1)
            numbers += kind == "number"
            row = reader.seed, reader.missing, reader.number
            self._fields_table[j, [SEED, MISSING_HASH, NUMBER_COLUMN]] = row
            self._readers.append(reader)
        self._seeds = self._fields_table[:, SEED].astype(np.uint32)
        self._plain_seeds = np.array(
            [field_seed(r.name, b"x") for r in self._readers if r.number >= 0], np.uint32
        )
        self._no_numbers = [math.nan] * numbers
        of_number = [reader.number >= 0 for reader in self._readers]
        self._numbers_of = _picker([j for j, number in enumerate(of_number) if number])
        self._texts_of = _picker([j for j, number in enumerate(of_number) if not number])
        self._odd: list[Any] = []
        """Values of `_seen` that may change, or something else where it tells nothing."""
        self._one: Block | None = None
        """A record of one value a field, filled again and again."""
        self._lay_edges()

    def _lay_edges(self) -> None:
        """Derive all that follows from the edges: padded for the kernel, hashed once."""
        self.again = False
        self._seen: tuple[Any, ...] = ()
        """The values that `_one` holds."""
        self._odd.append(None)
        padded: list[NDArray[np.float64]] = [np.empty(0)]
        hashes: list[int] = []
        at = 0
        for reader, row in zip(self._readers, self._fields_table, strict=True):
            if reader.number < 0:
                continue
            edges = self.bins.edges_of(reader.number)
            reader.edges, reader.hashes = edges.tolist(), []
            if not len(edges):
                row[COUNT] = 0
                continue
            count = -(-len(edges) // PADDING) * PADDING
            reader.hashes = [
                uniform_hash(np.float64(edge).tobytes(), reader.seed)
                for edge in (-math.inf, *reader.edges)
            ]
            row[[EDGE, COUNT, HASH]] = at, count, len(hashes)
            hashes += reader.hashes
            padded += [edges, np.full(count - len(edges), math.inf)]
            at += count
        self._singles: Singles | None = None
        """What fills `_one`; made when first needed."""
        self._edges = np.concatenate(padded)
        self._hashes = np.array(hashes, np.uint32)
        if len(self._table) == len(self._fields_table):
            self._table[:, [EDGE, COUNT, HASH]] = self._fields_table[:, [EDGE, COUNT, HASH]]

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields known, in order of their names; those only seen missing count as category."""
        from onlinestack.io.schema import Field

        pairs = zip(self._names, self._kinds, strict=True)
        return tuple(Field(name, kind or "category") for name, kind in pairs)  # type: ignore[arg-type]

    # columns

    def warm(self) -> None:
        """Load the kernels, without any other effect, while there is nothing else to do."""
        nothing = self.bins.reservoir[:0]
        no_rows = np.empty(0, np.int64)
        pool = _Pool()
        edges, hashes = np.empty(0), np.empty(0, np.uint32)
        encode_rows(
            np.empty((0, WIDTH), np.int64),
            edges,
            hashes,
            0,
            0,
            no_rows,
            pool.index,
            nothing,
            pool.flagged,
            pool.scratch,
        )
        self.bins.observe(nothing, np.empty(0, np.uint8), np.empty(0, np.int32))

    def prepare(self, batch: Any) -> None:
        """Look at the columns of a batch ahead of its turn, in any thread.

        Parameters
        ----------
        batch
            A batch of a source with the schema of this encoder.
        """
        if batch.features is None and not self.growing:
            batch.prepared = _Prepared(self, batch.columns, *self._describe(batch.columns))

    def _describe(self, columns: list[Any]) -> tuple[NDArray[np.int64], list[Any]]:
        """Return the descriptor table for the columns of a batch, and what it points into."""
        from onlinestack.features.arrow import DESCRIBED, describe

        if len(columns) != len(self._names):
            raise ValueError(
                f"The batch has {len(columns)} columns; expected one for each of the "
                f"{len(self._names)} fields: read it with the schema of the encoder."
            )
        keep: list[Any] = []
        table = self._fields_table.copy()
        rows = [
            describe(array, reader.kind, reader.seed, self._dictionaries, keep)
            for array, reader in zip(columns, self._readers, strict=True)
        ]
        if rows:
            table[:, :DESCRIBED] = rows
        return table, keep

    def _prepare(self, columns: list[Any]) -> None:
        """Let the rows to be encoded be those of some columns."""
        self._take(columns, *self._describe(columns))

    def _take(self, columns: list[Any], table: NDArray[np.int64], keep: list[Any]) -> None:
        """Let the rows to be encoded be those of columns described before."""
        # edges may have moved since the columns were looked at
        table[:, [EDGE, COUNT, HASH]] = self._fields_table[:, [EDGE, COUNT, HASH]]
        self._columns, self._table, self._keep = columns, table, keep
        how = table[:, HOW]
        self._several = bool(((how == TOKENS) | (how == LIST)).any())

    def encode(self, columns: list[Any], start: int, stop: int) -> Encoded:
        """Return the features of the rows ``start`` to ``stop`` of a batch.

        Parameters
        ----------
        columns
            One Arrow array a field, in the order of the fields. The list must not change between
            calls: what is prepared for it is kept.
        start, stop
            First row and the one behind the last.

        Raises
        ------
        ValueError
            When the number of columns is not that of the fields, or a type cannot hold features.
        """
        if columns is not self._columns:
            self._prepare(columns)
        # By turns, so that blocks can be encoded while those before are learned.
        self._pools.append(self._pools.pop(0))
        pool, rows, fields = self._pools[0], stop - start, len(self._names)
        numbers = pool.matrix(rows, self.bins.count)
        if self._several:
            place = np.empty(rows + 1, np.int64)
            place[0] = 0
            count_features(self._table, start, stop, place[1:])
            np.cumsum(place, out=place)
            size = int(place[-1])
            first, last = place[:-1, None].copy(), place[1:, None].copy()
            place = place[:-1]
        else:
            first = pool.starts(rows, fields)
            last = first + fields
            place, size = first[:, 0], rows * fields
        pool.features(size + (numbers.size if self.plain else 0))
        left = self._fill(start, stop, place, pool, numbers)
        if left > len(pool.flagged):
            pool.flagged = np.empty((2 * left, 3), np.int64)
            left = self._fill(start, stop, first[:, 0].copy(), pool, numbers)
        if left:
            self._finish(columns, start, pool, numbers, left)
        encoded = self._encoded(pool, first, last, numbers, size)
        if not self.extents:
            return encoded
        counts = np.ones((rows, fields), np.int64)
        if self._several:
            one = np.empty(rows, np.int64)
            for j in range(fields):
                count_features(self._table[j : j + 1], start, stop, one)
                counts[:, j] = one
        return self._with_extents(encoded, counts)

    def _fill(
        self,
        start: int,
        stop: int,
        place: NDArray[np.int64],
        pool: _Pool,
        numbers: NDArray[np.float64],
    ) -> int:
        return int(
            encode_rows(
                self._table,
                self._edges,
                self._hashes,
                start,
                stop,
                place,
                pool.index,
                numbers,
                pool.flagged,
                pool.scratch,
            )
        )

    def _finish(
        self,
        columns: list[Any],
        start: int,
        pool: _Pool,
        numbers: NDArray[np.float64],
        left: int,
    ) -> None:
        """Encode the few values that the kernel left to Python."""
        for row, j, at in pool.flagged[:left].tolist():
            reader = self._readers[j]
            hashed, number = self._hash(reader, columns[j][start + row].as_py())
            pool.index[at] = hashed
            if reader.number >= 0:
                numbers[row, reader.number] = number

    def _encoded(
        self,
        pool: _Pool,
        first: NDArray[np.int64],
        last: NDArray[np.int64],
        numbers: NDArray[np.float64],
        size: int,
    ) -> Encoded:
        rows = len(first)
        if not self.plain:
            names = ONE_NAME if rows == 1 else np.full((rows, 1), ord("f"), np.uint8)
            return Encoded(pool.index[:size], pool.value[:size], names, first, last, numbers)
        start, stop = np.empty((2, rows), np.int64)
        pool.value[:size] = 1.0  # plain numbers may have stood here
        plain_numbers(numbers, self._plain_seeds, size, pool.index, pool.value, start, stop)
        end = int(stop[-1]) if rows else size
        return Encoded(
            pool.index[:end],
            pool.value[:end],
            np.tile(np.frombuffer(b"fx", np.uint8), (rows, 1)),
            np.stack([first[:, 0], start], axis=1),
            np.stack([last[:, 0], stop], axis=1),
            numbers,
        )

    def _with_extents(self, encoded: Encoded, counts: NDArray[np.int64]) -> Encoded:
        """Return the features with the extents of fields that have so many each."""
        closes = np.cumsum(counts, axis=1)
        closes += encoded.start[:, :1]
        return encoded._replace(opens=closes - counts, closes=closes)

    def block(self, batch: Any, start: int, stop: int, *, learn: bool = False) -> Block:
        """Return the rows ``start`` to ``stop`` of a source's batch as a block for the kernels.

        Parameters
        ----------
        batch
            A batch of a source; what it parsed itself (Vowpal Wabbit text) is taken as it is.
        start, stop
            First row and the one behind the last.
        learn
            Whether they are to be learned, so that their names may be kept.
        """
        if batch.features is not None:
            features: Block = batch.features
            return features.rows(start, stop)
        columns, ahead, ready = batch.columns, 0, batch.prepared
        if ready is not None and ready.encoder is self:
            columns, ahead = ready.columns, batch.ahead
            if columns is not self._columns:
                self._take(columns, ready.table, ready.keep)
        rows = slice(start, stop)
        first = ahead + start
        encoded = self.encode(columns, first, ahead + stop)
        if learn:
            self._note(encoded, lambda row, field: columns[field][first + row].as_py())
        return Block(
            batch.label[rows], batch.weight[rows], batch.initial[rows], batch.row[rows], *encoded
        )

    def _note(self, encoded: Encoded, value_of: Callable[[int, int], Any]) -> None:
        """Show features to the ledger, if there is one; values are asked for by row and field."""
        if self.ledger is None:
            return

        def called(row: int, field: int) -> list[str]:
            return self._called(self._readers[field], value_of(row, field))

        self.ledger.note(encoded.index, encoded.opens, encoded.closes, self._seeds, called)

    def note(self, x: Mapping[Any, Any]) -> None:
        """Keep the names of a record that is to be learned; `meet` does it, too.

        Parameters
        ----------
        x
            The record, whose fields are known.
        """
        if self.ledger is not None:
            values = {key if isinstance(key, str) else str(key): value for key, value in x.items()}
            names = self._names
            self._note(self.encode_one(x), lambda _, field: values.get(names[field]))

    # dicts

    def _hash(self, reader: _Reader, value: Any) -> tuple[int, float]:
        """Return the hash of a single value and its number (NaN if none)."""
        if reader.kind != "number" or isinstance(value, (bool, np.bool_)):
            return uniform_hash(canonical(value), reader.seed), math.nan
        if is_number(value):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
        else:
            text = canonical(value)
            status, number = number_of(text)
            if status == TEXT:
                return uniform_hash(text, reader.seed), math.nan
        if not math.isfinite(number):
            return reader.missing, math.nan
        return reader.bin(number), number

    def _several_of(self, reader: _Reader, value: Any) -> list[int]:
        """Return the hashes of a text's tokens or a list's elements."""
        return [uniform_hash(text, reader.seed) for text in _texts(value)] or [reader.missing]

    def called(self, values: Sequence[Any]) -> list[list[str]]:
        """Return for each field what to call the features of a value, in their order.

        Parameters
        ----------
        values
            One a field, in the order of the fields; None where missing.

        Examples
        --------
        >>> encoder = Encoder()
        >>> _ = encoder.meet({"price": 3.5, "site": "news", "tags": ["a", "b"]})
        >>> encoder.called([5.0, None, ["b", "a"]])
        [['price>=4'], ['site missing'], ['tags=b', 'tags=a']]
        """
        return [self._called(r, value) for r, value in zip(self._readers, values, strict=True)]

    def _called(self, reader: _Reader, value: Any) -> list[str]:
        name = reader.name
        if reader.kind == "text" or is_multiple(value):
            texts = [f"{name}={text.decode(errors='replace')}" for text in _texts(value)]
            return texts or [f"{name} missing"]
        hashed, number = self._hash(reader, value)
        if not math.isnan(number):
            edge = reader.edge(number)
            return [f"{name}>={edge:.6g}" if edge > -math.inf else f"{name} lowest"]
        if hashed == reader.missing:
            return [f"{name} missing"]
        return [f"{name}={canonical(value).decode(errors='replace')}"]

    def meet(self, x: Mapping[Any, Any]) -> bool:
        """Learn the fields that are new in a record about to be learned; tell if there were some.

        Without effect when the encoder was given its fields, but for the names it keeps.

        Parameters
        ----------
        x
            The record; neither kept nor changed.
        """
        changed = not self.knows(x) and self._grow(x)
        self.note(x)
        return changed

    def _grow(self, x: Mapping[Any, Any]) -> bool:
        """Learn the fields that are new in a record; tell if there were some."""
        changed = False
        kinds = dict(zip(self._names, self._kinds, strict=True))
        for key, value in x.items():
            name = key if isinstance(key, str) else str(key)
            if name not in kinds and len(kinds) >= KNOWN_FIELDS:
                continue
            if not kinds.get(name):
                kind = kind_of(value)
                changed = changed or name not in kinds or kind != ""
                kinds[name] = kind
        if not changed:
            return False
        before = {r.name for r in self._readers if r.number >= 0}
        self._names = sorted(kinds)
        self._kinds = [kinds[name] for name in self._names]
        numbers = [n for n, kind in zip(self._names, self._kinds, strict=True) if kind == "number"]
        for column, name in enumerate(numbers):
            if name not in before:
                self.bins.insert(column)
        self._lay_out()
        return True

    def knows(self, x: Mapping[Any, Any]) -> bool:
        """Tell whether `meet` has nothing to learn from a record."""
        return not self.growing or (x.keys() <= self._known and not self._undecided)

    def encode_one(self, x: Mapping[Any, Any]) -> Encoded:
        """Return the features of one record, the same as those of a row of columns.

        Parameters
        ----------
        x
            The record: field names and values; a key that is no string counts as its text. Known
            fields that are absent are missing; others are ignored when the encoder was given
            its fields, and hashed when it was not. Neither kept nor changed.
        """
        if x.keys() <= self._known and not self._undecided:
            return self._encode_any(x, self._readers)
        x = {key if isinstance(key, str) else str(key): value for key, value in x.items()}
        readers = self._readers
        if self.growing:
            readers = [r if r.kind else _reader(r.name, kind_of(x.get(r.name))) for r in readers]
            readers += [_reader(name, kind_of(x[name])) for name in x if name not in self._known]
            readers.sort(key=lambda reader: reader.name)
        return self._encode_any(x, readers)

    def _fill_singles(self, values: Sequence[Any], block: Block) -> bool:
        """Fill a block with one value a field, in few steps of the interpreter, or tell it cannot.

        It cannot where a value is a list, a field a text, or a number none.
        """
        numbers = [math.nan if v is None else v for v in self._numbers_of(values)]
        if self._texts or not NUMERIC.issuperset(map(type, numbers)):
            return False
        if self._singles is None:
            fields, bins = self._fields_table, (self._edges, self._hashes)
            self._singles = Singles(fields, *bins, block.index, block.numbers[0])
        try:
            texts = [v if type(v) is str else self._text(v) for v in self._texts_of(values)]
            return self._singles.fill(texts, numbers)
        except (TypeError, OverflowError, UnicodeError):
            return False

    def _text(self, value: Any) -> str:
        """Return the text that stands for a value that is none itself."""
        if value is None:
            return ""
        if is_multiple(value):
            raise TypeError("several features")
        if type(value) not in UNCHANGING:
            self._odd.append(value)
        return canonical(value).decode()

    def _encode_any(self, x: Mapping[Any, Any], readers: list[_Reader]) -> Encoded:
        index: list[int] = []
        counts: list[int] = []
        numbers = self._no_numbers.copy()
        for reader in readers:
            before = len(index)
            value: Any = x.get(reader.name)
            if reader.kind == "text" or is_multiple(value):
                index += self._several_of(reader, value)
            else:
                hashed, number = self._hash(reader, value)
                index.append(hashed)
                if reader.number >= 0:
                    numbers[reader.number] = number
            counts.append(len(index) - before)
        pool, size = self._pool_of_one, len(index)
        pool.features(size + (len(numbers) if self.plain else 0))
        pool.index[:size] = index
        encoded = self._encoded(pool, FIRST, np.array([[size]]), np.array([numbers]), size)
        if not self.extents:
            return encoded
        encoded = self._with_extents(encoded, np.array([counts], np.int64))
        known = [j for j, reader in enumerate(readers) if reader.name in self._known]
        return encoded._replace(opens=encoded.opens[:, known], closes=encoded.closes[:, known])

    def block_one(self, x: Mapping[Any, Any], y: Any, w: float) -> Block:
        """Return one record as a block for the kernels.

        Where a record has one value in each field it is the same block again, filled anew, so
        that the kernels' calls can be kept.

        Parameters
        ----------
        x
            The record, as in `encode_one`.
        y
            Its label, None where it is not known.
        w
            Its importance.
        """
        block = self.refill(x, y, w)
        if block is None:
            block = Block(
                np.array([math.nan if y is None else y], np.float32),
                np.array([w], np.float32),
                np.zeros(1, np.float32),
                np.zeros(1, np.int64),
                *self.encode_one(x),
            )
            even = len(block.index) == len(self._names) and x.keys() <= self._known
            if not self.plain and even:
                # Its own, since the pool is filled again for records that are not even.
                block.index, block.value = block.index.copy(), block.value.copy()
                self._one, self._singles = block, None
                self._odd.append(x)
        return block

    def refill(self, x: Mapping[Any, Any], y: Any, w: float) -> Block | None:
        """Fill the block of a record of one value a field with another; None if it does not fit.

        Parameters are those of `block_one`. Where it fits, `meet` has nothing to learn.
        """
        self.again = False
        block = self._one
        values = None if block is None else self._values(x)
        if block is None or values is None:
            return None
        if not self._odd and all(map(is_, values, self._seen)):
            self.again = True
        else:
            self._odd.clear()
            if not self._fill_singles(values, block):
                self._odd.append(x)
                return None
            self._seen = values
        block.label[0], block.weight[0] = math.nan if y is None else y, w
        block.time = None
        return block

    def _values(self, x: Mapping[Any, Any]) -> tuple[Any, ...] | None:
        """Return the values of the fields in order; None where `meet` has something to learn."""
        if self._undecided:
            return None
        if len(x) == len(self._names):
            try:
                return self._all_of(x)
            except KeyError:
                pass
        return tuple(map(x.get, self._names)) if x.keys() <= self._known else None

    def lend(self) -> Block | None:
        """Return the block that records are filled into one by one, for others to fill it.

        None while there is none.
        """
        self._odd.append(None)  # so that it is filled anew for whatever comes next
        return self._one

    def nothing(self) -> Block:
        """Return a block of no records, with as many columns as others have now."""
        none = np.empty((0, 1), np.int64)
        fields = np.empty((0, len(self._names) if self.extents else 0), np.int64)
        number = np.empty(0, np.float32)
        return Block(
            number,
            number,
            number,
            none[:, 0],
            np.empty(0, np.uint32),
            number,
            np.empty((0, 1), np.uint8),
            none,
            none,
            np.empty((0, self.bins.count)),
            fields,
            fields,
        )

    def number_names(self) -> list[str]:
        """Return the names of the fields that are plain numbers, in the order of their columns."""
        return [reader.name for reader in self._readers if reader.number >= 0]

    # learning

    @property
    def learned(self) -> int:
        """Number of labelled records observed."""
        return self.bins.learned

    def run(self, block: Block, tape: Tape) -> None:
        """Show the rows that a tape learns to the sample that edges are drawn from.

        Parameters
        ----------
        block
            A block of this encoder.
        tape
            Its tape; steps that predict change nothing.
        """
        numbers = block.numbers
        if numbers.shape[1] != self.bins.count:  # Vowpal Wabbit text has none
            numbers = np.empty((block.n, self.bins.count))
        self.bins.observe(numbers, tape.op, tape.row)

    def bind(self, block: Block, tape: Tape) -> list[Callable[[], object]]:
        """Return what does the same as `run`, for a block that is filled again and again."""
        return [self.bins.bind(block.numbers, tape.op, tape.row)] if tape.learns else []

    def next_change(self) -> int:
        """Return the count of labelled records learned at which `change` is due."""
        return self.bins.next_change()

    def change(self) -> None:
        """Move the edges; call it between quanta, when ``learned == next_change()``."""
        self.bins.change()
        self._lay_edges()

    # snapshots

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return arrays and JSON-able values from which `restore` rebuilds the encoder."""
        arrays, bins = self.bins.state()
        names = None
        if self.ledger is not None:
            own, names = self.ledger.state()
            arrays |= {f"names/{name}": array for name, array in own.items()}
        fields = [[name, kind] for name, kind in zip(self._names, self._kinds, strict=True)]
        meta = {"fields": fields, "growing": self.growing, "bins": bins}
        meta |= {"plain": self.plain, "extents": self.extents, "names": names}
        return arrays, meta

    def restore(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Become the encoder whose `state` this is."""
        self._names = [name for name, _ in meta["fields"]]
        self._kinds = [kind for _, kind in meta["fields"]]
        self.growing, self.plain, self.extents = meta["growing"], meta["plain"], meta["extents"]
        own = {k.removeprefix("names/"): a for k, a in arrays.items() if k[:6] == "names/"}
        names = meta.get("names")
        self.ledger = None if names is None else Ledger.restored(own, names)
        self.bins = Bins.restored(dict(arrays), meta["bins"])
        self._set_up()

    def __getstate__(self) -> tuple[dict[str, NDArray[Any]], str]:
        # as text, so that equal encoders give equal pickles, whichever strings they share
        arrays, meta = self.state()
        return arrays, json.dumps(meta)

    def __setstate__(self, state: tuple[dict[str, NDArray[Any]], str]) -> None:
        arrays, meta = state
        self.restore(arrays, json.loads(meta))
