#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints what became of the legs of tests/run.sh, and fails where one failed.

Usage: table.py --seconds N DIRECTORY LEG...

DIRECTORY/LEG has `status` (exit status and seconds), `output`, whose lines "totals: ..." are added
up, and `ccache`, what ccache logged of each compilation. A leg without totals counts as one test.
"""

import argparse
import pathlib
import re
import sys

TOTALS = re.compile(r"^totals: (\d+) passed, (\d+) failed, (\d+) skipped(?:, (\d+) s in guests)?",
                    re.MULTILINE)
HEAD = ("leg", "seconds", "in guests", "compiled", "from cache", "passed", "failed", "skipped")


def compilations(file):
    """How often the compiler ran, and how often the cache spared that."""
    if not file.exists():
        return 0, 0
    words = file.read_text(errors="replace").split("\n")
    hits = sum(word in ("direct_cache_hit", "preprocessed_cache_hit") for word in words)
    return words.count("cache_miss"), hits


def row(directory, leg):
    try:
        status, seconds = map(int, (directory / leg / "status").read_text().split())
        said = TOTALS.findall((directory / leg / "output").read_text(errors="replace"))
    except OSError:
        status, seconds, said = 1, 0, []
    passed, failed, skipped, guests = (
        [sum(int(number or 0) for number in column) for column in zip(*said)]
        or [int(status == 0), 0, 0, 0])
    if status != 0:
        failed = max(failed, 1)
    return [leg, seconds, guests, *compilations(directory / leg / "ccache"),
            passed, failed, skipped]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("legs", nargs="+")
    asked = parser.parse_args()
    rows = [row(asked.directory, leg) for leg in asked.legs]
    sums = ["all", asked.seconds, *(sum(column) for column in list(zip(*rows))[2:])]
    print()
    for each in (HEAD, *rows, sums):
        print(f"{each[0]:<16}" + "".join(f"{cell!s:>12}" for cell in each[1:]))
    bad = [each[0] for each in rows if each[6]]
    print(f"FAILED: {' '.join(bad)}" if bad else "everything passed", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
