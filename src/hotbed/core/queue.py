"""Who waits, in order of arrival, grouped by what they wait for.

A group is one environment and mode: when its first ticket cannot be served, none behind it can,
so serving looks at heads of groups alone and a long queue costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

Group = TypeVar("Group")
Item = TypeVar("Item")


class Queue(Generic[Group, Item]):
    """First come, first served over all groups."""

    def __init__(self) -> None:
        self._groups: dict[Group, OrderedDict[Item, int]] = {}
        self._group_of: dict[Item, Group] = {}
        self._next = 0
        self._before = -1

    def __len__(self) -> int:
        return len(self._group_of)

    def __contains__(self, item: Item) -> bool:
        return item in self._group_of

    def waiting(self, group: Group) -> int:
        """How many wait in a group."""
        return len(self._groups.get(group, ()))

    def push(self, group: Group, item: Item) -> None:
        """Append at the end."""
        self._groups.setdefault(group, OrderedDict())[item] = self._next
        self._group_of[item] = group
        self._next += 1

    def push_front(self, group: Group, item: Item) -> None:
        """Put back in front of everybody: for one who has waited already."""
        line = self._groups.setdefault(group, OrderedDict())
        line[item] = self._before
        line.move_to_end(item, last=False)
        self._group_of[item] = group
        self._before -= 1

    def remove(self, item: Item) -> None:
        """Take an item out, wherever it stands.

        Raises:
            KeyError: If it does not wait.
        """
        group = self._group_of.pop(item)
        line = self._groups[group]
        del line[item]
        if not line:
            del self._groups[group]

    def heads(self) -> list[tuple[Group, Item]]:
        """The first of each group, longest waiting first."""
        firsts = [(next(iter(line.items())), group) for group, line in self._groups.items()]
        firsts.sort(key=lambda entry: entry[0][1])
        return [(group, item) for (item, _order), group in firsts]

    def of(self, group: Group) -> Iterator[Item]:
        """The items of a group, in order; a snapshot."""
        return iter(list(self._groups.get(group, ())))
