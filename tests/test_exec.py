"""A REPL computes on texts and does nothing else; whatever runs in it, the parent goes on and the session comes back."""
from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Any
from unittest import mock

from tests.escapes import ATTEMPTS, PREPARED
from tests.support import HARD, InProcess, TempHome, bytecode, ended, forked, rlm

NOTHING = ("", "None", "False", "0", "[]")


def setUpModule() -> None:
    """Processes that the tests start use compiled bytecode."""
    prefix = bytecode().get("PYTHONPYCACHEPREFIX", sys.pycache_prefix)
    for name, value in (("pycache_prefix", prefix), ("dont_write_bytecode", False)):
        patch = mock.patch.object(sys, name, value)
        patch.start()
        unittest.addModuleCleanup(patch.stop)


def state_of(pid: int) -> str:
    """The state of a process as the system has it: "T" when it is stopped; "" when it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0].strip("ZX")
    return ""


def gone(pid: int, within_s: float = 1.0) -> bool:
    """Whether the process ends within that time."""
    until = time.monotonic() + within_s
    while state_of(pid) and time.monotonic() < until:
        time.sleep(0.005)
    return not state_of(pid)


@unittest.skipUnless(sys.platform == "linux", "the lock is proven on Linux only")
class EscapeTest(unittest.TestCase):
    """The child with the whole corpus of attempts to get out."""

    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(self.folder, 0o755)
        for name in ("home", "home/.ssh", "open"):
            os.mkdir(os.path.join(self.folder, name))
            os.chmod(os.path.join(self.folder, name), 0o777)
        for name in ("home/.ssh/id_rsa", "home/.bashrc", "home/victim", "open/victim2", "open/victim3", "context.txt",
                     "evilmod.py"):
            with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
                file.write("secret = 1\n")
            os.chmod(file.name, 0o666)
        listeners = [stack.enter_context(socket.socket(family, kind)) for family, kind in (
            (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_STREAM),
            (socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM))]
        self.tag = str(os.getpid()).encode()
        places: list[Any] = [("127.0.0.1", 0), f"{self.folder}/open/sock", b"\0rlmrepl" + self.tag, f"{self.folder}/open/dgram"]
        for listener, place in zip(listeners, places):
            listener.bind(place)
        for listener in listeners[:3]:
            listener.listen(50)
        self.port = listeners[0].getsockname()[1]
        victim = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(victim.kill)
        self.victim = victim.pid
        self.context = os.open(os.path.join(self.folder, "context.txt"), os.O_RDONLY)
        stack.callback(os.close, self.context)
        patch = mock.patch.dict(os.environ, ANTHROPIC_API_KEY="sk-secret")
        stack.enter_context(patch)

    def child(self, before_lock: str) -> rlm.Child:
        """A locked process, which ran some code before, and that knows what there is to reach for."""
        statements: list[str] = []
        made = rlm.imported_command

        def command(statement: str, flags: Any) -> list[str]:
            statements.append(statement)
            return made(f"import _socket; {before_lock}; {statement}", flags)

        child = rlm.Child({"read": rlm.Ask(lambda **_: 1 / 0, rlm.READ, False)})
        self.addCleanup(child.end)
        with mock.patch.object(rlm, "imported_command", command):
            child.start([self.context])
        source, _, life = re.findall(r"\d+", statements[0].rpartition("(")[2])
        names = f"H={self.folder!r}; P={os.getpid()}; V={self.victim}; PORT={self.port}; TAG={self.tag!r}; U=1; ADDR=0; " \
            f"FD={self.context}; SRC={source}; LIFE={life}"
        self.assertEqual(self.cell(child, f"{PREPARED}\n{names}")["trouble"], "")
        return child

    def cell(self, child: rlm.Child, code: str, timeout_s: float = 5) -> Any:
        return child.converse({"id": 0, "number": 1, "code": code, "contexts": None}, timeout_s)

    def successes(self, before_lock: str) -> list[str]:
        """The attempts that succeed."""
        found, child = [], self.child(before_lock)
        for what, code in ATTEMPTS.items():
            try:
                if child.process is None:
                    child = self.child(before_lock)
                self.cell(child, "hit = None")
                self.cell(child, code)
                told = self.cell(child, "hit")
                if told["trouble"] or told["value"] not in NOTHING:
                    found.append(f"{what}: {told['trouble']}{told['value'][:60]}")
            except rlm.ReplDied as error:
                if "killed" in str(error) and "signal" not in str(error):
                    found.append(f"{what}: {error}")
        child.end()
        return found

    def test_no_attempt_to_escape_succeeds(self) -> None:
        self.assertEqual(self.successes("pass"), [])

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become nobody")
    def test_no_attempt_to_escape_succeeds_as_nobody(self) -> None:
        # The standard library may lie where nobody may read it.
        drop = "[__import__(m) for m in rlm.MODULES.split()]; rlm.os.setgroups([]); rlm.os.setgid(65534); rlm.os.setuid(65534)"
        self.assertEqual(self.successes(drop), [])

    def test_without_the_lock_attempts_succeed(self) -> None:
        held = "rlm.lock_up = lambda life: {'limits': 1, 'seccomp': 1}"
        child = self.child(held)
        self.cell(child, "hit = open(H + '/home/.ssh/id_rsa').read()")
        self.assertIn("secret", str(self.cell(child, "hit")))
        self.assertGreater(len(rlm.escapes(child)[0]), 3)
        child.end()


def verdict(machine: str, number: int, *arguments: int) -> int:
    """What the filter says to a system call of that machine, as the kernel would work it out."""
    words = [number, rlm.ARCHS[machine], 0, 0]
    for argument in (*arguments, 0, 0, 0):
        words += [argument & 0xFFFFFFFF, argument >> 32]
    program, at, value = rlm.filter_program(machine, 1234, 5), 0, 0
    while True:
        code, yes, no, k = program[at]
        if code == 0x06:
            return k
        value = words[k // 4] if code == 0x20 else value & k if code == 0x54 else value
        at += 1 + ((yes if value == k else no) if code == 0x15 else 0)


class FilterTest(unittest.TestCase):
    def test_the_filter_lets_through_what_is_listed_on_both_machines(self) -> None:
        words = rlm.CALLS.split()
        for machine, column in (("x86_64", 1), ("aarch64", 2)):
            listed = {int(n) for n in words[column::3] if n != "-"}
            allowed = {n for n in range(500) if verdict(machine, n) == rlm.ALLOW}
            numbers = dict(zip(words[::3], words[column::3]))
            self.assertEqual(listed - allowed, {int(numbers["clone"]), int(numbers["tgkill"])})
            self.assertEqual(allowed - listed, set())
            refused = rlm.ERRNO | rlm.EPERM
            for name, argument, wanted in (
                    ("clone", 0x3D0F00, rlm.ALLOW), ("clone", 17, refused), ("clone", 0x10000 | 0x20000000, refused),
                    ("tgkill", 1234, rlm.ALLOW), ("tgkill", 1, refused), ("close", 5, refused), ("close", 6, rlm.ALLOW),
                    ("clock_gettime", 3, rlm.ALLOW), ("clock_gettime", 0xFFFFFF06, refused), ("sched_getaffinity", 1, refused)):
                self.assertEqual(verdict(machine, int(numbers[name]), argument), wanted, (machine, name, argument))
            self.assertEqual(verdict(machine, int(numbers["madvise"]), 0, 0, 100), refused)
        self.assertEqual([n for n in (56, 198, 221, 435, 29, 25) if verdict("aarch64", n) == rlm.ALLOW], [])


class ChildTest(unittest.TestCase):
    """One process, and the parent's end of its pipes."""

    child: rlm.Child

    @classmethod
    def setUpClass(cls) -> None:
        cls.child = rlm.Child({"recall": rlm.Ask(lambda query: [query] * 2, {"query": str}, True)})
        cls.addClassCleanup(cls.child.end)

    def cell(self, code: str, timeout_s: float = 10) -> Any:
        if self.child.process is None:
            self.child.start()
        return self.child.converse({"id": 0, "number": 7, "code": code, "contexts": None}, timeout_s)

    def test_a_cell_tells_output_value_and_error(self) -> None:
        self.assertEqual(self.cell("a = 6\nprint(a)\na * 7")["value"], "42")
        told = self.cell(f"print({HARD!r})\n1 / 0")
        self.assertEqual(told["out"], HARD + "\n")
        self.assertEqual(told["trouble"], "ZeroDivisionError: division by zero\n  cell 7, line 2: 1 / 0")
        self.assertIn("SyntaxError", self.cell("1 +")["trouble"])
        self.assertIn("SystemExit", self.cell("raise SystemExit")["trouble"])
        self.assertEqual(self.cell("a")["value"], "6")

    def test_ordinary_code_runs(self) -> None:
        for code in (
                "from datetime import datetime, timezone; datetime.now(timezone.utc).strftime('%A'), datetime.now().astimezone()",
                "import time; datetime.strptime('2024-01-02', '%Y-%m-%d'), time.localtime(), time.strftime('%B')",
                "import csv, io, json; list(csv.DictReader(io.StringIO('a\\n1'))), json.loads(json.dumps({'é': [1.5]}, indent=1))",
                "from decimal import Decimal; from fractions import Fraction; Decimal(2).sqrt(), Fraction(1, 3)",
                "from dataclasses import dataclass, asdict\n@dataclass\nclass P:\n  x: int = 1\nasdict(P())",
                "import statistics, random, hashlib; statistics.quantiles(range(9)), random.sample(range(9), 3), hashlib.md5(b'')",
                "import xml.etree.ElementTree as E, html.parser; E.fromstring('<a b=\"c\"/>').attrib, html.parser.HTMLParser()",
                "'é'.encode('utf-16'), b'x'.decode('cp1252'), 'x'.encode('utf-8-sig'), b'x'.decode('latin-1')",
                "import re; re.sub(r'(a)', lambda m: m[1] * 2, 'ab'), re.compile('a', re.I).split('bAb'), re.subn('a', 'b', 'a')",
                "assert (re.search('A', string='ba', flags=2).start(), re.sub('A', 'b', 'aA', 1, re.I), re.split('B', 'aba', 0, 2)) == "
                "(1, 'bA', ['a', 'a']), re.split",
                "from urllib.parse import urlparse; from pathlib import Path; urlparse('http://a/b').path, Path('a/b').name",
                "import itertools, functools, collections, heapq, bisect, math, textwrap, pprint, unicodedata, zlib, uuid; uuid.uuid4()",
                "import traceback, logging, warnings, difflib, ipaddress; warnings.warn('x'), ipaddress.ip_address('::1')",
                "sum(list(range(2_000_000)))"):
            self.assertEqual(self.cell(code)["trouble"], "", code)

    def test_a_misspelt_name_is_told_what_was_meant(self) -> None:
        self.assertIn("did you mean `counter`?", self.cell("counter = 1\ncuonter")["trouble"])
        self.assertIn("a REPL has", self.cell("import numpy")["trouble"])
        if sys.version_info >= (3, 10):
            self.assertIn("did you mean `append`?", self.cell("[].apend")["trouble"])

    def test_the_answer_of_an_earlier_cell_does_not_end_a_later_one(self) -> None:
        self.assertEqual(self.cell("FINAL({'a': 1})")["answer"], "{'a': 1}")
        self.assertEqual(self.cell("x = 1")["answer"], "")
        self.assertEqual(self.cell("x = 'found'\nFINAL_VAR('x')")["answer"], "found")
        self.assertEqual(self.cell("answer['content'] = 5; answer['ready'] = True")["answer"], "5")
        self.assertEqual(self.cell("SHOW_VARS()['x']")["value"], "'str'")

    def test_what_is_too_long_keeps_both_ends(self) -> None:
        told = self.cell("print('begin' + 'x' * 100_000 + 'end')\n'y' * 10**6")
        for text in (told["out"], told["value"]):
            self.assertLess(len(text), rlm.MAX_SHOWN + 100)
            self.assertIn("characters cut", text)
        self.assertTrue(told["out"].startswith("begin") and told["out"].endswith("end\n"))

    def test_asking_from_threads_and_in_a_cell(self) -> None:
        self.assertEqual(self.cell("recall('a')")["value"], "['a', 'a']")
        told = self.cell("from concurrent.futures import ThreadPoolExecutor\n"
                         "list(ThreadPoolExecutor(8).map(recall, map(str, range(300)))) == [[str(i)] * 2 for i in range(300)]")
        self.assertEqual(told["value"], "True")

    def test_a_cell_that_hangs_is_interrupted_and_variables_survive(self) -> None:
        self.cell("kept = 1")
        for code in ("while True: pass", "import time; time.sleep(60)", "import re; re.match('(a+)+b', 'a' * 50)",
                     "while True: print('endless')", "while True: recall('x')", "import threading\nthreading.Event().wait()",
                     "try:\n  while True: pass\nexcept KeyboardInterrupt: pass"):
            with self.subTest(code):
                self.assertIn("interrupted", self.cell(code, 0.2)["stopped"])
        self.assertEqual(self.cell("kept")["value"], "1")

    def test_a_cell_that_cannot_be_interrupted_is_killed_and_its_output_kept(self) -> None:
        code = "print('got here')\nwhile True:\n  try:\n    while True: pass\n  except BaseException: pass"
        with mock.patch.object(rlm, "GRACE_S", 0.2), self.assertRaisesRegex(rlm.ReplDied, "(?s)killed.*got here"):
            self.cell("import signal; signal.signal(2, signal.SIG_IGN)\n" + code, 0.2)
        self.assertIsNone(self.child.process)
        self.assertEqual(self.cell("1")["value"], "1")

    @unittest.skipUnless(sys.platform == "linux", "memory is bounded on Linux")
    def test_caps_hold(self) -> None:
        for code, error in (("'x' * 10**10", "MemoryError"), ("def f(): return f()\nf()", "RecursionError"),
                            ("[0] * 10**9", "MemoryError"), ("import os\nwhile True: os.fork()", "PermissionError")):
            self.assertIn(error, self.cell(code)["trouble"])
        bomb = "import threading, time\nthreading.stack_size(32768)\n" \
            "while True: threading.Thread(target=time.sleep, args=(60,)).start()"
        self.child.end()  # in a process whose memory other threads have not used up
        try:
            self.assertIn("can't start new thread", self.cell(bomb)["trouble"])
        except rlm.ReplDied as error:
            self.assertIn("threads", str(error))

    @unittest.skipUnless(sys.platform == "linux", "system calls are refused on Linux")
    def test_every_system_call_that_is_not_listed_is_refused(self) -> None:
        # 335 and 336 are for the kernel's own code, which it puts into programs; newer kernels never filter them.
        told = self.cell(f"COLUMN = {1 if os.uname().machine == 'x86_64' else 2}\n"
                         "import sys\nR, C = sys.modules['rlm'], sys.modules['ctypes']\nL, found = C.CDLL(None, use_errno=True), []\n"
                         "words, column = R.CALLS.split(), COLUMN\n"
                         "listed = {335, 336, *(int(n) for n in words[column::3] if n != '-')}\n"
                         "for n in {*range(600), 1 << 30, 2**31 - 1} - listed:\n"
                         "    if L.syscall(C.c_long(n), *[C.c_long(0)] * 6) != -1 or C.get_errno() not in (1, 38):\n"
                         "        found.append(n)\n"
                         "found")
        self.assertEqual((told["trouble"], told["value"]), ("", "[]"))

    def test_nothing_of_a_cell_goes_on_when_it_is_over(self) -> None:
        self.cell("n = 0\ndef count():\n  global n\n  while True: n += 1\n"
                  "import threading; threading.Thread(target=count, daemon=True).start()")
        until = time.monotonic() + 5
        while state_of(self.child.process.pid) != "T" and time.monotonic() < until:
            time.sleep(0.005)
        self.assertEqual(state_of(self.child.process.pid), "T")
        self.child.end()

    def test_a_process_that_ends_is_told(self) -> None:
        with self.assertRaisesRegex(rlm.ReplDied, "exit code 3"):
            self.cell("import os; os._exit(3)")
        with self.assertRaisesRegex(rlm.ReplDied, "signal"):
            self.cell("import os, signal; signal.raise_signal(9)")

    def test_code_that_tricks_what_tells_of_it_gets_no_further(self) -> None:
        for code in ("class E(Exception):\n  def __str__(self): raise SystemExit\nraise E", "answer = 1",
                     "class R:\n  def __repr__(self): 1 / 0\nR()", "answer = {'ready': True}", "del answer",
                     "import json; json.dumps = None", "__builtins__.clear()", "import sys; sys.stdout = None; print(1)"):
            with self.subTest(code), contextlib.suppress(rlm.ReplDied):
                self.cell(code, 1)
        self.child.end()
        self.assertEqual(self.cell("1")["value"], "1")


class Hostile:
    """Frames that no honest process sends."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        """Anything that JSON can hold."""
        chance = self.chance
        kind = chance.randrange(9 if depth < 3 else 7)
        if kind == 7:
            return [self.value(depth + 1) for _ in range(chance.randrange(4))]
        if kind == 8:
            return {chance.choice(["ask", "id", "done", "out", "rest", "x"]): self.value(depth + 1) for _ in range(4)}
        return [None, True, -1, 10**30, 0.5, "x" * chance.randrange(40_000), chance.choice(["read", "recall", "é\ud800"])][kind]

    def frame(self) -> bytes:
        """One line."""
        chance, line = self.chance, b""
        honest: list[dict[str, Any]] = [
            {"ask": "read", "id": 1, "context": "x", "file": 0, "offset": 0, "n": 9}, {"out": "text"},
            {"done": 7, "rest": "", "value": "", "trouble": "", "answer": ""}, {"ask": "recall", "id": 2, "query": "x"}]
        frame = chance.choice(honest)
        spoilt = chance.randrange(4)
        if spoilt == 0:
            frame[chance.choice(list(frame))] = self.value()
        elif spoilt == 1:
            frame["more"] = self.value()
        elif spoilt == 2:
            del frame[chance.choice(list(frame))]
        else:
            line = chance.choice([bytes(chance.randrange(256) for _ in range(50)).replace(b"\n", b""), b"[" * 100_000, b"NaN",
                                  b"1" * 10_000, b'{"a":' * 5_000, b"{}", b"null", b'"x"', json.dumps(self.value()).encode()])
        return line or json.dumps(frame).encode()


class HostileFramesTest(unittest.TestCase):
    def test_no_frame_gets_more_than_a_refusal(self) -> None:
        asks = {"read": rlm.Ask(lambda **_: "", rlm.READ, False), "recall": rlm.Ask(lambda query: [], {"query": str}, True)}
        hostile, n_refused = Hostile(int(time.time())), 0
        for _ in range(10_000):
            line = hostile.frame()
            try:
                frame = rlm.frame_of(line, asks)
                shapes = [rlm.DONE, rlm.PRINTED, {"ask": str, "id": int, **rlm.READ}, {"ask": str, "id": int, "query": str}]
                self.assertIn({key: type(value) for key, value in frame.items()}, shapes, line[:200])
            except rlm.ReplDied:
                n_refused += 1
        self.assertGreater(n_refused, 9_000)

    def test_a_process_that_sends_anything_is_killed_and_the_parent_goes_on(self) -> None:
        sends = ["b'x' * 3_000_000", "b'[' * 100_000 + b'\\n'", "b'null\\n'", "b'{\"out\": \"' + b'x' * 9000 + b'\"}\\n'",
                 "b'{\"done\": 6, \"rest\": \"\", \"value\": \"\", \"trouble\": \"\", \"answer\": \"\"}\\n'",
                 "(b'{\"out\": \"' + b'x' * 8000 + b'\"}\\n') * 2", "b'\\xff\\n'", "b''\nos.close(link.sink)"]
        find = "import gc\nlink = next(x for x in gc.get_objects() if type(x).__name__ == 'Link')\n"
        child = rlm.Child({"recall": rlm.Ask(lambda query: "x" * 1_000_000, {"query": str}, True)})
        self.addCleanup(child.end)
        for data in sends:
            with self.subTest(data):
                child.start()
                with self.assertRaises(rlm.ReplDied):
                    child.converse({"id": 0, "number": 7, "contexts": None, "code": find + "import os, time\ndata = " + data +
                                    "\nwhile data: data = data[os.write(link.sink, data):]\ntime.sleep(9)"}, 5)
                self.assertIsNone(child.process)
        child.start()  # it asks, and never reads what it is told
        with self.assertRaises(rlm.ReplDied), mock.patch.object(rlm, "MAX_WAITING_BYTES", 1 << 22):
            child.converse({"id": 0, "number": 7, "contexts": None, "code": find + "for i in range(9999): "
                            "link.send(ask='recall', id=i, query='x')\nimport time; time.sleep(9)"}, 8)


class SessionTest(InProcess):
    """A REPL as the tool gives it, with its journal."""

    def setUp(self) -> None:
        super().setUp()
        self.store = self.new_store()

    def new_store(self) -> rlm.Store:
        """What another process would have."""
        store = rlm.Store(self.places)
        self.addCleanup(lambda: [session.child.end() for session in store.repls.values()])
        return store

    def run_code(self, code: str, store: rlm.Store | None = None, **more: Any) -> Any:
        """What the tool answers, as data."""
        return rlm.run_tool(rlm.Call(store or self.store), "rlm_exec", {"code": code, "repl": "work", **more}).data

    def process(self, store: rlm.Store | None = None) -> Any:
        return (store or self.store).repls["work"].child.process

    def kill(self) -> None:
        """Ends the process as the system does when memory is short."""
        self.process().kill()
        self.process().wait()

    def journal(self) -> bytes:
        return rlm.read_file(self.places.repl("work"))

    def load(self, name: str, text: str) -> str:
        """Makes a context of a file with that text; the file."""
        path = os.path.join(self.home, name)
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
        self.call("rlm_load", path=path, name=name)
        return path

    def test_variables_come_back_after_the_process_is_killed(self) -> None:
        self.run_code("import math\ndef double(x): return 2 * x\na = double(21)")
        self.assertIn("ZeroDivision", self.run_code("b = 1; 1 / 0")["trouble"])
        self.kill()
        told = self.run_code("a, math.pi > 3, double(1), 'b' in globals()")
        self.assertEqual(told["value"], "(42, True, 2, False)")
        self.assertIn("1 earlier cell ran again", told["notes"][0])
        self.assertEqual(os.stat(self.places.repl("work")).st_mode & 0o777, 0o600)

    def test_a_cell_whose_process_is_killed_as_it_begins_runs_in_another(self) -> None:
        self.run_code("a = 20")
        with mock.patch.object(self.process(), "poll", lambda: None):  # as if its end were not yet seen
            self.process().send_signal(9)
            told = self.run_code("a + 1")
        self.assertEqual((told["value"], told["notes"][0][:24]), ("21", "1 earlier cell ran again"))

    def test_two_processes_with_one_repl_see_the_same_variables(self) -> None:
        other = self.new_store()
        self.run_code("a = 1")
        self.assertEqual(self.run_code("b = a + 1; b", other)["value"], "2")
        told = self.run_code("a + b")
        self.assertEqual((told["value"], told["notes"][0][:14]), ("3", "1 earlier cell"))
        self.assertEqual(self.run_code("'a' in globals()", repl="other")["value"], "False")

    def test_a_damaged_journal_costs_the_damaged_cell(self) -> None:
        self.run_code("a = 1")
        self.run_code("b = 2")
        rlm.replace_file(self.places.repl("work"), b"\xff[{\n" + self.journal().replace(b"b = 2", b"b = \xff") + b'{"code": 1}')
        self.assertEqual(self.run_code("a, 'b' in globals()", self.new_store())["value"], "(1, False)")

    def test_what_the_memory_answered_is_the_same_in_a_replay(self) -> None:
        self.call("rlm_remember", content="Deploy on Tuesdays", category="decision")
        self.chunk("The deploy script failed because of the port")
        self.run_code("found = [each['text'] for each in recall('deploy')]; n = len(memory('deploy', 'chunk'))")
        self.call("rlm_forget", insight_id=self.call("rlm_recall", query="deploy").data["insights"][0]["id"])
        self.kill()
        self.assertEqual(self.run_code("found, n")["value"], "(['Deploy on Tuesdays'], 1)")
        self.assertEqual(self.run_code("recall('deploy')")["value"], "[]")
        self.assertIn("RuntimeError", self.run_code("memory('')")["trouble"])

    def test_what_cannot_come_back_is_said(self) -> None:
        self.run_code("import random; x = random.random()")
        self.run_code("random.seed(1); y = random.random()")
        key = "sk-ant-api03-" + "Ab3dEf9hIj" * 9 + "AA"
        self.assertIn("secret", self.run_code(f"key = {key!r}")["notes"][0])
        self.assertNotIn(key.encode(), self.journal())
        self.kill()
        notes = self.run_code("1")["notes"]
        self.assertEqual([note for note in notes if "chance" in note], ["cell 1 uses time or chance: its values may be others"])

    def test_erasing_reaches_journals(self) -> None:
        memory = self.chunk("The password of the vault is unspeakable-é-word")
        self.run_code("kept = 1")
        self.run_code("hits = memory('vault')")
        self.assertIn(b"vault", self.journal())
        self.assertEqual(self.main("forget", "--erase", "--yes", memory)[0], 0)
        self.assertNotIn(b"vault", self.journal())
        self.assertEqual(self.run_code("kept, 'hits' in globals()")["value"], "(1, False)")

    def test_scrubbing_and_time_reach_journals(self) -> None:
        with mock.patch.object(rlm, "redact_value", lambda value: value):
            self.run_code("key = 'sk-ant-api03-" + "Ab3dEf9hIj" * 9 + "AA'")
        self.assertEqual(self.main("scrub")[0], 0)
        self.assertNotIn(b"Ab3dEf9hIj", self.journal())
        os.utime(self.places.repl("work"), (1, 1))
        self.run_code("1", repl="other")
        self.assertEqual(rlm.listing(self.places.repls()), ["other.jsonl", "other.lock"])

    def test_a_cell_that_cannot_be_kept_still_answers(self) -> None:
        self.run_code("a = 1")
        with mock.patch.object(rlm, "append_bytes", mock.Mock(side_effect=rlm.StoreUnwritable("the disk is full"))):
            told = self.run_code("b = a + 1; b")
        self.assertEqual((told["value"], "disk is full" in told["notes"][0]), ("2", True))
        self.assertEqual(self.run_code("a + b")["value"], "3")

    def test_a_cell_that_kills_each_process_that_runs_it_again_is_named(self) -> None:
        self.run_code("a = 1")
        self.run_code("b = 2")
        rlm.replace_file(self.places.repl("work"), self.journal().replace(b"b = 2", b"import os; os._exit(3)"))
        self.kill()
        for _ in range(2):
            with self.assertRaisesRegex(rlm.ReplDied, "exit code 3.*while cell 2 ran again"):
                self.run_code("a")

    def test_results_kept_of_a_context_are_there(self) -> None:
        self.load("log", "one\n")
        self.call("rlm_results", name="log", action="store", key="log#1", value="nothing")
        self.assertEqual(self.run_code("results('log')", contexts="log")["value"], "{'log#1': 'nothing'}")

    def test_nothing_of_an_excluded_project_is_kept(self) -> None:
        rlm.write_config(self.places, {"exclude": ["test"]})
        self.run_code("a = 1")
        self.kill()
        self.assertEqual(self.run_code("a")["value"], "1")
        self.assertEqual(self.journal(), b"")

    def test_a_text_looks_like_a_str_whatever_its_size(self) -> None:
        made = rlm.imported_command
        patch = mock.patch.object(rlm, "imported_command", lambda statement, flags: made(
            f"rlm.MAX_WHOLE_BYTES = 1 << 17; {statement}", flags))
        patch.start()
        self.addCleanup(patch.stop)
        small, folder = "é line\n\udcff日本\n" * 1500, os.path.join(self.home, "folder")
        large = "日 user%04d GET\n" * 10 % tuple(range(10)) * 2000
        os.mkdir(folder)
        for name, text in (("folder/a.md", "# A\n"), ("folder/b.md", "# B user0003\n"), ("folder/c.log", large)):
            self.load(name, text)
        self.load("small", small)
        self.load("large", large)
        self.call("rlm_load", path=folder, name="all")
        told = self.run_code("type(context).__name__, type(context_1).__name__, isinstance(context, str)", contexts="small large")
        self.assertEqual(told["value"], "('Whole', 'Text', True)")
        code = """import re
from re import findall
t = {}
len(t), t[3:9], t.count('GET'), t.find('user0003'), 'user0004' in t, len(findall(r'user000[12]', t)), \\
    re.search('(?i)USER', t).start(), len(re.compile('日').findall(t)), len(list(t.lines())), next(t.parts(7))"""
        for name, text in (("context", small), ("context_1", large)):
            lines = text.split("\n")[:-1]
            found = re.search("(?i)USER", text)
            wanted = (len(text), text[3:9], text.count("GET"), text.find("user0003"), "user0004" in text,
                      len(re.findall(r"user000[12]", text)), found and found.start(), len(re.findall("日", text)), len(lines), text[:7])
            told = self.run_code(code.format(name) if found else code.format(name).replace(".start()", ""))
            self.assertEqual(told["value"] or told["trouble"], repr(wanted))
        for name in ("context", "context_1"):
            self.assertLess(len(self.run_code(f"print({name})\n{name}")["output"].strip()), 120)
        # In mid-session, through the parent.
        told = self.run_code("sorted(context), context['a.md'], len(context['c.log']), [p for p, t in context.items() if 'B' in t], "
                             "grep('user0003', context, 1), peek(1)", contexts="all")
        self.assertEqual(told["value"], repr((["a.md", "b.md", "c.log"], "# A\n", len(large), ["b.md"], ["b.md:1: # B user0003"],
                                              ["a.md"])))
        self.assertIn("no such context", self.run_code(
            "import gc\nlink = next(x for x in gc.get_objects() if type(x).__name__ == 'Link')\n"
            "link.ask('read', context='other', file=0, offset=0, n=9)")["trouble"])
        self.kill()
        self.assertEqual(self.run_code("len(context), len(context_1)")["value"], f"(3, {len(large)})")

    def test_helpers_find_split_and_peek(self) -> None:
        self.load("log", "".join(f"line {i} of the log\n" for i in range(1000)) + "the needle is here\n")
        told = self.run_code("grep('needle'), peek(6), len(split(5000)), ''.join(split(777)) == context, search('needle', limit=1)[0]",
                             contexts="log")
        grep, peek, n, same, (at, piece) = eval(told["value"])
        self.assertEqual((grep, peek, n, same), (["1001: the needle is here"], "line 0", 4, True))
        self.assertIn("needle", piece)
        self.assertGreater(at, 10_000)

    def test_help_tells_how_each_function_is_called_and_a_wrong_call_does_too(self) -> None:
        import inspect

        self.load("log", "one\n")
        told = self.run_code("help()", contexts="log")["output"]
        self.assertEqual(told, rlm.REPL_HELP + "\n")
        for name, given in re.findall(r"\b(\w+)\(([^)]*)\)", told):
            if name not in ("lines", "parts"):
                known = [f"{each.name}" if each.default is each.empty else f'{each.name}={each.default!r}'.replace("'", '"')
                         for each in list(inspect.signature(getattr(rlm.Cells, name)).parameters.values())[1:]]
                self.assertEqual(given, ", ".join(known), name)
        for code in ('peek("log")', "split(context)"):
            self.assertIn(f"TypeError: {code[:5].rstrip('(')}", self.run_code(code)["trouble"])
        self.assertIn("peek(n=1000, start=0", self.cli("exec", "--help").stdout.decode())

    def test_a_file_that_changed_is_said_to_be_stale(self) -> None:
        path = self.load("log", "one\n" * 100)
        self.run_code("n = len(context)", contexts="log")
        with open(path, "w", encoding="utf-8") as file:
            file.write("2\n")
        told = self.run_code("context", self.new_store())
        self.assertEqual(told["value"], repr("2\n"))
        self.assertIn("stale", " ".join(told["notes"]))
        self.assertIn("stale", " ".join(self.run_code("1", self.new_store(), contexts="log", repl="b")["notes"]))
        self.call("rlm_filter", name="log", pattern="2", output="twos")
        self.call("rlm_load", path=path, name="log")
        with open(path, "w", encoding="utf-8") as file:
            file.write("3\n2\n")
        with self.assertRaisesRegex(rlm.UsageError, "twos is stale"):  # other bytes stand there now
            self.run_code("context", self.new_store(), contexts="twos", repl="b")
        os.unlink(path)
        told = self.run_code("n", self.new_store())
        self.assertIn("log", " ".join(told["notes"]))

    def test_a_second_caller_waits(self) -> None:
        import threading

        order: list[str] = []

        def first() -> None:
            self.run_code("import time; time.sleep(0.5); a = 1", self.new_store())
            order.append("first")

        thread = threading.Thread(target=first)
        thread.start()
        with contextlib.suppress(rlm.StoreBusy):  # until the other one has it
            while True:
                with rlm.Lock(self.places.repl_lock("work"), 0):
                    pass
                time.sleep(0.05)
        self.assertEqual(self.run_code("a")["value"], "1")
        thread.join()
        self.assertEqual(order, ["first"])

    def test_few_processes_wait_at_a_time(self) -> None:
        for i in range(rlm.MAX_REPLS + 2):
            self.run_code(f"a = {i}", repl=f"r{i}")
        self.assertLessEqual(sum(s.child.process is not None for s in self.store.repls.values()), rlm.MAX_REPLS)
        self.assertEqual(self.run_code("a", repl="r0")["value"], "0")

    def test_without_a_lock_nothing_runs_unless_that_is_wanted(self) -> None:
        made = rlm.imported_command
        broken = mock.patch.object(rlm, "imported_command", lambda statement, flags: made(
            f"rlm.hold_seccomp = lambda *_: False; {statement}", flags))
        with broken, self.assertRaisesRegex(rlm.RlmError, "missing: seccomp.*exec.unsafe"):
            self.run_code("1")
        with broken:
            self.assertIn("refused: code could", rlm.repl_check(self.places)[2])
        rlm.write_config(self.places, {"exec.unsafe": True})
        with broken:
            self.assertEqual(self.run_code("1")["value"], "1")

    def test_odd_words_from_a_cell_are_refused_or_answered(self) -> None:
        told = self.run_code("""
def tried(function, word):
    try:
        return type(function(word)).__name__
    except RuntimeError:
        return "refused"
words = ("", "../x", "a#1", "/etc/passwd", "\\0", "\\ud800", "a" * 16000, "'; --", "\\n", "../../memory/log-000001")
[{tried(results, word) for word in words}, *({tried(ask, word) for word in words} <= {"list", "refused"} for ask in (recall, memory))]
""")
        self.assertEqual(told["value"], "[{'refused'}, True, True]", told)

    def test_what_cannot_be_run_is_refused(self) -> None:
        for arguments, what in (({"timeout_s": 0}, "timeout_s"), ({"timeout_s": 10**6}, "timeout_s"), ({"repl": "//"}, "name"),
                                ({"code": "x" * 300_000}, "characters"), ({"contexts": "nothing"}, "no context")):
            with self.assertRaisesRegex(rlm.RlmError, what):
                self.run_code(**{"code": "1", **arguments})
        for code in ("", "\0", "\udcff", "'\udcff'", "# only a comment", HARD):
            self.run_code(code)
        self.assertEqual(self.run_code("1")["value"], "1")

    def test_processes_killed_at_random_lose_nothing(self) -> None:
        chance, store = random.Random(), self.store
        self.run_code("done = []")
        for i in range(5):
            pid = self.process(store).pid
            wait_s, killer = chance.random() * 0.05, None
            killer = forked(lambda pid=pid, wait_s=wait_s: (time.sleep(wait_s), os.kill(pid, signal.SIGKILL)))  # type: ignore[misc]
            kept = len(self.journal().splitlines())
            with contextlib.suppress(rlm.ReplDied):
                self.run_code(f"import time; time.sleep(0.02); done.append({i})")
                kept += 1
            ended(killer)
            self.assertEqual(len(self.journal().splitlines()), kept)
            self.assertTrue(gone(pid))
            self.assertEqual(int(self.run_code("len(done)", repl="work")["value"]),
                             sum(b"append" in line for line in self.journal().splitlines()))


class ServerTest(TempHome):
    """rlm_exec as a client and a shell have it."""

    def children(self, pid: int) -> list[int]:
        """The processes of a server."""
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            own = file.read()
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                own += " " + file.read()
        return sorted({int(word) for word in own.split()})

    def test_nothing_is_left_of_a_server_that_is_killed_and_its_session_comes_back(self) -> None:
        environ = {"CLAUDE_CODE_SESSION_ID": "a1b2c3"}
        for code in ("a = 1", "import re; re.match('(a+)+b', 'a' * 60)", "while True: pass",
                     "import signal, time\nfor n in range(1, 30):\n  try: signal.signal(n, signal.SIG_IGN)\n  except Exception: pass\n"
                     "while True: time.sleep(9)"):
            with self.subTest(code):
                client = self.client(env=environ)
                client.initialize()
                told = client.request("tools/call", {"name": "rlm_exec", "arguments": {"code": "a = globals().get('a', 0) + 1; a"}})
                n = told["result"]["content"][0]["text"].split()[1]
                client.send({"jsonrpc": "2.0", "id": "x", "method": "tools/call",
                             "params": {"name": "rlm_exec", "arguments": {"code": code}}})
                time.sleep(0.1)
                children = self.children(client.process.pid)
                self.assertTrue(children)
                client.process.kill()
                self.assertEqual([pid for pid in children if not gone(pid)], [])
        self.assertEqual(n, "4")

    def test_a_cell_keeps_no_other_call_waiting_and_can_be_cancelled(self) -> None:
        client = self.client()
        client.initialize()
        client.request("tools/call", {"name": "rlm_exec", "arguments": {"code": "a = 5"}})
        client.send({"jsonrpc": "2.0", "id": "slow", "method": "tools/call", "params": {
            "name": "rlm_exec", "arguments": {"code": "import time; time.sleep(20)"}}})
        began = time.monotonic()
        told = client.request("tools/call", {"name": "rlm_remember", "arguments": {"content": "meanwhile"}})
        self.assertIn("i-", told["result"]["content"][0]["text"])
        client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "slow"}})
        told = client.request("tools/call", {"name": "rlm_exec", "arguments": {"code": "a"}})
        self.assertIn("= 5", told["result"]["content"][0]["text"])
        self.assertLess(time.monotonic() - began, 10)

    def test_from_the_shell_a_file_standard_input_and_a_name(self) -> None:
        path = os.path.join(self.home, "cell.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write("a = 6 * 7\nprint('printed')\na\n")
        done = self.cli("exec", path, "--repl", "work")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"printed\n= 42\n", b""))
        done = self.cli("exec", "--repl", "work", "--json", stdin=b"a + 1")
        self.assertEqual(json.loads(done.stdout)["value"], "43")
        self.assertEqual(self.cli("exec", "--restart", "--repl", "work", stdin=b"a").returncode, 1)
        self.assertEqual(self.cli("exec", os.path.join(self.home, "none.py")).returncode, 1)
        self.cli("exec", stdin=b"1")
        self.assertEqual(rlm.stems(self.places.repls(), ".jsonl"), [])  # without a name nothing is kept

    def test_a_terminal_gets_a_prompt(self) -> None:
        import pty

        pid, terminal = pty.fork()
        if not pid:
            os.environ.update(bytecode(), TERM="dumb")
            os.execv(sys.executable, [sys.executable, rlm.__file__, "exec"])
        self.addCleanup(os.close, terminal)
        shown = b""

        def until(text: bytes, typed: bytes) -> None:
            nonlocal shown
            os.write(terminal, typed)
            while text not in shown:
                self.assertTrue(select.select([terminal], [], [], 10)[0], shown)
                shown += os.read(terminal, 1 << 16)
            shown = shown.partition(text)[2]

        until(b">>> ", b"")
        until(b"... ", b"def f(x):\n")
        until(b"... ", b"  return x + 40\n")
        until(b">>> ", b"\n")
        until(b"= 42", b"f(2)\n")
        until(b">>> ", b"")
        until(b">>> ", b"import time\n")
        os.write(terminal, b"time.sleep(30)\n")
        [child] = self.children(pid)
        while state_of(child) == "T":  # as long as no cell runs
            time.sleep(0.005)
        until(b"cancelled", b"\x03")
        until(b">>> ", b"")
        until(b"= 41", b"f(1)\n")
        until(b">>> ", b"")
        os.write(terminal, b"\x04")
        with contextlib.suppress(OSError):
            while select.select([terminal], [], [], 10)[0] and os.read(terminal, 1 << 16):
                pass
        self.assertEqual(ended(pid), 0)

    def test_doctor_tells_which_layer_answered(self) -> None:
        _, state, seen, _ = rlm.repl_check(self.places)
        self.assertEqual(state, "ok", seen)
        self.assertRegex(seen, r"no attempt .* 7 by seccomp, 1 by limits refused; its lock: .*seccomp")


if __name__ == "__main__":
    unittest.main()
