"""Score trees from the flat arrays of a scoring file; loaded only for models that have some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import pack, unpack

# A list is read three times as fast as a view, and pays from the second row on; the first of all
# is the one by which a file is checked.
LISTS_AFTER_CALLS = 3


def listed(value: object) -> list:  # type: ignore[type-arg]
    """A list, as JSON gives it."""
    if not isinstance(value, list):
        raise TypeError(value)
    return value


class Trees:
    """Trees as flat arrays, in preorder: the left child follows its parent.

    A leaf has feature -1 and, instead of a right child, the number of its row of `values`.
    """

    def __init__(
        self,
        part: Mapping[str, object],
        array: Callable[[object], memoryview],
        link: Callable[[list[float]], list[float]],
    ) -> None:
        names = ("feature", "threshold", "right", "missing_left", "values")
        self._arrays: list[Sequence[float]] = [array(part[name]) for name in names]
        self._roots = [int(root) for root in listed(part["roots"])]
        self._start = [float(value) for value in listed(part["baseline"])]
        self._divisor = float(part["divisor"])  # type: ignore[arg-type]
        self._columns = [int(column) for column in listed(part["columns"])]
        self._width = int(part["width"])  # type: ignore[call-overload]
        self._link = link
        self._is_single = bool(part["single_precision"])
        self._calls = 0
        self._check()

    def _check(self) -> None:
        """Raise ValueError for arrays that do not fit; `score` sees to it that walks go forward."""
        feature, threshold, right, missing, values = self._arrays
        nodes, width = len(feature), self._width
        if not len(threshold) == len(right) == len(missing) == nodes:
            raise ValueError("the arrays of the trees differ in length")
        if any(not 0 <= root < nodes for root in self._roots):
            raise ValueError("a tree begins outside its arrays")
        if width < 1 or len(values) % width:
            raise ValueError("the values of the leaves are cut off")
        if len(self._columns) != len(self._roots):
            raise ValueError("the trees and their columns differ in number")
        if any(not 0 <= column <= len(self._start) - width for column in self._columns):
            raise ValueError("a tree adds to a class that does not exist")

    def score(self, values: Sequence[float]) -> list[float]:
        """The link of the sum over all trees.

        Every step leads forward, so none is endless: checked on the way, because a cold answer
        goes a hundredth of it. Raises IndexError for one that leads elsewhere.
        """
        self._calls += 1
        if self._calls == LISTS_AFTER_CALLS:
            # Reading a list is three times as fast as reading a view, making it is not.
            self._arrays = [list(array) for array in self._arrays]
        feature, threshold, right, missing, leaves = self._arrays
        asked: Sequence[float] = values
        if self._is_single:
            form = f"<{len(values)}f"
            asked = unpack(form, pack(form, *values))
        total = list(self._start)
        width = self._width
        for root, column in zip(self._roots, self._columns, strict=True):
            node = root
            while (number := feature[node]) >= 0:
                value = asked[number]  # type: ignore[call-overload]
                if value <= threshold[node] or (value != value and missing[node]):  # noqa: PLR0124
                    node += 1
                elif right[node] > node:
                    node = right[node]  # type: ignore[assignment]
                else:
                    raise IndexError("a tree leads backwards")
            place = right[node] * width
            if place < 0:
                raise IndexError("a leaf has no values")
            for at in range(width):
                total[column + at] += leaves[place + at]
        return self._link([value / self._divisor for value in total])
