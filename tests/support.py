"""What the tests share: a home of their own, a way to run rlm as a user does, and an MCP client on real pipes."""
from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RLM = os.path.join(ROOT, "rlm.py")
sys.path.insert(0, ROOT)
import rlm  # noqa: E402


def is_roomy_memory(path: str) -> bool:
    """Whether the folder is one in memory with 2 GB to spare, from which programs may be run."""
    try:
        stat = os.statvfs(path)
    except OSError:
        return False
    return os.access(path, os.W_OK) and stat.f_bavail * stat.f_frsize > 2 << 30 and not stat.f_flag & os.ST_NOEXEC


# The tests wait thousands of times until something is on the disk, which in memory it is at once: a third less time.
if "TMPDIR" not in os.environ and sys.platform == "linux" and is_roomy_memory("/dev/shm"):
    tempfile.tempdir = "/dev/shm"

# A shell starts background jobs with this signal ignored, and our processes would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Every text that a test makes up holds these somewhere: accents, quotes, a line end, CJK, an emoji.
HARD = 'é "quoted"\r\n日本語 \U0001f600'
# What the environment of the person who runs the tests must not change.
SEALED = ("HOME", "RLM_HOME", "RLM_CONTEXT_DIR", "RLM_PROJECT", "CLAUDE_CONFIG_DIR", "CLAUDE_PROJECT_DIR",
          "CLAUDE_CODE_SESSION_ID", "NO_COLOR", "RLM_DEBUG", "PYTHONUNBUFFERED", "RLM_PROVIDER", "RLM_MODEL", "RLM_CHILD",
          "OLLAMA_HOST", "OLLAMA_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY",
          "RLM_EMBEDDING_MODEL")


def forked(job: Callable[[], object]) -> int:
    """Runs *job* in a child process; the child's id. It ends with 0, or with 1 and a traceback when the job raises."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        job()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def lock_holder(path: str) -> int:
    """Starts a process that has the lock by the time this returns, and keeps it until it is killed; its id."""
    told, tell = os.pipe()

    def hold() -> None:
        with rlm.Lock(path):
            os.write(tell, b"x")
            signal.pause()

    child = forked(hold)
    os.read(told, 1)
    os.close(told)
    os.close(tell)
    return child


def ended(child: int) -> int:
    """Waits for a child process; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def failing_writes(n_bytes: int, number: int = errno.ENOSPC) -> Callable[[int, bytes], None]:
    """A write_all for a disk that takes *n_bytes* more bytes in all and then fails with that error."""
    left = n_bytes

    def write_all(fd: int, data: bytes) -> None:
        nonlocal left
        taken = data[:left]
        os.write(fd, taken)
        left -= len(taken)
        if len(taken) < len(data):
            raise OSError(number, os.strerror(number))

    return write_all


# How to run rlm in a process: as a module, since Python compiles a script of this size anew for 0.1 s at each start;
# without site-packages, as what `install` puts in place does.
PROGRAM = [sys.executable, "-S", "-m", "rlm"]


@functools.cache
def bytecode() -> dict[str, str]:
    """The environment in which PROGRAM finds rlm, and the bytecode that all processes of this run of the tests share."""
    folder = tempfile.mkdtemp(prefix="rlm bytecode ")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {"PYTHONPATH": ROOT, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}


def started(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    """A process of rlm."""
    return subprocess.Popen([*PROGRAM, *words], env={**os.environ, **bytecode()}, **options)


def everything(places: rlm.Places) -> dict[str, Any]:
    """All that a store holds, by id, as a new process sees it: text, labels and state of every document."""
    view, found = rlm.View(places).refresh(), {}
    for doc in map(view.doc, range(view.n_docs())):
        if not doc.life.flags & rlm.REPLACED:
            record = view.record(doc)
            found[doc.id] = (doc.kind, record.get("text"), record.get("tags"), record.get("summary"), doc.project,
                             doc.domain, doc.label, doc.importance, doc.tier(), doc.life.flags, doc.life.uses)
    view.log.close()
    return found


def days_ago(n_days: float) -> Any:
    """A patch, for a `with` block, under which rlm's clock shows a time that many days ago."""
    return mock.patch.object(rlm, "now", mock.Mock(return_value=rlm.now() - n_days * rlm.DAY_S))


class TempHome(unittest.TestCase):
    """A test case with a scratch HOME (self.home) and a store in it (self.places)."""

    def setUp(self) -> None:
        self.home = tempfile.mkdtemp(prefix="rlm test é ")  # a space and an accent: real folders have them
        self.addCleanup(shutil.rmtree, self.home, ignore_errors=True)
        saved = {name: os.environ.pop(name, None) for name in SEALED}
        self.addCleanup(self.restore_environment, saved)
        os.environ.update(HOME=self.home, RLM_PROJECT="test")
        self.places = rlm.Places()

    @staticmethod
    def restore_environment(saved: dict[str, str | None]) -> None:
        """Puts the environment back."""
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def view(self) -> rlm.View:
        """A fresh view of the store, as another process would have it."""
        return rlm.View(self.places).refresh()

    def call(self, name: str, /, **arguments: Any) -> rlm.Answer:
        """Runs a tool in this process with a store object of its own, as one command would."""
        call = rlm.Call(rlm.Store(self.places))
        answer = rlm.run_tool(call, name, arguments)
        rlm.keep_up(call.store)
        return answer

    def chunk(self, text: str, **arguments: Any) -> str:
        """Stores a chunk; its id."""
        return str(self.call("rlm_chunk", content=text, **arguments).data["id"])

    def log_bytes(self) -> bytes:
        """All log files, one after the other."""
        return b"".join(rlm.read_file(self.places.log(n)) for n in self.places.numbered("log"))

    def cli(self, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None,
            timeout_s: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Runs `rlm.py` as a process."""
        return subprocess.run([*PROGRAM, *arguments], input=stdin, capture_output=True, cwd=self.home,
                              env={**os.environ, **bytecode(), **(env or {})}, timeout=timeout_s, check=False)

    def client(self, **options: Any) -> McpClient:
        """Starts a server and a client of it; both are gone at the test's end."""
        client = McpClient(self.home, **options)
        self.addCleanup(client.close)
        return client


class InProcess(TempHome):
    """Commands in this process. Nothing here needs the disk itself, so nobody waits for it."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("sync", "sync_folder"):
            patch = mock.patch.object(rlm, name, lambda _: None)
            patch.start()
            self.addCleanup(patch.stop)

    def main(self, *arguments: str) -> tuple[int, str]:
        """Runs a command in this process; exit code and what it printed."""
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = rlm.main(list(arguments))
        return code, out.buffer.getvalue().decode()  # type: ignore[attr-defined]


class McpClient:
    """A raw JSON-RPC client of `rlm.py serve` over real pipes."""

    def __init__(self, cwd: str, command: list[str] | None = None, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command or [*PROGRAM, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=cwd, env={**os.environ, **({} if command else bytecode()), **(env or {})})
        self.buffer = b""
        self.n_sent = 0
        self.others: list[Any] = []  # messages that were not the answer waited for

    def send(self, message: Any) -> None:
        """Sends one message."""
        self.send_raw(json.dumps(message).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self, timeout_s: float = 20) -> Any:
        """The next message of the server; EOFError when it has ended, TimeoutError when it is silent."""
        assert self.process.stdout
        fd, until = self.process.stdout.fileno(), time.monotonic() + timeout_s
        while b"\n" not in self.buffer:
            if not select.select([fd], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError(f"silent for {timeout_s} s")
            part = os.read(fd, 1 << 16)
            if not part:
                raise EOFError("the server ended")
            self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def request(self, method: str, params: Any = None, timeout_s: float = 20) -> Any:
        """Sends a request and waits for its response."""
        self.n_sent += 1
        message = {"jsonrpc": "2.0", "id": self.n_sent, "method": method}
        self.send({**message, "params": params} if params is not None else message)
        return self.response(self.n_sent, timeout_s)

    def response(self, wanted: object, timeout_s: float = 20) -> Any:
        """Waits for the response with that id; what else arrives is kept in `others`."""
        while True:
            message = self.receive(timeout_s)
            if isinstance(message, dict) and message.get("id") == wanted and "method" not in message:
                return message
            self.others.append(message)

    def initialize(self, version: str = "2025-11-25") -> Any:
        """Opens a legacy session; the result."""
        result = self.request("initialize", {"protocolVersion": version, "capabilities": {},
                                             "clientInfo": {"name": "test", "version": "1"}})["result"]
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return result

    def call(self, name: str, /, timeout_s: float = 20, **arguments: Any) -> Any:
        """Calls a tool; its result."""
        return self.request("tools/call", {"name": name, "arguments": arguments}, timeout_s)["result"]

    def text(self, name: str, /, **arguments: Any) -> str:
        """Calls a tool; the text of its answer."""
        return "\n".join(block["text"] for block in self.call(name, **arguments)["content"])

    def close(self) -> None:
        """Ends the server and frees the pipes."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
