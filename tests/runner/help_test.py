# SPDX-License-Identifier: MIT
"""Every script that can be run says by --help what it is for, and does nothing else."""
import glob
import os
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Help(unittest.TestCase):
    def test_of_every_script(self):
        scripts = [path for folder in ("benchmarks", "examples", "tests")
                   for path in glob.glob(f"{ROOT}/{folder}/**/*.sh", recursive=True)
                   if os.access(path, os.X_OK)]
        self.assertGreater(len(scripts), 20)
        for path in scripts:
            with self.subTest(os.path.relpath(path, ROOT)):
                done = subprocess.run([path, "--help"], stdin=subprocess.DEVNULL, timeout=30,
                                      capture_output=True, text=True, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertGreater(len(done.stdout), 80)


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
