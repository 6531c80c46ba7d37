#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What totals.py and table.py make of results, of which some are bad."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent

JUNIT = """<?xml version="1.0"?><testsuite>
<testcase name="plain" status="run"/>
<testcase name="bad" status="fail"><failure/></testcase>
<testcase name="not.for.here" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>
<testcase name="not.there" status="notrun"><skipped message="Unable to find executable"/></testcase>
<testcase name="cases.0" status="run"/>
<testcase name="boot-6.12" status="fail"><failure/></testcase>
</testsuite>"""


def run(script, *arguments):
    return subprocess.run([sys.executable, "-B", HERE / script, *map(str, arguments)],
                          stdout=subprocess.PIPE, text=True, timeout=60, check=False)


class Totals(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def test_cases_are_counted_where_there_are_some(self):
        (self.path / "results.xml").write_text(JUNIT)
        (self.path / "cases.0").write_text("40 0 2\n")
        (self.path / "boot-6.12").write_text("300 0 7 240\n")  # the kernel complained
        told = run("totals.py", self.path / "results.xml", self.path)
        self.assertEqual(told.stdout,
                         "totals: 341 passed, 3 failed, 10 skipped, 240 s in guests\n")
        self.assertEqual(told.returncode, 0)

    def test_nothing_at_all_is_a_failure(self):
        (self.path / "results.xml").write_text("<testsuite/>")
        self.assertEqual(run("totals.py", self.path / "results.xml", self.path).returncode, 1)

    def leg(self, name, status, output, ccache=""):
        (self.path / name).mkdir()
        if status is not None:
            (self.path / name / "status").write_text(f"{status} 60\n")
        (self.path / name / "output").write_text(output)
        (self.path / name / "ccache").write_text(ccache)

    def table(self, *legs):
        told = run("table.py", "--seconds", 90, self.path, *legs)
        lines = [line.split() for line in told.stdout.splitlines() if line]
        return {line[0]: line[1:] for line in lines}, told

    def test_a_leg_has_its_counts(self):
        self.leg("gcc", 0, "x\ntotals: 5 passed, 0 failed, 1 skipped, 30 s in guests\n"
                 "totals: 2 passed, 0 failed, 0 skipped\n",
                 "# a.cpp\ncache_miss\n# b.cpp\ndirect_cache_hit\n")
        self.leg("demo", 0, "no totals")
        rows, told = self.table("gcc", "demo")
        self.assertEqual(rows["gcc"], ["60", "30", "1", "1", "7", "0", "1"])
        self.assertEqual(rows["demo"], ["60", "0", "0", "0", "1", "0", "0"])
        self.assertEqual(rows["all"], ["90", "30", "1", "1", "8", "0", "1"])
        self.assertEqual(told.returncode, 0)

    def test_what_failed_or_never_ended_is_named(self):
        self.leg("late", 124, "totals: 5 passed, 0 failed, 0 skipped\n")
        self.leg("lost", None, "")
        rows, told = self.table("late", "lost")
        self.assertEqual(rows["FAILED:"], ["late", "lost"])
        self.assertEqual(told.returncode, 1)


if __name__ == "__main__":
    unittest.main()
