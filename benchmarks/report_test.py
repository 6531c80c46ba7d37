# SPDX-License-Identifier: MIT
"""A canned results file gives the tables that it should, and a broken one is refused."""
import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
GET_DATA = "memory/per_cpu/per_wakeup/get_data"


def cell(contender, ns, requests=1000, number=1, **other):
    line = {"group": "seed", "contender": contender, "instrument": "clock", "client": "load",
            "way": "read", "bytes": 4096, "depth": 64, "jobs": 1, "round": number,
            "measured": {"requests": requests, "ns": ns}}
    line.update(other)
    return line


def canned():
    cells = []
    # Ours takes half, as long as, and twice as long as loop: the median of the pairs is 100 %.
    for number, (loop, ours) in enumerate([(2000, 1000), (3000, 3000), (1000, 2000)], 1):
        cells += [cell("loop", loop * 1000, number=number), cell(GET_DATA, ours * 1000, number=number)]
    for way, jobs in (("read", 4), ("write", 4)):
        cells += [cell("loop", 1000000, way=way, jobs=jobs), cell(GET_DATA, 800000, way=way, jobs=jobs)]
    base = {"group": "null", "instrument": "counts", "client": "fio"}
    cells += [cell("null_blk", 8900000, **base),
              cell("null/per_cpu/per_wakeup/copy", 11150000, **base),
              cell("null/per_cpu/batch_io/copy", 10401000, **base)]
    return {"version": 2, "scope": "quick", "own": [], "user": [], "memory": [], "cells": cells,
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
    def test_the_seeds_table(self):
        status, table, errors, _ = run("seed", canned())
        self.assertEqual((status, errors), (0, ""))
        self.assertIn("| the seed's README | 39 % | 85 % | 91 % |", table)
        self.assertIn(f"| {GET_DATA}: clock, load | 100 % (50–200, 3 pairs) | 125 % | 125 % |", table)

    def test_goals_are_judged(self):
        status, summary, errors, pages = run("render", canned(), "DIR")
        self.assertEqual((status, errors), (0, ""))
        self.assertIn("per_wakeup <= 2,250: 2,250 (11,150 - 8,900)", summary)
        self.assertIn("<= 2,250 | 2,250 (11,150 - 8,900): null/per_cpu/per_wakeup/copy | met |",
                      pages["report.md"])
        self.assertIn("1,501 (10,401 - 8,900): null/per_cpu/batch_io/copy | missed |",
                      pages["report.md"])
        self.assertIn("server memory, depth 128, 4 queues, null: tag buffers and <= 1,024 KiB | "
                      "not measured | – |", pages["report.md"])
        self.assertIn("<td class=\"l\">missed</td>", pages["report.html"])
        self.assertIn("run.sh --quick", pages["report.html"])

    def test_the_librarys_own_instructions_are_judged(self):
        def case(name, read):
            return {"case": name, "read": read, "read_libraries": 410.0, "write": 1.0,
                    "write_libraries": 0.0}

        own = [case("null.copy", 60.0), case("null.copy_batches", 41.0), case("memory.copy", 90.0)]
        page = run("render", {**canned(), "own": own}, "DIR")[3]["report.md"]
        self.assertIn("per null read <= 60 | 60, and the clearing | met |", page)
        self.assertIn("driver batches <= 40 | 41, and the clearing | missed |", page)
        self.assertIn("memory beyond null and the copy <= 30 | 30 (90 - 60) | met |", page)
        self.assertIn("| memory.copy | 90 | 410 | 1 | 0 |", page)

    def test_one_file_is_all(self):
        html = run("render", canned(), "DIR")[3]["report.html"]
        for outside in ("<script", "<link", "src=", "@import"):
            self.assertNotIn(outside, html)

    def test_two_commits(self):
        results = canned()
        results["cells"] = [cell("A:" + GET_DATA, 2000, group="compare", instrument="counts"),
                            cell("B:" + GET_DATA, 1000, group="compare", instrument="counts"),
                            cell("A:" + GET_DATA, 3000, group="compare"),
                            cell("B:" + GET_DATA, 1500, group="compare")]
        status, table, errors, _ = run("compare", results)
        self.assertEqual((status, errors), (0, ""))
        self.assertIn(f"| {GET_DATA} | 4 KiB, read, depth 64 | 2 | 1 | 2.000 (2.000–2.000, "
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
        self.refused({**canned(), "version": 1}, "version 2")

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
