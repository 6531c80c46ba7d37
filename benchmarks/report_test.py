# SPDX-License-Identifier: MIT
"""A canned results file gives the tables that it should, and a broken one is refused."""
import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest

import document
from figures import Figures

HERE = os.path.dirname(os.path.abspath(__file__))
RAM_DISK = "memory/per_cpu/per_wakeup/copy"


def cell(contender, ns, requests=1000, number=1, **other):
    line = {"group": "ram-disk", "contender": contender, "instrument": "clock", "client": "load",
            "way": "read", "bytes": 4096, "depth": 64, "jobs": 1, "round": number,
            "measured": {"requests": requests, "ns": ns}}
    line.update(other)
    return line


def canned():
    cells = []
    # Ours takes half, as long as, and twice as long as loop: the median of the pairs is 100 %.
    for number, (loop, ours) in enumerate([(2000, 1000), (3000, 3000), (1000, 2000)], 1):
        cells += [cell("loop", loop * 1000, number=number), cell(RAM_DISK, ours * 1000, number=number)]
    for way, jobs in (("read", 4), ("write", 4)):
        cells += [cell("loop", 1000000, way=way, jobs=jobs), cell(RAM_DISK, 800000, way=way, jobs=jobs)]
    base = {"group": "null", "instrument": "counts", "client": "load"}
    cells += [cell("null_blk", 8900000, **base),
              cell("null/per_cpu/per_wakeup/copy", 10983000, **base),
              cell("null/per_cpu/batch_io/copy", 10351000, **base)]
    # Three pairs on both sides of the goal, wholly above it, and below.
    for number, ours in enumerate([7000, 8000, 9000], 1):
        cells.append(cell("null/per_cpu/per_wakeup/copy", ours * 1000, number=number, jobs=4,
                          group="four-cpus", instrument="counts", client="single"))
        for depth, client, loop in ((64, "single", 1.5), (1, "load", 1.1)):
            where = {"group": "file", "instrument": "counts", "client": client, "depth": depth}
            cells += [cell("loop", int(ours * 1000 * loop), number=number, **where),
                      cell("file/per_cpu/per_wakeup/copy", ours * 1000, number=number, **where)]
    return {"version": 3, "scope": "quick", "own": [], "user": [], "memory": [], "cells": cells,
            "about": {"command": "run.sh --quick", "commit": "abc", "compiler": "c++",
                      "machine": "some", "guests": {"counts": "Linux"}, "date": "2000-01-01"}}


def run(step, results, *more):
    """(exit status, stdout, stderr) of report.py on those results."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "results.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(results if isinstance(results, str) else json.dumps(results))
        done = subprocess.run([sys.executable, "-B", os.path.join(HERE, "report.py"), step, path,
                               *[word.replace("DIR", directory) for word in more]],
                              capture_output=True, text=True, timeout=60, check=False)
        pages = {}
        for name in ("report.md", "report.html"):
            if os.path.exists(os.path.join(directory, name)):
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    pages[name] = file.read()
        return done.returncode, done.stdout, done.stderr, pages


class Report(unittest.TestCase):
    def test_the_ram_disk_beside_loop(self):
        status, table, errors, _ = run("ram-disk", canned())
        self.assertEqual((status, errors), (0, ""))
        self.assertIn(f"| {RAM_DISK} | clock | all that is free a system call | "
                      "100 (50–200, 3 times) % | 125 % | 125 % |", table)

    def test_goals_are_judged(self):
        status, summary, errors, pages = run("render", canned(), "DIR")
        self.assertEqual((status, errors), (0, ""))
        self.assertRegex(summary, r"met +null, depth 64: instructions above null_blk, "
                                  r"null/per_cpu/per_wakeup/copy <= 2,083: 2,083")
        self.assertIn("null/per_cpu/batch_io/copy <= 1,450 | 1,451 | missed |", pages["report.md"])
        self.assertIn("KiB beyond the tag buffers <= 1,024 | – | not measured |",
                      pages["report.md"])
        self.assertIn("<td class=\"l\">missed</td>", pages["report.html"])
        self.assertIn("run.sh --quick", pages["report.html"])

    def test_a_range_on_both_sides_of_the_goal_decides_nothing(self):
        page = run("render", canned(), "DIR")[3]["report.md"]
        self.assertIn("4 jobs: instructions, null/per_cpu/per_wakeup/copy <= 8,000 | "
                      "8,000 (7,000–9,000, 3 times) | not decided |", page)
        self.assertIn("read, 1 job: of loop on tmpfs >= 100 % | 100 (50–200, 3 times) % | "
                      "not decided |", page)
        self.assertIn("depth 64: of loop >= 105 % | 150 (150–150, 3 times) % | met |", page)
        self.assertIn("depth 1: of loop >= 120 % | 110 (110–110, 3 times) % | missed |", page)

    def test_plots_differ_in_title_and_not_in_colours(self):
        results = canned()
        for group in ("null", "memory"):
            for depth in (1, 16):
                for name in ["null_blk", "kublk", *[f"null/{i}" for i in range(9)]]:
                    results["cells"].append(cell(name, 10000000, group=group, depth=depth,
                                                 instrument="counts"))
        figures = Figures(results["cells"])
        styles = document.styles_of(figures.contenders())
        plots = [part for group in ("null", "memory")
                 for part in document.group_pages(figures, group, styles).parts
                 if isinstance(part, document.Plot)]
        titles = [each.title for each in plots]
        self.assertEqual(len(titles), len(set(titles)))
        self.assertEqual(len(titles), 4, "two groups of eleven lines, seven a plot")
        for each in plots:
            self.assertIn("null_blk", each.series)
            self.assertLessEqual(len(each.series), document.LINES_MAX)
        styles = document.styles_of(["null_blk", "kublk", "null/a", "kublk-b", "null/b"])
        self.assertEqual(len(set(styles.values())), 5)

    def test_ticks_are_round_and_around_all(self):
        for least, most in ((7300, 25000), (37, 41), (31, 190000), (5, 5)):
            ticks = document.y_ticks(least, most)
            self.assertLessEqual(ticks[0], least)
            self.assertGreaterEqual(ticks[-1], most)
            self.assertGreaterEqual(len(ticks), 2, (least, most))
            self.assertLessEqual(len(ticks), 16, (least, most))
        self.assertEqual([document.short(each) for each in (900, 1500, 20000, 3000000)],
                         ["900", "1.5k", "20k", "3M"])
        self.assertEqual(document.tick("bytes", 1048576), "1 MiB")

    def test_the_librarys_own_instructions_are_judged(self):
        def case(name, read):
            return {"case": name, "read": read, "read_libraries": 410.0, "write": 1.0,
                    "write_libraries": 0.0}

        own = [case("null.copy", 60.0), case("null.copy_batches", 41.0), case("memory.copy", 90.0)]
        page = run("render", {**canned(), "own": own}, "DIR")[3]["report.md"]
        self.assertIn("per null read <= 60 | 60, and the clearing | met |", page)
        self.assertIn("driver batches <= 40 | 41, and the clearing | missed |", page)
        self.assertIn("memory beyond null and the copy <= 30 | 30 | met |", page)
        self.assertIn("| memory.copy | 90 | 410 | 1 | 0 |", page)

    def test_one_file_is_all(self):
        html = run("render", canned(), "DIR")[3]["report.html"]
        for outside in ("<script", "<link", "src=", "@import"):
            self.assertNotIn(outside, html)

    def test_two_commits(self):
        results = canned()
        results["cells"] = [cell("A:" + RAM_DISK, 2000, group="compare", instrument="counts"),
                            cell("B:" + RAM_DISK, 1000, group="compare", instrument="counts"),
                            cell("A:" + RAM_DISK, 3000, group="compare"),
                            cell("B:" + RAM_DISK, 1500, group="compare")]
        status, table, errors, _ = run("compare", results)
        self.assertEqual((status, errors), (0, ""))
        self.assertIn(f"| {RAM_DISK} | 4 KiB, read, depth 64 | 2 | 1 | 2.000 (2.000–2.000, "
                      "1 pair) | 2.00 (2.00–2.00, 1 pair) |", table)


class Refusal(unittest.TestCase):
    def refused(self, results, why):
        status, table, errors, pages = run("render", results, "DIR")
        self.assertNotEqual(status, 0)
        self.assertIn(why, errors)
        self.assertEqual((table, pages), ("", {}))
        self.assertNotIn("Traceback", errors)

    def test_what_is_no_json(self):
        self.refused("{", "results.json")

    def test_another_version(self):
        self.refused({**canned(), "version": 2}, "version 3")

    def test_nothing_measured(self):
        self.refused({**canned(), "cells": []}, "nothing was measured")

    def test_a_cell_without_its_depth(self):
        results = canned()
        del results["cells"][3]["depth"]
        self.refused(results, "cell 3: depth")

    def test_no_time_at_all(self):
        results = copy.deepcopy(canned())
        results["cells"][2]["measured"]["ns"] = 0
        self.refused(results, "cell 2: ns is 0")

    def test_an_unknown_instrument(self):
        results = canned()
        results["cells"][0]["instrument"] = "hope"
        self.refused(results, "instrument hope")


if __name__ == "__main__":
    unittest.main()
