"""The hooks save every conversation and tell what is known, and nothing that goes wrong in them stops the session."""
from __future__ import annotations

import gzip
import json
import os
import resource
import select
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
import traceback
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from tests.support import HARD, ROOT, TempHome, ended, everything, forked, lock_holder, rlm

HOOKS = os.path.join(ROOT, "hooks")
SESSION, OTHER = "bd4796a7-bf6c-4c3a-80c6-da8e56d81c23", "94c965d7-ad2a-4ff7-b7dc-945d745a7032"
PROJECT = "shop é 日本"
# What the recorded payload of an event has besides session, transcript, folder and its own name.
PAYLOADS: dict[str, dict[str, Any]] = {
    "PreCompact": {"trigger": "manual", "custom_instructions": 'keep the "foo" é'},
    "SessionStart": {"source": "startup", "model": "claude-opus-5-5"},
    "UserPromptSubmit": {"permission_mode": "default", "prompt": "GO"},
    "PostCompact": {"trigger": "auto", "compact_summary": "<analysis>thinking</analysis>\n<summary>\nMOCK\n</summary>"},
    "SessionEnd": {"reason": "other"},
    "PreToolUse": {"permission_mode": "default", "effort": {"level": "medium"}, "tool_name": "Read", "tool_input": {},
                   "tool_use_id": "toolu_mock00000001"},
    "PostToolUse": {"permission_mode": "default", "effort": {"level": "medium"}, "tool_name": "Write", "tool_input": {},
                    "tool_response": [{"type": "text", "text": "ok"}], "tool_use_id": "toolu_mock00000001"},
}
# Values of the shapes that must never reach the disk, put together so that no scanner takes this file for a leak.
GITHUB_TOKEN = "ghp_" + "Zx8Kq2Lm5Np7Rt9Vw1By3Cd4Ef6Gh0Jk8sQ2"
AWS_KEY = "AKIA" + "Q7ZX3MPL9RTV2WKB"
PASSWORD = "tr0ub4dor" + "-Xk9-Lq2"


class Talk:
    """Writes a transcript line by line, in the shapes that the client was seen to write."""

    def __init__(self, path: str, cwd: str, session: str = SESSION, minutes_ago: float = 60) -> None:
        self.path, self.cwd, self.session = path, cwd, session
        self.clock_s, self.n = rlm.now() - 60 * minutes_ago, int(session[:6], 16) * 1000
        os.makedirs(os.path.dirname(path), exist_ok=True)

    def write(self, data: bytes) -> None:
        """Appends bytes as they are."""
        with open(self.path, "ab") as file:
            file.write(data)

    def entry(self, **fields: Any) -> bytes:
        """A line with what all lines of the conversation have."""
        self.n += 1
        self.clock_s += 1
        common = {"uuid": f"{self.n:08x}-0000-4000-8000-{self.n * 7919:012x}", "userType": "external", "entrypoint": "cli",
                  "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.642Z", time.gmtime(self.clock_s)), "cwd": self.cwd,
                  "sessionId": self.session, "version": "2.1.329", "gitBranch": "topic/é"}
        whole = {"parentUuid": None, "isSidechain": False, **fields, **common}
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def user(self, content: object, **more: Any) -> None:
        """A user line."""
        self.write(self.entry(promptId="p", type="user", message={"role": "user", "content": content}, **more))

    def assistant(self, block: dict[str, Any], **more: Any) -> None:
        """An assistant line: one block."""
        message = {"id": f"msg_{self.n}", "type": "message", "role": "assistant", "model": "claude-opus-5-5",
                   "content": [block], "stop_reason": "tool_use", "usage": {"input_tokens": 100}}
        self.write(self.entry(message=message, requestId="req_1", type="assistant", **more))

    def says(self, text: str, **more: Any) -> None:
        """Text of Claude."""
        self.assistant({"type": "text", "text": text}, **more)

    def asks(self, name: str, **given: Any) -> str:
        """A tool call; its id."""
        made = f"toolu_mock{self.n:08d}"
        self.assistant({"type": "tool_use", "id": made, "name": name, "input": given})
        return made

    def gets(self, call_id: str, text: str, failed: bool = False) -> None:
        """What a tool returned, which the client writes down twice."""
        block = {"tool_use_id": call_id, "type": "tool_result", "content": text, **({"is_error": True} if failed else {})}
        self.user([block], toolUseResult={"stdout": text, "stderr": "", "interrupted": False})

    def noise(self) -> None:
        """Lines of which nothing is to be kept; all hold the word NOISE."""
        for kind in ("hook_success", "hook_additional_context", "prompt_snapshot"):
            self.write(self.entry(type="attachment", attachment={"type": kind, "content": "NOISE", "stdout": "NOISE"}))
        self.write(b'{"type": "queue-operation", "operation": "enqueue", "sessionId": "x", "content": "NOISE"}\n')
        self.write(b'{"type": "last-prompt", "lastPrompt": "NOISE", "leafUuid": "y", "sessionId": "x"}\n')

    def turn(self, prompt: str, answer: str) -> None:
        """A prompt, a command, and an answer, with noise between them."""
        self.user(prompt)
        self.noise()
        self.gets(self.asks("Bash", command="make test é", description="d"), "42 passed")
        self.says(answer)

    def compacts(self, summary: str) -> None:
        """What a compaction adds."""
        self.write(self.entry(type="system", subtype="compact_boundary", content="Conversation compacted", isMeta=False))
        text = "This session is being continued from a previous conversation that ran out of context. The summary below " \
               f"covers the earlier portion of the conversation.\n\nSummary:\n{summary}"
        self.user(text, isVisibleInTranscriptOnly=True, isCompactSummary=True)


def source_of(event: str) -> str:
    """The text of an event's hook file."""
    with open(os.path.join(HOOKS, rlm.HOOKS[event][0]), encoding="utf-8") as file:
        return file.read()


def as_nobody() -> None:
    """Makes this process one that file modes hold for."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


class HookCase(TempHome):
    """A project folder, a session's transcript, and events fired at the hooks."""

    def setUp(self) -> None:
        super().setUp()
        for name in [n for n in os.environ if n.startswith(("RLM_", "CLAUDE"))]:
            self.addCleanup(os.environ.__setitem__, name, os.environ.pop(name))
        self.folder = os.path.join(self.home, "code", PROJECT)
        os.makedirs(self.folder)
        self.transcripts = os.path.join(self.home, ".claude", "projects", "-code-shop")
        self.path = os.path.join(self.transcripts, SESSION + ".jsonl")
        self.talk = Talk(self.path, self.folder)

    def other_talk(self, session: str = OTHER, minutes_ago: float = 120) -> Talk:
        """Another session of the same project."""
        return Talk(os.path.join(self.transcripts, session + ".jsonl"), self.folder, session, minutes_ago)

    def payload(self, event: str, **more: Any) -> dict[str, Any]:
        """The event as the client tells it."""
        return {"session_id": SESSION, "transcript_path": self.path, "cwd": self.folder, "prompt_id": "4311a684-b1fa",
                **PAYLOADS[event], "hook_event_name": event, **more}

    def log_lines(self, home: str = "") -> list[str]:
        """What the hooks have written down as failures."""
        try:
            with open(os.path.join(home or self.home, ".claude", "rlm", "hooks.log"), encoding="utf-8") as file:
                return file.read().splitlines()
        except OSError:
            return []

    def raw(self, event: str, data: bytes, prepare: Callable[[], object] = lambda: None) -> str:
        """Runs an event's hook file in a process of its own (a fork, which saves the start of Python); its output.

        It must end with 0 and with nothing on standard error. *prepare* is done in that process first.
        """
        code = compile(source_of(event), os.path.join(HOOKS, rlm.HOOKS[event][0]), "exec")
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(data)
            given.seek(0)

            def job() -> None:
                for target, file in enumerate((given, out, err)):
                    os.dup2(file.fileno(), target)
                sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w", closefd=False), \
                    open(2, "w", closefd=False)
                prepare()
                exec(code, {"__name__": "__main__", "__file__": code.co_filename})
                raise AssertionError("the hook did not end by itself")

            code_of_exit = ended(forked(job))
            out.seek(0)
            err.seek(0)
            self.assertEqual((code_of_exit, err.read().decode()), (0, ""))
            return out.read().decode("utf-8")

    def fire(self, event: str, *, home: str = "", fails: bool = False, env: dict[str, str] | None = None,
             prepare: Callable[[], object] = lambda: None, **more: Any) -> str:
        """Fires an event; what the hook printed. A failure must be in hooks.log when *fails*, and none when not."""

        def job() -> None:
            os.environ.update({**({"HOME": home} if home else {}), **(env or {})})
            os.chdir(self.folder)
            prepare()

        before = len(self.log_lines(home))
        out = self.raw(event, json.dumps(self.payload(event, **more)).encode(), job)
        noted = self.log_lines(home)[before:]
        self.assertEqual(bool(noted), fails, noted)
        for line in noted:
            self.assertRegex(line, rf"^20\d\d-\S+Z? ?\S* {event}: \w+: ")
        return out

    def context(self, event: str, **options: Any) -> str:
        """Fires an event that hands something to Claude; that text, "" for nothing."""
        out = self.fire(event, **options)
        if not out:
            return ""
        answer = json.loads(out)
        self.assertEqual(set(answer), {"hookSpecificOutput"})
        self.assertEqual(set(answer["hookSpecificOutput"]), {"hookEventName", "additionalContext"})
        self.assertEqual(answer["hookSpecificOutput"]["hookEventName"], event)
        return str(answer["hookSpecificOutput"]["additionalContext"])

    def asked(self, prompt: str, **options: Any) -> str:
        """What is shown for a prompt."""
        text = self.context("UserPromptSubmit", prompt=prompt, **options)
        self.assertLessEqual(len(text.encode()), 1024)
        return text

    def ids(self, **wanted: Any) -> list[str]:
        """The ids of the chunks, in the order in which they were stored."""
        return [key for key, values in everything(self.places).items() if values[0] == "chunk"] \
            if os.path.exists(self.places.manifest()) else []

    def texts(self) -> str:
        """All chunks one after the other."""
        return "\n".join(str(values[1]) for values in everything(self.places).values() if values[0] == "chunk") \
            if os.path.exists(self.places.manifest()) else ""

    def files(self, below: str = "") -> dict[str, bytes]:
        """Every file of RLM's home, gzip files unpacked."""
        found = {}
        for folder, _, names in os.walk(below or os.path.join(self.home, ".claude", "rlm")):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    data = file.read()
                found[path] = gzip.decompress(data) if name.endswith(".gz") else data
        return found

    def spool(self) -> list[str]:
        """What lies in the spool."""
        return sorted(os.listdir(self.places.spool())) if os.path.isdir(self.places.spool()) else []

    def remember(self, text: str, project: str = PROJECT, **more: Any) -> str:
        """Stores an insight; its id."""
        with mock.patch.dict(os.environ, {"RLM_PROJECT": project}):
            return str(self.call("rlm_remember", content=text, **more).data["id"])

    def configure(self, **settings: Any) -> None:
        """Writes config.json."""
        os.makedirs(self.places.home, exist_ok=True)
        with open(self.places.config(), "w", encoding="utf-8") as file:
            json.dump(settings, file)

    def kept(self, name: str = SESSION) -> bytes:
        """The copy of a transcript, unpacked."""
        with gzip.open(self.places.transcript(name)) as file:
            return file.read()


def contents(path: str) -> bytes:
    """The bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


class FilesTest(unittest.TestCase):
    """What is in hooks/ and settings.snippet.json."""

    def test_there_is_one_short_file_for_each_event_and_it_is_the_template(self) -> None:
        names = sorted(name for name in os.listdir(HOOKS) if not name.startswith(("__", ".")))
        self.assertEqual(names, sorted(file for file, _, _, _ in rlm.HOOKS.values()))
        for event in rlm.HOOKS:
            self.assertEqual(source_of(event), rlm.hook_source(event))
            self.assertLessEqual(len(source_of(event).splitlines()), 12)
        self.assertEqual(set(rlm.HOOKS), set(PAYLOADS))
        self.assertEqual(set(rlm.HOOKS), set(rlm.HANDLERS))

    def test_the_settings_snippet_names_the_hooks_that_are_not_optional(self) -> None:
        with open(os.path.join(ROOT, "settings.snippet.json"), encoding="utf-8") as file:
            hooks = json.load(file)["hooks"]
        self.assertEqual(list(hooks), [event for event in rlm.HOOKS if event not in rlm.OPTIONAL_HOOKS])
        self.assertEqual(len(hooks), 5)
        for event, groups in hooks.items():
            (entry,) = [entry for group in groups for entry in group["hooks"]]
            self.assertIn(f"/rlm/hooks/{rlm.HOOKS[event][0]}", entry["command"])
            self.assertEqual(entry["timeout"], rlm.HOOKS[event][2])

    def test_every_language_has_every_message_with_the_same_places_to_fill(self) -> None:
        def fields(text: str) -> set[str]:
            return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}

        english = rlm.MESSAGES["en"]
        self.assertEqual(set(rlm.MESSAGES), {"en", "fr", "ja"})
        for language, messages in rlm.MESSAGES.items():
            self.assertEqual(list(messages), list(english), language)
            for key, text in messages.items():
                self.assertEqual(fields(text), fields(english[key]), (language, key))
                self.assertTrue(language == "en" or text != english[key], (language, key))


class ProcessTest(HookCase):
    """The hooks as the client starts them: `python3 -I -S hooks/x.py`."""

    def start(self, event: str, data: bytes, hooks: str = HOOKS, env: dict[str, str] | None = None) -> str:
        """Runs a hook file as the client does; its output. It must end well and leave no process behind."""
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.join(hooks, rlm.HOOKS[event][0])], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder, start_new_session=True,
            env={"HOME": self.home} if env is None else env)
        out, err = process.communicate(data, timeout=30)
        self.assertEqual((process.returncode, err), (0, b""))
        with self.assertRaises(OSError):  # nobody of its group is left
            os.killpg(process.pid, 0)
        return out.decode("utf-8")

    def test_a_session_is_saved_compacted_and_resumed_without_path_or_any_other_variable(self) -> None:
        self.talk.turn(f"Rename the basket {HARD}", "I renamed the basket é.")
        out = self.start("PreCompact", json.dumps(self.payload("PreCompact")).encode())
        (chunk_id,) = self.ids()
        self.assertIn(chunk_id, out)
        out = self.start("SessionStart", json.dumps(self.payload("SessionStart", source="compact")).encode())
        self.assertIn("Rename the basket", json.loads(out)["hookSpecificOutput"]["additionalContext"])
        self.assertEqual(self.start("PostCompact", json.dumps(self.payload("PostCompact")).encode()), "")
        self.assertEqual([values[1] for values in everything(self.places).values()][1:], ["MOCK"])
        prompt = self.payload("UserPromptSubmit", prompt="Why did we rename the basket?")
        self.assertIn(chunk_id, self.start("UserPromptSubmit", json.dumps(prompt).encode()))
        self.talk.says("And the last word.")
        self.assertEqual(self.start("SessionEnd", json.dumps(self.payload("SessionEnd")).encode()), "")
        self.assertIn("And the last word.", self.texts())
        self.assertEqual(self.log_lines(), [])

    def test_a_missing_or_broken_program_beside_the_hook_is_no_error(self) -> None:
        for name, text in (("missing", None), ("broken", "def run_hook(:\n"), ("old", "x = 1\n"),
                           ("exits", "raise SystemExit('no é')\n")):
            scratch = os.path.join(self.home, name)
            shutil.copytree(HOOKS, os.path.join(scratch, "hooks"))
            if text is not None:
                with open(os.path.join(scratch, "rlm.py"), "w", encoding="utf-8") as file:
                    file.write(text)
            out = self.start("PreCompact", json.dumps(self.payload("PreCompact")).encode(), os.path.join(scratch, "hooks"))
            self.assertEqual(out, "", name)

    def test_closed_standard_files_are_no_error(self) -> None:
        self.talk.turn("A prompt é", "An answer")
        command = [sys.executable, "-I", "-S", os.path.join(HOOKS, "pre_compact.py")]
        for closed in ((0,), (0, 1, 2)):
            process = subprocess.run(command, env={"HOME": self.home}, preexec_fn=lambda fds=closed: [  # type: ignore
                os.close(fd) for fd in fds], stdout=None if 1 in closed else subprocess.PIPE, check=False, timeout=30)
            self.assertEqual((process.returncode, process.stdout or b""), (0, b""))
        reader, writer = os.pipe()
        os.close(reader)
        data = json.dumps(self.payload("PreCompact")).encode()
        process = subprocess.run(command, env={"HOME": self.home}, input=data, stdout=writer, stderr=subprocess.PIPE,
                                 check=False, timeout=30)
        os.close(writer)
        self.assertEqual((process.returncode, process.stderr), (0, b""))
        self.assertIn("An answer", self.texts())
        self.assertIn("BrokenPipeError", self.log_lines()[-1])


class FaultTest(HookCase):
    """Whatever is wrong, the session goes on, and what was wrong is one line in hooks.log."""

    SAVING = ("PreCompact", "SessionEnd")
    STORING = ("PreCompact", "SessionStart", "UserPromptSubmit", "PostCompact", "SessionEnd")

    def setUp(self) -> None:
        super().setUp()
        self.talk.turn(f"First task {HARD}", "First answer")
        self.fire("PreCompact")
        self.remember("The staging deploy needs the cobalt token é", importance="critical")
        for n in range(4):
            self.remember(f"Nothing in particular about number {n}")
        rlm.catch_up(self.view())
        self.talk.turn("Second task", "Second answer")
        self.n_copies = 0

    def events(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Each event with a copy of the home, and a payload that makes it use everything."""
        more: dict[str, dict[str, Any]] = {"UserPromptSubmit": {"prompt": "does the staging deploy need a cobalt token?"}}
        for event in rlm.HOOKS:
            self.n_copies += 1
            home = os.path.join(self.home, f"copy{self.n_copies}")
            shutil.copytree(os.path.join(self.home, ".claude"), os.path.join(home, ".claude"))
            yield event, home, more.get(event, {})

    def store(self, home: str) -> rlm.Places:
        """The places in a copy of the home."""
        return rlm.Places(home=os.path.join(home, ".claude", "rlm"))

    def test_each_event_works_when_nothing_is_wrong(self) -> None:
        for event, home, more in self.events():
            out = self.fire(event, home=home, **more)
            self.assertEqual(bool(out), event in ("PreCompact", "SessionStart", "UserPromptSubmit"), event)

    def test_anything_but_an_event_on_standard_input_is_no_error(self) -> None:
        noted = {b"": 0, b" \n": 0, b"null": 0, b"[1]": 0, b'"x"': 0, b"3": 0, b"{}": 0, b"\xff\x00\x1b garbage": 1,
                 b'{"session_id": "x"': 1, b"[" * 100_000: 1,
                 b'{"hook_event_name": 7, "session_id": [], "transcript_path": {}, "cwd": null, "tool_input": [],'
                 b' "prompt": 5, "source": {}, "compact_summary": []}': 0,
                 b'{"hook_event_name": "Unheard\\ud800", "session_id": "\\ud800", "transcript_path": 1}': 0}
        for event in ("PreCompact", "UserPromptSubmit", "PostCompact", "SessionEnd", "PreToolUse", "PostToolUse"):
            for data, n_noted in noted.items():
                before = len(self.log_lines())
                self.assertEqual(self.raw(event, data, lambda: os.chdir(self.folder)), "", (event, data[:80]))
                self.assertEqual(len(self.log_lines()) - before, n_noted, (event, data[:80]))
        for data in noted:  # at a session's start there is something to tell all the same
            out = self.raw("SessionStart", data, lambda: os.chdir(self.folder))
            self.assertIn("additionalContext" if data.startswith(b"{") and noted[data] == 0 else "", out)

    def test_an_unknown_event_does_nothing(self) -> None:
        self.assertEqual(rlm.hook_answer("Unheard", {"hook_event_name": "Unheard", "session_id": "é"}), "")
        before = self.files()
        rlm.run_hook_now = None if hasattr(rlm, "run_hook_now") else None  # type: ignore[attr-defined]
        self.assertEqual(self.files(), before)

    def test_a_standard_input_that_stays_silent_is_given_up(self) -> None:
        reader, writer = os.pipe()

        def prepare() -> None:
            os.dup2(reader, 0)
            rlm.HOOK_DEADLINE_S["PreCompact"] = 0.1

        self.assertEqual(self.fire("PreCompact", fails=True, prepare=prepare), "")
        self.assertIn("TimedOut", self.log_lines()[-1])
        os.close(reader)
        os.close(writer)

    def test_without_a_home_nothing_happens(self) -> None:
        for event, home, more in self.events():
            before = self.files(home)
            self.assertEqual(self.raw(event, json.dumps(self.payload(event, **more)).encode(), lambda: os.environ.update(
                HOME="")), "", event)
            self.assertEqual(self.files(home), before, event)

    def test_a_home_that_cannot_be_written_is_no_error(self) -> None:
        for event, home, more in self.events():
            os.chmod(self.home, 0o755)
            for folder, _, names in os.walk(home):
                os.chmod(folder, 0o555)
                for name in names:
                    os.chmod(os.path.join(folder, name), 0o444)
            before = self.files(home)

            def prepare() -> None:
                as_nobody()
                with self.assertRaises(OSError):
                    open(os.path.join(os.environ["HOME"], ".claude", "rlm", "x"), "w")

            out = self.fire(event, home=home, prepare=prepare, **more)
            self.assertEqual(self.files(home), before, event)
            self.assertTrue(event == "SessionStart" or not out or "[redacted" not in out)
            for folder, _, _ in os.walk(home):
                os.chmod(folder, 0o755)

    def test_a_file_in_the_way_of_the_folder_is_no_error(self) -> None:
        for inner in (".claude", ".claude/rlm", ".claude/rlm/memory"):
            home = os.path.join(self.home, inner.replace("/", "-"))
            os.makedirs(os.path.dirname(os.path.join(home, inner)))
            with open(os.path.join(home, inner), "w", encoding="utf-8") as file:
                file.write("é")
            for event in rlm.HOOKS:
                self.assertEqual(self.fire(event, home=home, fails=inner.endswith("memory") and event in self.SAVING + (
                    "PostCompact",)), "", (inner, event))
            self.assertEqual(contents(os.path.join(home, inner)), "é".encode())

    def test_damaged_files_of_the_store_are_no_error(self) -> None:
        state = f"transcripts/{SESSION}.json"
        # The file, and the events that cannot do their work without it; all others do it.
        for name, failing in (("manifest.json", self.STORING), ("log-000001.jsonl", ()), ("index", ()), (state, ()),
                              (f"transcripts/{SESSION}.jsonl.gz", ()), ("../config.json", tuple(rlm.HOOKS))):
            for event, home, more in self.events():
                path = os.path.join(self.store(home).memory, name)
                names = [os.path.join(path, n) for n in os.listdir(path)] if os.path.isdir(path) else [path]
                for damaged in names:
                    with open(damaged, "wb") as file:
                        file.write(b"\x00\xff{damaged" * 40)
                with self.subTest(name=name, event=event):
                    out = self.fire(event, home=home, fails=event in failing, **more)
                    if event in failing and event != "SessionStart" and event != "PreCompact":
                        self.assertEqual(out, "")

    def test_what_could_not_be_stored_waits_in_the_spool_and_is_stored_later(self) -> None:
        manifest = self.places.manifest()
        good = contents(manifest)
        for event in self.SAVING:
            with self.subTest(event=event):
                self.talk.turn(f"Third task before {event}", f"Third answer before {event} é")
                with open(manifest, "wb") as file:
                    file.write(b"{damaged")
                self.fire(event, fails=True)
                self.assertEqual(self.spool(), [f"{SESSION}@0.jsonl"])
                os.unlink(self.path)  # the client removes its own
                with open(manifest, "wb") as file:
                    file.write(good)
                self.fire("SessionStart", session_id=OTHER, transcript_path=self.other_talk().path)
                self.assertEqual(self.spool(), [])
                self.assertEqual(self.texts().count(f"Third answer before {event} é"), 1)
                self.assertEqual(self.texts().count("First answer"), 1)
                good = contents(manifest)

    def test_held_locks_are_given_up_in_time_and_nothing_is_lost(self) -> None:
        for name in ("lock", "transcripts/lock"):
            for event, home, more in self.events():
                if event in ("PreToolUse", "PostToolUse"):
                    continue
                places = self.store(home)
                child = lock_holder(os.path.join(places.memory, name))
                began = time.monotonic()
                with self.subTest(name=name, event=event):
                    try:
                        # What it would only tell is told; it may not show the same again, which is written down.
                        out = self.fire(event, home=home, fails=None if 0 else self.needs(name, event), **more)
                        took = time.monotonic() - began
                    finally:
                        os.kill(child, signal.SIGKILL)
                        os.waitpid(child, 0)
                    self.assertLess(took, rlm.HOOK_DEADLINE_S[event] + 1)
                    if event in self.SAVING:
                        self.assertEqual(os.listdir(places.spool()), [f"{SESSION}@0.jsonl"])
                    if event == "SessionStart":
                        self.assertIn("cobalt", out)

    @staticmethod
    def needs(name: str, event: str) -> bool:
        """Whether an event cannot be done, or not wholly, while another process has that lock."""
        return event != "UserPromptSubmit" if name == "lock" else True

    def test_a_full_disk_is_no_error(self) -> None:
        for event, home, more in self.events():
            def prepare() -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
                with self.assertRaises(OSError), open(os.path.join(os.environ["HOME"], "x"), "wb", 0) as file:
                    file.write(b"x")

            data = json.dumps(self.payload(event, **more)).encode()
            with tempfile.TemporaryFile() as given:
                given.write(data)
                out = self.disk_full(event, home, data, prepare)
            self.assertEqual(self.log_lines(home), [])  # there is no room for that either
            self.assertNotIn("Second answer", out)
            before = everything(self.store(home))
            self.assertEqual(sum("First answer" in str(v[1]) for v in before.values()), 1)
            if event in self.SAVING:  # with room again all of it is saved
                self.fire(event, home=home)
                texts = [str(values[1]) for values in everything(self.store(home)).values()]
                self.assertEqual(sum(t.count("Second answer") for t in texts), 1)
                self.assertEqual(sum(t.count("First answer") for t in texts), 1)

    def disk_full(self, event: str, home: str, data: bytes, prepare: Callable[[], object]) -> str:
        """Runs a hook in a process that cannot make any file longer; its output comes through a pipe."""
        reader, writer = os.pipe()

        def job() -> None:
            os.environ["HOME"] = home
            os.chdir(self.folder)
            prepare()
            os.dup2(writer, 1)

        self.raw(event, data, job)
        os.close(writer)
        with open(reader, encoding="utf-8") as file:
            return file.read()

    def test_a_transcript_path_that_is_none_is_no_error(self) -> None:
        folder = os.path.join(self.home, "folder.jsonl")
        os.mkdir(folder)
        pipe = os.path.join(self.home, "pipe.jsonl")
        os.mkfifo(pipe)
        text = os.path.join(self.home, "notes.txt")
        with open(text, "w", encoding="utf-8") as file:
            file.write('{"type":"user","message":{"content":"not a transcript"},"uuid":"1"}\n')
        before = self.texts()
        for path in ("", "/nonexistent/é.jsonl", folder, pipe, text, "/dev/zero", "a\0b.jsonl", "a\nb.jsonl",
                     "x" * 5000 + ".jsonl", "~nobody-of-that-name/x.jsonl", "\ud800.jsonl", ".jsonl", "/.jsonl", None, 5):
            for event in self.SAVING:
                data = json.dumps(self.payload(event, transcript_path=path)).encode()
                with self.subTest(event=event, path=str(path)[:40]):
                    self.assertEqual(self.raw(event, data), "")
                    self.raw("SessionStart", json.dumps(self.payload(
                        "SessionStart", transcript_path=path, source="compact")).encode())
        self.assertEqual(self.texts(), before)
        self.assertEqual(self.spool(), [])

    def test_the_list_of_failures_stays_small_and_whole(self) -> None:
        line = "2026-11-21T07:13:50Z PreCompact: OSError: é日本 " + "x" * 50 + "\n"
        with open(self.places.hooks_log(), "w", encoding="utf-8") as file:
            file.write(line * (rlm.HOOKS_LOG_BYTES // len(line.encode()) + 10))
        self.raw("PreCompact", b"{damaged")
        lines = contents(self.places.hooks_log()).decode("utf-8").splitlines(keepends=True)
        self.assertLess(sum(len(row.encode()) for row in lines), rlm.HOOKS_LOG_BYTES)
        self.assertEqual(set(lines[:-1]), {line})
        self.assertIn("PreCompact: ", lines[-1])
        self.assertNotEqual(lines[-1], line)


if __name__ == "__main__":
    unittest.main()
