"""Numbers the ids of a table as they come, part by part."""

import heapq
import re
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdc_flower.core.errors import UserError
from cdc_flower.tasks.recommendation.events import name_order
from cdc_flower.tasks.recommendation.readers.rows import Ids, RawIds, shown

Key = TypeVar("Key", int, str)
#: Longer ids are no ids.
_LONGEST_ID = 1000
#: Whole numbers of more digits are held as texts.
_MOST_DIGITS = 18
#: Whole numbers below this are numbered by an array in place of a dictionary.
_MOST_SMALL = 2**24
_WHOLE = re.compile(r"-?[1-9][0-9]{0,17}|0")
_POINT_ZERO = re.compile(r"(-?[1-9][0-9]{0,17}|0)\.0+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass
class Book:
    """Numbers ids in the order in which they come.

    Attributes:
        kind: user or item, for errors.
        small: ``[largest + 1]``, the code of each small whole number, -1 for none.
        numbers: Any other whole number -> code.
        texts: Any other id -> code.
        size: How many ids there are.
    """

    kind: str
    small: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    numbers: dict[int, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    size: int = 0

    def __len__(self) -> int:
        return self.size

    def codes_of(self, ids: RawIds, source: str) -> NDArray[np.int32]:
        """Numbers the ids of a part.

        Args:
            ids: ``[M]``.
            source: Of the file, for errors.

        Raises:
            UserError: If one is too long or has a control character.
        """
        if isinstance(ids, Ids):
            if not len(ids.codes):
                return np.empty(0, np.int32)
            used = np.flatnonzero(np.bincount(ids.codes, minlength=len(ids.names)))
            known = np.full(len(ids.names), -1, np.int32)
            known[used] = self._of_texts([ids.names[code] for code in used.tolist()], source)
            return known[ids.codes]
        values = np.asarray(ids) if len(ids) else np.empty(0, np.int64)
        if values.dtype != np.int64:
            codes, found = pd.factorize(np.array(ids, object))
            names = [str(name).strip() for name in found]
            return np.array(self._of_texts(names, source), np.int32)[codes]
        if len(values) and values.min() >= 0 and values.max() < _MOST_SMALL:
            return self._of_small(values)
        codes, found = pd.factorize(values)
        return np.array([self._of_number(int(number)) for number in found], np.int32)[codes]

    def _of_small(self, values: NDArray[np.int64]) -> NDArray[np.int32]:
        """Numbers small whole numbers, by the place of each in an array."""
        self._reach(int(values.max()))
        codes = self.small[values]
        if codes.min() < 0:
            self.small[values[codes < 0]] = -2
            new = np.flatnonzero(self.small == -2)
            self.small[new] = np.arange(self.size, self.size + len(new), dtype=np.int32)
            self.size += len(new)
            codes = self.small[values]
        return codes

    def _reach(self, number: int) -> None:
        """Makes place for a small whole number."""
        missing = number + 1 - len(self.small)
        if missing > 0:
            room = max(missing, len(self.small) // 2)
            self.small = np.concatenate([self.small, np.full(room, -1, np.int32)])

    def _of_number(self, number: int) -> int:
        if 0 <= number < _MOST_SMALL:
            self._reach(number)
            if self.small[number] < 0:
                self.small[number] = self.size
                self.size += 1
            return int(self.small[number])
        if abs(number) >= 10**_MOST_DIGITS:
            return self._new(self.texts, str(number))
        return self._new(self.numbers, number)

    def _new(self, known: dict[Key, int], key: Key) -> int:
        code = known.setdefault(key, self.size)
        self.size += code == self.size
        return code

    def _of_texts(self, names: list[str], source: str) -> list[int]:
        known = list(map(self.texts.get, names))
        return [
            self._of_text(name, source) if code is None else code
            for name, code in zip(names, known, strict=True)
        ]

    def _of_text(self, name: str, source: str) -> int:
        if _WHOLE.fullmatch(name):
            return self._of_number(int(name))
        code = self.texts.get(name)
        if code is None:
            self._check(name, source)
            code = self._new(self.texts, name)
        return code

    def _check(self, name: str, source: str) -> None:
        if len(name) > _LONGEST_ID:
            raise UserError(
                f"{source}: {self.kind} must be at most {_LONGEST_ID} characters long, "
                f"got {len(name):,}: {shown(name)}"
            )
        if _CONTROL.search(name):
            raise UserError(f"{source}: {self.kind} must have no control character, got {name!r}")

    def merge_point_zero(self) -> tuple[NDArray[np.int32] | None, list[str]]:
        """Makes ``1.0`` the id ``1`` where all ids are whole numbers, written with a point or not.

        Returns:
            New code of each code, or None if nothing changes; and what there is to say.
        """
        pointed = {name: found for name in self.texts if (found := _POINT_ZERO.fullmatch(name))}
        if not pointed:
            return None, []
        if len(pointed) < len(self.texts):
            both = [name for name, found in pointed.items() if self._knows(int(found[1]))]
            words = (
                f"{self.kind}s {both[0].split('.')[0]!r} and {both[0]!r} are two" if both else ""
            )
            return None, [words] if words else []
        new = np.arange(self.size, dtype=np.int32)
        for name, found in pointed.items():
            new[self.texts.pop(name)] = self._of_number(int(found[1]))
        first = next(iter(pointed))
        return new, [f"{self.kind}s such as {first!r} are read as {first.split('.')[0]!r}"]

    def _knows(self, number: int) -> bool:
        if 0 <= number < len(self.small):
            return bool(self.small[number] >= 0)
        return number in self.numbers

    def whole_numbers(self) -> dict[int, int]:
        """Lists the code of each whole number."""
        small = np.flatnonzero(self.small >= 0)
        return {
            **dict(zip(small.tolist(), self.small[small].tolist(), strict=True)),
            **self.numbers,
        }

    def names(self) -> list[str]:
        """Lists the id of each code; "" for one that went."""
        found = [""] * self.size
        for number, code in self.whole_numbers().items():
            found[code] = str(number)
        for name, code in self.texts.items():
            found[code] = name
        return found

    def first(self, count: int) -> set[int]:
        """Finds the codes of the first ids in the order of a table."""
        numbers = self.whole_numbers()
        if not self.texts:
            return {numbers[number] for number in heapq.nsmallest(count, numbers)}
        every = {**{str(number): code for number, code in numbers.items()}, **self.texts}
        order = name_order(list(every))[:count]
        codes = list(every.values())
        return {codes[place] for place in order}
