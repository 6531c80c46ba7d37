# SPDX-License-Identifier: MIT
"""Questions to the measurements: medians, spreads, and ratios of what was measured side by side."""
import statistics
from collections import namedtuple

Spread = namedtuple("Spread", "median least most count")
Cell = namedtuple("Cell", "group instrument client way bytes depth jobs")


def spread(values):
    return Spread(statistics.median(values), min(values), max(values), len(values))


class Figures:
    """All measurements, by cell and contender."""

    def __init__(self, lines):
        self.rounds = {}  # {Cell: {contender: {round: measured}}}
        for line in lines:
            cell = Cell(*(line[name] for name in Cell._fields))
            by_contender = self.rounds.setdefault(cell, {})
            by_contender.setdefault(line["contender"], {})[line["round"]] = line["measured"]

    def cells(self, **wanted):
        return [cell for cell in self.rounds
                if all(getattr(cell, name) == value for name, value in wanted.items())]

    def contenders(self, **wanted):
        found = {}
        for cell in self.cells(**wanted):
            found.update(dict.fromkeys(self.rounds[cell]))
        return list(found)

    def cell(self, **wanted):
        """The only such cell, or None."""
        found = self.cells(**wanted)
        return found[0] if len(found) == 1 else None

    def per_request(self, cell, contender):
        """Nanoseconds, or instructions, per request: a Spread, or None."""
        rounds = self.rounds.get(cell, {}).get(contender)
        if not rounds:
            return None
        return spread([each["ns"] / each["requests"] for each in rounds.values()])

    def rate(self, cell, contender):
        """Requests per second."""
        rounds = self.rounds.get(cell, {}).get(contender)
        if not rounds:
            return None
        return spread([each["requests"] * 1e9 / each["ns"] for each in rounds.values()])

    def value(self, cell, contender, name):
        """The median of another figure, or None."""
        rounds = self.rounds.get(cell, {}).get(contender, {})
        values = [each[name] for each in rounds.values() if name in each]
        return statistics.median(values) if values else None

    def speed(self, cell, contender, base):
        """How many times as fast as `base`: of each round, in which they were neighbours."""
        mine = self.rounds.get(cell, {}).get(contender, {})
        other = self.rounds.get(cell, {}).get(base, {})
        ratios = [(mine[r]["requests"] / mine[r]["ns"]) / (other[r]["requests"] / other[r]["ns"])
                  for r in mine if r in other]
        return spread(ratios) if ratios else None

    def best(self, cell, contenders):
        """The fastest of them, or None."""
        known = [each for each in contenders if self.per_request(cell, each)]
        return min(known, key=lambda each: self.per_request(cell, each).median, default=None)
