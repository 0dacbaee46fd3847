"""Labelled texts, and how they are split into training, validation and test.

Knows no model and no file: rows go in, and come out so that nothing is in two splits.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from homefire.errors import InputError


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One example: a text and its class."""

    text: str
    label: str
    member: str
    """Where the text comes from, as `module.Class.method`; the normalised text where it comes from a user's file."""
    family: str = ""
    """The top-level class or function that the member belongs to, never split up; empty is the member itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Three disjoint sets of examples: no member and no text, letter case and spaces aside, is in two of them."""

    train: tuple[LabelledText, ...]
    validation: tuple[LabelledText, ...]
    test: tuple[LabelledText, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({row.label for part in (self.train, self.validation, self.test) for row in part}))


def normalised(text: str) -> str:
    """The text without what makes no difference: letter case and runs of spaces."""
    return " ".join(text.casefold().split())


def distinct(rows: Iterable[LabelledText]) -> list[LabelledText]:
    """The first row of each text; texts that occur under two labels are dropped, as no answer to them is right."""
    rows = list(rows)
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[normalised(row.text)].add(row.label)
    first: dict[str, LabelledText] = {}
    for row in rows:
        key = normalised(row.text)
        if len(labels[key]) == 1:
            first.setdefault(key, row)
    return list(first.values())


def split(rows: Sequence[LabelledText], *, seed: int, train: int, validation: int, test: int) -> Splits:
    """Draws three disjoint splits, with near equal numbers of each label.

    A label that has more rows than its share is cut down to it; one that has fewer gives what it has, in the same proportions, and the
    other labels fill the gap where they can. So a split may come out a little smaller than asked for. The same rows and seed give the
    same splits.

    Args:
        rows: repeated texts and texts with two labels are left out first.
        seed: of the drawing and of the order within each split.
        train: rows wanted for training.
        validation: rows wanted for validation.
        test: rows wanted for the test.

    Raises:
        InputError: a size is below 1, or the rows are too few for three splits of each label.
    """
    wanted = (train, validation, test)
    if min(wanted) < 1:
        raise InputError(f"train={train}, validation={validation}, test={test}: each split needs at least 1 row; ask for more.")
    by_label: defaultdict[str, list[LabelledText]] = defaultdict(list)
    for row in distinct(rows):
        by_label[row.label].append(row)
    if not any(len(members) >= len(wanted) for members in by_label.values()):
        raise InputError(
            f"{len(rows)} rows with {len(by_label)} labels cannot be split in three: no label has 3 different texts. "
            "Add rows for each label."
        )
    random_source = random.Random(seed)
    parts: tuple[list[LabelledText], ...] = ([], [], [])
    shares = _shares({label: len(members) for label, members in sorted(by_label.items())}, sum(wanted))
    quotas = _quotas(shares, wanted)
    for label, quota in quotas.items():
        for part, chosen in zip(parts, _deal(by_label[label], quota, random_source), strict=True):
            part.extend(chosen)
    for part in parts:
        random_source.shuffle(part)
    return Splits(train=tuple(parts[0]), validation=tuple(parts[1]), test=tuple(parts[2]))


def _shares(available: Mapping[str, int], total: int) -> dict[str, int]:
    """How many rows each label gives: as equal as possible, `total` in all where there are that many."""
    shares: dict[str, int] = {}
    left = total
    for position, label in enumerate(sorted(available, key=lambda name: (available[name], name))):
        shares[label] = min(available[label], -(-left // (len(available) - position)))
        left -= shares[label]
    return {label: shares[label] for label in available}


def _quotas(shares: Mapping[str, int], wanted: tuple[int, ...]) -> dict[str, list[int]]:
    """Cuts each label's share in the proportions wanted; what rounding leaves over is carried to the next label."""
    total = sum(wanted)
    quotas: dict[str, list[int]] = {}
    carried = [0.0, 0.0, 0.0]
    for label, share in shares.items():
        exact = [share * size / total + rest for size, rest in zip(wanted, carried, strict=True)]
        quota = [max(round(value), 1) for value in exact[1:]] if share >= len(wanted) else [0, 0]
        quotas[label] = [max(share - sum(quota), min(share, 1)), *quota]
        carried = [value - given for value, given in zip(exact, quotas[label], strict=True)]
    return quotas


def _deal(rows: Sequence[LabelledText], quota: Sequence[int], random_source: random.Random) -> list[list[LabelledText]]:
    """Deals whole members to the splits until each has its quota.

    A member with more than half of a split's quota goes to training, so that no test is about one class; its surplus rows are dropped.
    """
    members: defaultdict[str, list[LabelledText]] = defaultdict(list)
    for row in rows:
        members[row.family or row.member].append(row)
    order = list(members.values())
    random_source.shuffle(order)
    parts: list[list[LabelledText]] = [[], [], []]
    left_over: list[list[LabelledText]] = []
    for member in order:
        needs = [size - len(part) for size, part in zip(quota, parts, strict=True)]
        fitting = [index for index in range(3) if needs[index] > 0 and (index == 0 or len(member) <= max(1, quota[index] // 2))]
        if not fitting:
            left_over.append(member)
            continue
        index = random_source.choices(fitting, [needs[index] for index in fitting])[0]
        parts[index].extend(random_source.sample(member, min(len(member), needs[index])))
    for member in left_over:
        index = max(range(3), key=lambda place: quota[place] - len(parts[place]))
        parts[index].extend(random_source.sample(member, min(len(member), quota[index] - len(parts[index]))))
    return parts


def counts(splits: Splits) -> dict[str, tuple[int, int, int]]:
    """Rows of each label in train, validation and test."""
    train, validation, test = (Counter(row.label for row in part) for part in (splits.train, splits.validation, splits.test))
    return {label: (train[label], validation[label], test[label]) for label in splits.labels}
