# SPDX-License-Identifier: MIT
"""Counted blocks become the functions that they are of, and no instruction is lost on the way."""
import os
import subprocess
import sys
import tempfile
import unittest

import profile_report as profile

HERE = os.path.dirname(os.path.abspath(__file__))
RESULT = """contender null_blk {"requests":10,"ns":1}
client 1000-2000 r-xp 00000000 00:01 1 /usr/bin/load
contender ours {"requests":10,"ns":1}
client 1000-2000 r-xp 00000000 00:01 1 /usr/bin/load
server 5000-6000 r--p 00000000 00:01 2 /opt/target
server 6000-7000 r-xp 00001000 00:01 2 /opt/target
server 8000-9000 r-xp 00000000 00:01 3 /lib/libc.so.6
symbol ffffffff81000000 _text
symbol ffffffff81000100 submit_bio
symbol ffffffffc0000000 ublk_queue_rq [ublk_drv]
"""
COUNTED = """profile
ffffffff81000104 100
ffffffff81000180 20
1234 30
profile
ffffffff81000104 110
ffffffffc0000008 40
1234 30
6010 50
8010 5
"""


def run(counted, result, *more):
    with tempfile.TemporaryDirectory() as directory:
        paths = []
        for name, text in (("counted", counted), ("result", result)):
            paths.append(os.path.join(directory, name))
            with open(paths[-1], "w", encoding="utf-8") as file:
                file.write(text)
        done = subprocess.run([sys.executable, "-B", os.path.join(HERE, "profile_report.py"),
                               *paths, "10", *more], capture_output=True, text=True, timeout=60,
                              check=False)
        return done.returncode, done.stdout, done.stderr


class Profile(unittest.TestCase):
    def test_two_disks_and_their_difference(self):
        status, table, errors = run(COUNTED, RESULT)
        self.assertEqual((status, errors), (0, ""))
        self.assertIn("| target | server | 0.0 | 5.0 | +5.0 |", table)
        self.assertIn("| ublk_queue_rq [ublk_drv] | kernel | 0.0 | 4.0 | +4.0 |", table)
        self.assertIn("| submit_bio | kernel | 12.0 | 11.0 | -1.0 |", table)
        self.assertIn("| libc.so.6 | server | 0.0 | 0.5 | +0.5 |", table)
        self.assertIn("| **all** | kernel | 12.0 | 15.0 | +3.0 |", table)
        self.assertIn("| **all** |  | 15.0 | 23.5 | +8.5 |", table)

    def test_what_is_not_shown_is_in_a_sum(self):
        table = run(COUNTED, RESULT, "--top", "1")[1]
        self.assertIn("| target | server |", table)
        self.assertIn("| 4 others |  | 15.0 | 18.5 | +3.5 |", table)

    def test_one_disk_has_shares(self):
        head = RESULT[:RESULT.index("contender ours")]
        symbols = RESULT[RESULT.index("symbol"):]
        table = run(COUNTED[:COUNTED.rindex("profile")], head + symbols)[1]
        self.assertIn("| submit_bio | kernel | 12.0 | 80.0 % |", table)
        self.assertIn("| load | client | 3.0 | 20.0 % |", table)

    def test_marks_that_were_not_seen(self):
        status, table, errors = run("", RESULT)
        self.assertNotEqual(status, 0)
        self.assertEqual(table, "")
        self.assertIn("0 profiles of 2 disks", errors)

    def test_names_of_functions(self):
        for name, expected in (
                ("submit_bio", "submit_bio"),
                ("ublk::v0::detail::queue_loop<ublk::v0::backends::null, (bool)1>::collect()",
                 "queue_loop::collect"),
                ("void ublk::v0::io::start(int (*)(int))", "ublk::io::start"),
                ("my::disk::operator()(int) const", "my::disk::operator()")):
            self.assertEqual(profile.short_name(name), expected)


if __name__ == "__main__":
    unittest.main()
