"""Which prompts are decoded together: decided before the first is decoded, from the prompts alone.

A batch is decoded as a whole or taken from the cache as a whole. So a run that was killed decodes
the batches it lacks, in the very company they would have had, and no answer changes.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def grouped(items: Iterable[T], keys: Mapping[T, Hashable]) -> list[list[T]]:
    """The items with one key together, in the order of their first."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(keys[item], []).append(item)
    return list(groups.values())


def in_batches(
    groups: Sequence[Sequence[T]],
    size: int,
    repeat: int = 0,
    fits: Callable[[list[list[T]]], bool] = lambda batch: True,
) -> list[list[list[T]]]:
    """The groups in order, as batches of at most `size` items; a larger group is split.

    `fits`: whether the groups of a batch may be together; an item alone always may.
    `repeat` > 0 makes all batches smaller, so that an item has other company.
    """
    if repeat:
        size = max(1, 2 * min(size, sum(map(len, groups))) // (repeat + 2))
    batches: list[list[list[T]]] = []
    room = 0
    for group in groups:
        for piece in _pieces(list(group), size, fits):
            if len(piece) > room or not fits([*batches[-1], piece]):
                batches.append([])
                room = size
            batches[-1].append(piece)
            room -= len(piece)
    return batches


def _pieces(group: list[T], size: int, fits: Callable[[list[list[T]]], bool]) -> list[list[T]]:
    """A group in parts that are small enough to be a batch."""
    if len(group) == 1 or (len(group) <= size and fits([group])):
        return [group]
    first = size if len(group) > size else (len(group) + 1) // 2
    return [*_pieces(group[:first], size, fits), *_pieces(group[first:], size, fits)]
