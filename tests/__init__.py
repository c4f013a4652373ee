"""The tests of rlm: `python3 -m unittest` from the project's root runs them all, offline, with nothing installed.

Each module runs as a whole, in one of a few processes.
"""
from __future__ import annotations

import multiprocessing
import os
import sys
import unittest
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULES: list[unittest.TestSuite] = []


class Elsewhere(unittest.TestCase):
    """A test that ran in another process, by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def runTest(self) -> None:
        pass

    def id(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


class Failed(Exception):
    """What the other process said of a test."""


class Recorded(unittest.TestResult):
    """Notes what happens, as what may be sent to another process: method, the test's name, text."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str, str]] = []

    def note(self, method: str, test: Any, text: str = "") -> None:
        self.told.append((method, test.id(), text))

    def startTest(self, test: Any) -> None:
        self.note("startTest", test)

    def stopTest(self, test: Any) -> None:
        self.note("stopTest", test)

    def addSuccess(self, test: Any) -> None:
        self.note("addSuccess", test)

    def addSkip(self, test: Any, reason: str) -> None:
        self.note("addSkip", test, reason)

    def addFailure(self, test: Any, err: Any) -> None:
        self.note("addFailure", test, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addError(self, test: Any, err: Any) -> None:
        self.note("addError", test, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err:
            self.note("addFailure", subtest, self._exc_info_to_string(err, test))  # type: ignore[attr-defined]


def run_module(number: int) -> list[tuple[str, str, str]]:
    """Runs one of MODULES; what happened."""
    result = Recorded()
    MODULES[number].run(result)
    return result.told


class Parallel(unittest.TestSuite):
    """The modules, run by several processes, those with most tests first."""

    def run(self, result: Any, debug: bool = False) -> Any:
        from tests.support import bytecode

        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        MODULES[:] = sorted((unittest.TestSuite([each]) for each in self), key=lambda each: -each.countTestCases())
        if n_cores == 1 or debug:
            return super().run(result, debug)
        bytecode()  # one for all, and removed by this process
        try:
            pool = ProcessPoolExecutor(n_cores + 1, multiprocessing.get_context("fork"))  # some wait
        except (ImportError, NotImplementedError, OSError):  # a system without semaphores
            return super().run(result, debug)
        with pool:
            for module in as_completed([pool.submit(run_module, number) for number in range(len(MODULES))]):
                try:
                    told = module.result()
                except BrokenProcessPool:
                    result.addError(Elsewhere("a process of the tests ended"), sys.exc_info())
                    break
                for method, name, text in told:
                    test = Elsewhere(name)
                    if method in ("addFailure", "addError"):
                        getattr(result, method)(test, (Failed, Failed(f"\n{text}"), None))
                    elif method == "addSkip":
                        result.addSkip(test, text)
                    else:
                        getattr(result, method)(test)
                if result.shouldStop:
                    pool.shutdown(cancel_futures=True)
                    break
        return result


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """What unittest calls when it looks for tests here."""
    return Parallel(loader.discover(os.path.dirname(__file__), pattern or "test*.py", ROOT))
