"""What the program costs to read and to start; of two versions, one after the other.

    python3 -m tests.bench.bench_house [RLM_PY [OTHER_RLM_PY]]

Start times are medians of runs in turn: compare them with `python3 -I -S -c pass` beside them, not between runs.
"""
from __future__ import annotations

import ast
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

from tests.bench.bench_memory import head, row
from tests.support import RLM
from tests.test_layout import names_called_once

BANNER = re.compile(r"^# =+\n# +(\d+)\. (.+)\n# =+$", re.MULTILINE)
PYTHON = getattr(sys, "_base_executable", "") or sys.executable  # not a venv's, which takes longer to start
N_RUNS = 15
Function = (ast.FunctionDef, ast.AsyncFunctionDef)


class House:
    """A version of the program: per section its lines, functions, and functions that are called at one place only."""

    def __init__(self, path: str) -> None:
        with open(path, encoding="utf-8") as file:
            source = file.read()
        tree = ast.parse(source)
        starts = [(source.count("\n", 0, found.start()) + 1, f"{found[1]}. {found[2]}") for found in BANNER.finditer(source)]
        self.titles = dict([(1, "0. contents, imports"), *starts])
        ends = [*(start for start, _ in starts), source.count("\n") + 1]
        self.n_lines = {title: end - start for (start, title), end in zip(self.titles.items(), ends)}
        functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
        self.n_functions = Counter(self.section_of(node.lineno) for node in functions)
        single = names_called_once(tree)
        self.n_called_once = Counter(self.section_of(node.lineno) for node in tree.body
                                     if isinstance(node, Function) and node.name in single)

    def section_of(self, line: int) -> str:
        """The title of the section that the line is in."""
        return self.titles[max(start for start in self.titles if start <= line)]


def print_sections(houses: list[House]) -> None:
    """The table of sections; "before → after" where there are two versions."""
    head("section", "lines", "functions", "called at one place")
    titles = list(dict.fromkeys(title for house in houses for title in house.n_lines))
    groups = {title: [title] for title in titles}
    groups["sections 1-12"] = [title for title in titles if 1 <= int(title.split(".")[0]) <= 12]
    groups["all"] = titles
    for name, members in groups.items():
        row(name, *(" → ".join(f"{sum(counts[title] for title in members if title in counts):,}" for counts in columns)
                    for columns in ([house.n_lines for house in houses], [house.n_functions for house in houses],
                                    [house.n_called_once for house in houses])))


def print_starts(paths: list[str]) -> None:
    """Start times of `grep x` on an empty store: as a script, which is compiled each time, and as a module."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"HOME": folder, "PATH": os.environ["PATH"], "RLM_PROJECT": "bench"}
        cases: dict[str, tuple[list[str], dict[str, str]]] = {"pass": ([PYTHON, "-I", "-S", "-c", "pass"], environment)}
        for n, path in enumerate(paths):
            home = os.path.join(folder, str(n))
            os.mkdir(home)
            shutil.copy(path, os.path.join(home, "rlm.py"))
            cases[f"python3 rlm.py grep x [{n}]"] = ([PYTHON, os.path.join(home, "rlm.py"), "grep", "x"], environment)
            cases[f"python3 -m rlm grep x [{n}]"] = ([PYTHON, "-m", "rlm", "grep", "x"], {**environment, "PYTHONPATH": home})
        spent: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(N_RUNS + 1):
            for name, (command, env) in cases.items():
                started = time.perf_counter()
                if subprocess.run(command, env=env, stdout=subprocess.DEVNULL).returncode > 1:  # 1: nothing matches
                    raise SystemExit(f"{command} failed")
                spent[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times[1:]) for name, times in spent.items()}  # the first run compiles
    head("start", "ms", "x pass")
    for name, median_s in medians.items():
        row(name, f"{median_s * 1e3:.1f}", f"{median_s / medians['pass']:.1f}")


def main(paths: list[str]) -> None:
    """Prints the tables."""
    print("\n".join(f"[{n}] {path}" for n, path in enumerate(paths)))
    print_sections([House(path) for path in paths])
    print_starts(paths)


if __name__ == "__main__":
    main(sys.argv[1:] or [RLM])
