"""A REPL computes on texts and does nothing else; whatever runs in it, the parent goes on and the session comes back."""
from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
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
                began = time.monotonic()
                self.assertIn("interrupted", self.cell(code, 0.2)["stopped"])
                self.assertLess(time.monotonic() - began, 2)
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
        with self.assertRaisesRegex(rlm.ReplDied, "threads"):
            self.cell(bomb)

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
                 "(b'{\"out\": \"' + b'x' * 8000 + b'\"}\\n') * 2", "b'\\xff\\n'"]
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


if __name__ == "__main__":
    unittest.main()
