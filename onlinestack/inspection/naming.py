"""What to call what a model is made of: columns, features of records, slots of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from onlinestack.block import Block
from onlinestack.features.encoder import Encoder, field_seed
from onlinestack.features.layout import dense_index
from onlinestack.features.random_bits import RandomBits
from onlinestack.linear.interactions import CONSTANT, PRIME, Reads
from onlinestack.models import Learner
from onlinestack.stacker import OnlineStacker

__all__ = [
    "Known",
    "CONSTANT_NAME",
    "bit_names",
    "dense_names",
    "encoder_of",
    "known_features",
    "pair_names",
    "position_names",
    "product_name",
    "slot_names",
]

CONSTANT_NAME = "constant"
Known = dict[str, tuple[Sequence[str], NDArray[np.uint32]]]
"""Names and hashes of features, by letter of their namespace."""
F = ord("f")
MOST_PAIRED = 4096
"""Names up to which the pairs of all of them are looked at."""
TIMES = " x "
"""Stands between the features of an interaction."""


def encoder_of(learner: Learner) -> Encoder:
    """Return the part of a model that hashes records."""
    encoder = learner.parts["encoder"]
    assert isinstance(encoder, Encoder)  # noqa: S101 - narrows a type
    return encoder


def dense_names(learner: Learner) -> dict[str, list[str]]:
    """Return the features of the namespaces that have the same ones in every record, by letter."""
    if not isinstance(learner, OnlineStacker):
        return {}
    stack = learner.assembly
    members = stack.names[: stack.mixture.members]
    return {"c": stack.statistic_names(), "s": [f"score {name}" for name in members]}


def position_names(
    block: Block, fields: Sequence[str], dense: Mapping[str, Sequence[str]]
) -> dict[int, str]:
    """Return a name for each position of a block of one record that holds a feature.

    Parameters
    ----------
    block
        The record, laid out.
    fields
        Names of its hashed features (namespace ``f``).
    dense
        Names of the features of other namespaces.
    """
    names: dict[int, str] = {}
    for letter, first, last in zip(block.names[0], block.start[0], block.stop[0], strict=True):
        own = fields if letter == ord("f") else dense.get(chr(letter), ())
        for place, at in enumerate(range(first, last)):
            names[at] = own[place] if place < len(own) else f"{chr(letter)}[{place}]"
    return names


def product_name(names: Iterable[str]) -> str:
    """Return what to call features that are multiplied; none of them are the constant."""
    return TIMES.join(names) or CONSTANT_NAME


def slot_names(reads: Reads, mask: int, known: Known) -> dict[int, list[str]]:
    """Return what is known of the slots that a linear learner reads by themselves.

    Parameters
    ----------
    reads
        What it reads.
    mask
        Number of its slots, less one.
    known
        Names and hashes of features, by letter of their namespace.
    """
    names: dict[int, list[str]] = {}
    if reads.constant:
        names[CONSTANT * reads.spread & mask] = [CONSTANT_NAME]
    for letter, (called, hashes) in known.items():
        if not reads.linear[ord(letter)]:
            continue
        slots = (hashes.astype(np.int64) * reads.spread & mask).tolist()
        for name, slot in zip(called, slots, strict=True):
            names.setdefault(slot, []).append(name)
    return names


def known_features(learner: Learner) -> Known:
    """Return names and hashes of all features whose names are known, by letter of their namespace.

    Those of dense namespaces always are; those of fields in the order of the fields, where the
    learner keeps names.
    """
    known: Known = {
        letter: (names, dense_index(letter, len(names)))
        for letter, names in dense_names(learner).items()
    }
    encoder = encoder_of(learner)
    if encoder.ledger is not None:
        ledger = encoder.ledger
        place = {field_seed(field.name): at for at, field in enumerate(encoder.fields)}
        order = np.argsort([place.get(seed, len(place)) for seed in ledger.seeds.tolist()])
        known["f"] = [ledger.names[at] for at in order.tolist()], ledger.hashes[order]
    return known


def pair_names(
    reads: Reads, mask: int, names: Sequence[str], hashes: NDArray[np.uint32], slots: Sequence[int]
) -> dict[int, list[str]]:
    """Return which pairs of features of namespace ``f`` have one of some slots.

    Parameters
    ----------
    reads, mask
        Of the linear learner.
    names, hashes
        The features known, in the order of their fields; nothing is returned where there are more
        than 4096 of them, since then every slot has many pairs.
    slots
        The slots wanted.
    """
    found: dict[int, list[str]] = {}
    pairs = [term for term in reads.terms.tolist() if term[:2] == [F, F] and not any(term[2:])]
    if not pairs or len(names) > MOST_PAIRED:
        return found
    wanted = np.array(slots, np.int64)
    scaled = hashes.astype(np.uint64) * np.uint64(reads.spread)
    for i, first in enumerate(scaled * PRIME):
        slot = ((first ^ scaled[i:]) & np.uint64(mask)).astype(np.int64)
        for j in np.flatnonzero(np.isin(slot, wanted)).tolist():
            found.setdefault(int(slot[j]), []).append(product_name((names[i], names[i + j])))
    return found


def bit_names(learner: Learner, columns: Sequence[str]) -> list[str]:
    """Return for each random bit which columns of the table it is a threshold on."""
    part = learner.parts.get("random bits")
    if not isinstance(part, RandomBits):
        return []
    planes = part.planes
    if planes is None or not len(planes.column):
        return [f"bit {bit}, not drawn yet" for bit in range(part.bits)]
    return [
        f"bit {bit} of {', '.join(columns[planes.column[at]] for at in dict.fromkeys(inputs))}"
        for bit, inputs in enumerate(planes.input.tolist())
    ]
