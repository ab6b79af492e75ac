"""The vectors v^1..v^k that a program is BP-like by: which will do, and in words why, or why none will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from tensorprog.theorem.bp_like.fixed_point import Parities
from tensorprog.theorem.bp_like.parity import INDEPENDENT, ODD, ZERO
from tensorprog.theorem.bp_like.reading import Reading, Use, dependences, depends_on, listed, named

MOST_VECTORS = 12
"""Up to that many families of vectors of mean zero all sets are tried; with more, only some."""

MOST_EXPLAINED = 6
"""The same, where the set is sought that fails least."""


class Search:
    """Looks for v^1..v^k; parities are kept."""

    def __init__(self, reading: Reading):
        self.reading = reading
        self._parities: dict[frozenset[str], Parities] = {}
        nothing = self._of(())
        self.uses = [u for u in reading.uses if nothing.of(u.operand) != ZERO]
        reach = dependences(reading)
        self.reach = {u: depends_on(u.operand, reach) for u in self.uses}

    def _of(self, chosen: tuple[str, ...]) -> Parities:
        key = frozenset(chosen)
        if key not in self._parities:
            self._parities[key] = Parities(self.reading, key)
        return self._parities[key]

    def witnesses(self, names: tuple[str, ...]) -> tuple[str, ...] | None:
        """The smallest set among these that will do; where they are many, one that will do."""
        reached = frozenset().union(*self.reach.values())
        names = tuple(name for name in names if name in reached)
        if len(names) <= MOST_VECTORS:
            return next((c for c in _subsets(names) if self._serves(c)), None)
        for pool in self._untouched(names):
            tried = _subsets(pool) if len(pool) <= MOST_VECTORS else [*((name,) for name in pool), pool]
            found = next((c for c in tried if self._serves(c)), None)
            if found is not None:
                return found
        return self._grown(names)

    def _untouched(self, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The vectors that no operand of a plain matrix depends on; then the same for the transposes."""
        for transposed in (False, True):
            touched = frozenset().union(*(self.reach[u] for u in self.uses if u.transposed == transposed))
            yield tuple(name for name in names if name not in touched)

    def _grown(self, names: tuple[str, ...]) -> tuple[str, ...] | None:
        """A set that will do, found by adding the vector that mends most, one at a time."""
        chosen: tuple[str, ...] = ()
        least = len(self.uses) + 1
        while len(chosen) < len(names):
            larger = [tuple(n for n in names if n in chosen or n == name) for name in names if name not in chosen]
            best = min(larger, key=self._broken)
            if self._broken(best) >= least:
                return None
            chosen, least = best, self._broken(best)
            if not least:
                return chosen
        return None

    def _serves(self, chosen: tuple[str, ...]) -> bool:
        return self._reaches(frozenset(chosen)) and not self._broken(chosen)

    def _reaches(self, chosen: frozenset[str]) -> bool:
        """Whether on one side of each matrix all operands depend on the chosen ones, and on the other none does."""
        for weight in self.reading.weights:
            sides: tuple[set[bool], set[bool]] = (set(), set())
            for u in self.uses:
                if u.weight == weight:
                    sides[u.transposed].add(bool(self.reach[u] & chosen))
            plain, transposed = sides
            if len(plain) == 2 or len(transposed) == 2 or plain & transposed:
                return False
        return True

    def _broken(self, chosen: tuple[str, ...]) -> int:
        return len(self.orient(chosen)[1])

    def orient(self, chosen: tuple[str, ...]) -> tuple[dict[str, str], list[Use]]:
        """For each matrix the orientation that breaks fewer uses, and the uses that are broken all the same."""
        parities = self._of(chosen)
        orientation: dict[str, str] = {}
        broken: list[Use] = []
        for weight in self.reading.weights:
            uses = [u for u in self.uses if u.weight == weight]
            wrong: dict[bool, list[Use]] = {
                forward: [
                    u for u in uses if parities.of(u.operand) != (INDEPENDENT if u.transposed == forward else ODD)
                ]
                for forward in (False, True)
            }
            forward = len(wrong[True]) < len(wrong[False])
            orientation[weight] = named(weight, forward)
            broken += wrong[forward]
        return orientation, broken

    def most_telling(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The set to explain a failure with."""
        reached = frozenset().union(*self.reach.values())
        readouts = tuple((name,) for name in names if name in self.reading.readouts and name in reached)
        if readouts:
            return min(readouts, key=self._broken)
        if len(names) <= MOST_EXPLAINED:
            return min(_subsets(names), key=self._broken)
        return min((*((name,) for name in names), names), key=self._broken)

    def orientations(self, weight: str) -> set[bool]:
        """Whether the matrix multiplies vectors that are not zero, and whether its transpose does."""
        return {u.transposed for u in self.uses if u.weight == weight}

    # -- words

    def why(self, chosen: tuple[str, ...], orientation: Mapping[str, str], weights: list[str]) -> Iterator[str]:
        """A sentence for each matrix that multiplies together with its transpose."""
        names = listed(chosen)
        for weight in weights:
            uses = [u for u in self.uses if u.weight == weight]
            forward = orientation[weight].endswith(".T")
            parts = []
            for transposed, holds in ((not forward, ODD), (forward, INDEPENDENT)):
                u = next(u for u in uses if u.transposed == transposed)
                parts.append(f"{u.place}: {u.vector} {holds.value} {names}")
            yield "; ".join(parts)

    def why_not(self, chosen: tuple[str, ...]) -> Iterator[str]:
        """A sentence for each use that breaks the definition, and what the use would have to be."""
        names = listed(chosen)
        orientation, broken = self.orient(chosen)
        said: set[str] = set()
        for u in broken:
            found = self._of(chosen).of(u.operand)
            if orientation[u.weight] == named(u.weight, u.transposed):
                depends = f"{u.vector} depends on {names}"
                sentence = (
                    f"{u.place}: {'the matrix multiplies ' + u.vector + ' itself' if u.operand in chosen else depends}"
                )
            else:
                instead = f"{found.value} {names}" if found == INDEPENDENT else found.value.removesuffix(" in")
                sentence = f"{u.place}: {u.vector} is not odd in {names}: it {instead}"
            if sentence not in said:
                said.add(sentence)
                yield sentence
        both = tuple(dict.fromkeys(u.weight for u in broken))
        yield (
            f"an independent matrix in place of {listed(tuple(w + '.T' for w in both))} may change the limit: one of a"
            " matrix and its transpose has to multiply only what is odd in vectors of mean zero, the other only what"
            " does not depend on them"
        )


def _subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """All sets of names but the empty one, small ones first."""
    for size in range(1, len(names) + 1):
        yield from combinations(names, size)
