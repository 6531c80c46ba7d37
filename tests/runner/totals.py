#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Adds up what the tests of a build said: cases where a test is a program of cases, else tests.

Usage: totals.py RESULTS COUNTS

  RESULTS   what `ctest --output-junit` wrote
  COUNTS    a directory with a file for each program of cases: "PASSED FAILED SKIPPED [SECONDS]",
            the seconds being those of a guest

Exit status: 1 where no test was run.
"""

import pathlib
import sys
import xml.etree.ElementTree as tree


def counts_of(test, directory):
    """Passed, failed, skipped and a guest's seconds of one test of CTest's."""
    passed = test.get("status") == "run"
    skip = test.find("skipped")
    # A program that is not there is "skipped" as well.
    skipped = not passed and skip is not None and skip.get("message", "").startswith("SKIP_")
    failed = not passed and not skipped
    file = directory / test.get("name")
    if not file.exists():
        return passed, failed, skipped, 0
    counts = [int(number) for number in file.read_text().split()]
    passed_cases, failed_cases, skipped_cases, seconds = (counts + [0])[:4]
    # A program can fail otherwise than by a case.
    return passed_cases, max(failed_cases, int(failed)), skipped_cases, seconds


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    tests = tree.parse(sys.argv[1]).getroot().iter("testcase")
    directory = pathlib.Path(sys.argv[2])
    sums = [sum(column) for column in zip(*(counts_of(test, directory) for test in tests))]
    passed, failed, skipped, seconds = sums or (0, 0, 0, 0)
    print(f"totals: {passed} passed, {failed} failed, {skipped} skipped, {seconds} s in guests")
    if not passed + failed + skipped:
        print("totals.py: no test was run", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
