"""Transcripts become readable chunks, each line once, however they are cut, and are kept as they were but for secrets."""
from __future__ import annotations

import argparse
import errno
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import tracemalloc
import unittest
from collections.abc import Iterable, Sequence
from typing import Any
from unittest import mock

from tests.support import HARD, TempHome, ended, everything, forked, rlm, started

CWD = "/home/dev/project"
SEEDS = int(os.environ.get("SEEDS", "12"))
SESSION = "3c57c232-d4a0-4b3f-a780-c76246539c7a"


def turn_chunks(turns: Iterable[rlm.Turn]) -> list[dict[str, Any]]:
    """The chunks that these turns make, none of them waiting for company."""
    return [item for group in rlm.turn_groups(turns) for item in rlm.group_items(group)]


def fake_uuid(n: int) -> str:
    """A UUID made from a number."""
    return f"{n:08x}-0000-4000-8000-{n * 7919:012x}"


def lines_of(data: bytes) -> list[bytes]:
    """The lines with their ends, cut at newlines only."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


class Script:
    """Writes transcript lines in the shapes recorded of 2.1.329."""

    def __init__(self, session: str = SESSION, spaced: bool = False, start: int = 0) -> None:
        self.session, self.spaced, self.n = session, spaced, start
        self.lines: list[bytes] = []
        self.extra: dict[str, Any] = {}

    def raw(self, entry: dict[str, Any]) -> str:
        """Adds a line as it is; its uuid."""
        separators = (", ", ": ") if self.spaced else (",", ":")
        text = json.dumps(entry, ensure_ascii=False, separators=separators)
        self.lines.append(text.encode("utf-8", "surrogatepass") + b"\n")
        return str(entry.get("uuid", ""))

    def common(self) -> dict[str, Any]:
        """The fields that follow in most lines."""
        self.n += 1
        minute, second = divmod(self.n, 60)
        hour, minute = divmod(minute, 60)
        return {"uuid": fake_uuid(self.n), "timestamp": f"2026-11-21T{7 + hour:02}:{minute:02}:{second:02}.642Z",
                "userType": "external", "entrypoint": "cli", "cwd": CWD, "sessionId": self.session,
                "version": "2.1.329", "gitBranch": "main", **self.extra}

    def user(self, content: Any, **more: Any) -> str:
        """A user line."""
        return self.raw({"parentUuid": None, "isSidechain": False, "promptId": "p", "type": "user",
                         "message": {"role": "user", "content": content}, **self.common(), **more})

    def claude(self, *blocks: dict[str, Any], **more: Any) -> None:
        """A message of the assistant: one line per block, the type late in the line."""
        for n, block in enumerate(blocks):
            self.raw({"parentUuid": "x", "isSidechain": False,
                      "message": {"id": f"msg_{self.n - n}", "type": "message", "role": "assistant",
                                  "model": "claude-opus-5-5", "content": [block], "usage": {"input_tokens": 100}},
                      "apiBlockIndex": n, "type": "assistant", **self.common(), **more})

    def say(self, text: str, **more: Any) -> None:
        """Text of the assistant."""
        self.claude({"type": "text", "text": text}, **more)

    def call(self, name: str, call_id: str, **given: Any) -> None:
        """A tool call."""
        self.claude({"type": "tool_use", "id": call_id, "name": name, "input": given})

    def result(self, call_id: str, content: Any, error: bool = False, extra: Any = None, **more: Any) -> None:
        """What a tool returned."""
        block = {"tool_use_id": call_id, "type": "tool_result", "content": content}
        self.user([{**block, "is_error": True} if error else block], toolUseResult=extra, **more)

    def bash(self, call_id: str, command: str, output: str, error: bool = False) -> None:
        """A command and its output."""
        self.call("Bash", call_id, command=command, description="d")
        self.result(call_id, output, error, {"stdout": output, "stderr": "", "interrupted": False})

    def noise(self) -> None:
        """Lines that must leave no trace, in the recorded shapes; all hold the word NOISE."""
        self.raw({"type": "queue-operation", "operation": "enqueue", "sessionId": self.session, "content": "NOISE"})
        for kind in ("hook_success", "hook_additional_context", "environment", "prompt_snapshot", "skill_listing"):
            self.raw({"parentUuid": None, "isSidechain": False, "attachment": {
                "type": kind, "content": "NOISE", "systemPrompt": ['{"type":"user"} NOISE']}, "type": "attachment",
                **self.common(), "rendered": [{"content": "<system-reminder>NOISE</system-reminder>"}]})
        self.raw({"type": "api-request-blob", "sessionId": self.session, "hash": "d0", "message": {
            "role": "user", "content": [{"type": "text", "text": "NOISE"}]}})
        for kind in ("api-request", "api-request-shape", "tools-used", "last-prompt", "cost-state", "mode",
                     "atis-latch", "file-history-snapshot", "unheard-of"):
            self.raw({"type": kind, "sessionId": self.session, "lastPrompt": "NOISE", "tools": ["NOISE"]})
        self.raw({"parentUuid": None, "type": "system", "subtype": "stop_hook_summary", "hookInfos": [
            {"command": "NOISE"}], **self.common()})
        self.user("<local-command-caveat>NOISE</local-command-caveat>", isMeta=True)
        self.user("<local-command-stdout>NOISE</local-command-stdout>")
        self.user("Caveat: The messages below were generated by the user while running local commands. NOISE")
        self.claude({"type": "thinking", "thinking": "NOISE", "signature": "NOISE" * 50})

    def compaction(self, summary: str = "This session is being continued from a previous conversation.") -> None:
        """What an automatic compaction writes."""
        self.raw({"parentUuid": None, "logicalParentUuid": fake_uuid(self.n), "type": "system",
                  "subtype": "compact_boundary", "content": "Conversation compacted", "isMeta": False, **self.common()})
        self.user(summary, isVisibleInTranscriptOnly=True, isCompactSummary=True)

    def data(self) -> bytes:
        """The file."""
        return b"".join(self.lines)

    def turns(self) -> list[rlm.Turn]:
        """Its turns."""
        return list(rlm.transcript_turns(self.lines))

    def text(self) -> str:
        """The text of all its turns."""
        return "\n\n".join(rlm.turn_text(turn) for turn in self.turns())


def in_steps(data: bytes, cuts: list[int], **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The items and last state of a file that grew to these sizes, each time read from the remembered byte."""
    items: list[dict[str, Any]] = []
    state: dict[str, Any] = {}
    for size in [*cuts, len(data)]:
        new = data[state.get("offset", 0) : size]
        found, state = rlm.transcript_items(new.splitlines(keepends=True), state, final=size == len(data), **options)
        state = json.loads(json.dumps(state))
        items += found
    return items, state


class ReadingTest(unittest.TestCase):
    def test_a_turn_reads_well(self) -> None:
        for spaced in (False, True):
            script = Script(spaced=spaced)
            script.noise()
            script.user(f"Fix {HARD}")
            script.noise()
            script.claude({"type": "thinking", "thinking": "hm", "signature": "Er" * 90},
                          {"type": "text", "text": "I look."},
                          {"type": "tool_use", "id": "a", "name": "Read", "input": {"file_path": CWD + "/src/a.py"}})
            script.result("a", "x = 1\n" * 412, extra={"type": "text", "file": {"content": "x = 1\n" * 412}})
            script.call("Edit", "b", file_path=CWD + "/src/a.py", old_string="x = 1", new_string="x = 2\ny = 3")
            script.result("b", "The file has been updated.", extra={"originalFile": "x" * 5000})
            script.bash("c", "pytest -q", "Exit code 1\nF\nE assert 1 == 2\n1 failed", error=True)
            script.bash("d", "true", "")
            script.noise()
            script.say("Done. é\r\n")
            with self.subTest(spaced=spaced):
                self.assertEqual(script.text(), f"""## User · 2026-11-21 07:00 UTC
Fix {HARD}

## Claude
I look.

- Read `src/a.py` → ok [412 lines, 2.5 KB]
- Edit `src/a.py` (+2 −1) → ok
- Bash `pytest -q` → exit 1: F … 1 failed [3 lines, 26 B]
- Bash `true` → ok

Done. é""")
                turn, = script.turns()
                self.assertEqual((turn.session, turn.branch, turn.cwd, turn.agent), (SESSION, "main", CWD, ""))
                self.assertEqual(turn.prompt, f"Fix {HARD}")
                self.assertLess(turn.since, turn.until)
                self.assertEqual(rlm.files_of(turn.calls()), {CWD + "/src/a.py": True})
                self.assertEqual(rlm.commands_of(turn.calls()), [
                    "pytest -q → exit 1: F … 1 failed [3 lines, 26 B]", "true → ok"])
                self.assertEqual(len(rlm.errors_of(turn.calls())), 1)

    def test_noise_alone_is_nothing(self) -> None:
        script = Script()
        script.noise()
        self.assertEqual(script.turns(), [])
        items, state = rlm.transcript_items(script.lines, final=True)
        self.assertEqual((items, state["offset"]), ([], len(script.data())))

    def test_large_snapshots_are_not_parsed(self) -> None:
        script = Script()
        script.noise()
        attachments = [line for line in script.lines if b'"prompt_snapshot"' in line or b'"api-request' in line]
        self.assertGreater(len(attachments), 2)
        self.assertFalse(any(map(rlm.may_matter, attachments)))

    def test_the_users_text_comes_without_what_the_client_adds(self) -> None:
        script = Script()
        script.user([{"type": "text", "text": "<system-reminder>\nNOISE\n</system-reminder>"},
                     {"type": "text", "text": "look <system-reminder>NOISE</system-reminder>here <system-reminder> é"},
                     {"type": "image", "source": {"type": "base64", "data": "iVBOR" * 999}}])
        text = script.text()
        self.assertIn("look here <system-reminder> é\n\n[image]", text)
        self.assertNotIn("NOISE", text)
        self.assertNotIn("iVBOR", text)

    def test_a_slash_command_is_one_line(self) -> None:
        script = Script()
        script.user("<command-name>/compact</command-name>\n   <command-message>compact</command-message>\n"
                    "   <command-args>keep é</command-args>")
        script.user("<command-message>demo</command-message> <command-name>/demo</command-name> "
                    "<command-args>a b</command-args>")
        script.user("Base directory for this skill: NOISE", isMeta=True)
        script.say("demo done")
        self.assertEqual([turn.prompt for turn in script.turns()], ["/compact keep é", "/demo a b"])
        item, = turn_chunks(script.turns())
        self.assertEqual(item["summary"], "/compact keep é | /demo a b")
        self.assertNotIn("NOISE", item["text"])

    def test_only_slash_commands_make_no_chunk(self) -> None:
        script = Script()
        script.user("<command-name>/exit</command-name><command-message>exit</command-message>")
        self.assertEqual(list(turn_chunks(script.turns())), [])

    def test_what_the_user_writes_meanwhile_and_interruptions_stay_in_the_turn(self) -> None:
        script = Script()
        script.user("build it")
        script.call("Bash", "a", command="make")
        script.raw({"type": "attachment", "attachment": {
            "type": "queued_command", "prompt": "and the docs é", "commandMode": "prompt"}, **script.common()})
        script.result("a", "The user doesn't want to proceed with this tool use. The tool use was rejected. To tell "
                      "you how to proceed, the user said:\nuse ninja é", error=True)
        script.user([{"type": "text", "text": "[Request interrupted by user for tool use]"}])
        script.user("<task-notification><task-id>b1</task-id><summary>tests ended</summary></task-notification>")
        turn, = script.turns()
        text = rlm.turn_text(turn)
        self.assertIn("## User, meanwhile\nand the docs é", text)
        self.assertIn("- Bash `make` → refused by the user: use ninja é", text)
        self.assertIn("- interrupted by the user\n- background task: tests ended", text)

    def test_an_interrupted_call_has_no_result(self) -> None:
        script = Script()
        script.user("go")
        script.call("Bash", "a", command="sleep 99")
        self.assertIn("- Bash `sleep 99` → no result yet", script.text())
        script.result("a", "", extra={"stdout": "", "interrupted": True})
        self.assertIn("- Bash `sleep 99` → interrupted", script.text())

    def test_commands_of_the_user(self) -> None:
        script = Script()
        script.user("go")
        script.say("ok")
        script.user("<bash-input>git status</bash-input>")
        script.user("<bash-stdout>clean é</bash-stdout><bash-stderr></bash-stderr>")
        self.assertTrue(script.text().endswith("- User ran `git status` → said: clean é"))

    def test_tools_show_the_argument_that_matters(self) -> None:
        cases: list[tuple[str, dict[str, Any], str]] = [
            ("Grep", {"pattern": "def é", "glob": "*.py"}, "- Grep `def é *.py` → ok: found"),
            ("WebFetch", {"prompt": "what", "url": "http://é.fr"}, "- WebFetch `http://é.fr` → ok: found"),
            ("Agent", {"prompt": "long", "description": "find it", "subagent_type": "Explore"},
             "- Agent `Explore find it` → ok: found"),
            ("mcp__probe__echo", {"text": "hi"}, "- mcp__probe__echo `hi` → ok: found"),
            ("mcp__rlm__rlm_search", {"query": "keys"}, "- mcp__rlm__rlm_search `keys` → ok"),  # no echo of the memory
            ("mcp__x__y", {"level": 3, "deep": {"a": [1]}}, '- mcp__x__y `{"level": 3}` → ok: found'),
            ("AskUserQuestion", {"questions": [{"question": "which?"}]},
             "- AskUserQuestion `which?` → answered: found"),
            ("TodoWrite", {"todos": [{"content": "a", "status": "completed"},
                                     {"content": "b", "status": "in_progress"}]},
             "- TodoWrite `2 tasks, 1 completed, in progress: b` → ok"),
            ("Bash", {"command": "cat <<'X'\né\nX"}, "- Bash `cat <<'X' é X` → ok: found")]
        for name, given, expected in cases:
            script = Script()
            script.user("go")
            script.call(name, "a", **given)
            script.result("a", [{"type": "text", "text": "\x1b[32mfound\x1b[0m"}])
            with self.subTest(name):
                wanted = expected.replace(" → ok: found", " → ok") if name in rlm.Client.quiet_tools else expected
                self.assertIn(wanted + "\n", script.text() + "\n")

    def test_a_search_at_the_api_is_a_line_with_what_it_found(self) -> None:
        script = Script()
        script.user("go")
        script.claude({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "fruit é"}},
                      {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [
                          {"type": "web_search_result", "title": "Kiwis é", "url": "http://k.nz", "encrypted_content": "E"},
                          {"type": "web_search_result", "title": "Plums", "url": "http://p.fr"}]})
        self.assertIn("- web_search `fruit é` → ok: Kiwis é http://k.nz … Plums http://p.fr [2 lines, ", script.text())
        script.claude({"type": "server_tool_use", "id": "s2", "name": "web_search", "input": {"query": "more"}},
                      {"type": "web_search_tool_result", "tool_use_id": "s2", "content": {
                          "type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}})
        self.assertIn("- web_search `more` → error: max_uses_exceeded", script.text())
        self.assertEqual(script.text().count("## Claude"), 1)

    def test_what_the_client_says_in_the_assistants_place_is_noise(self) -> None:
        script = Script()
        script.user("go é")
        script.say('API Error: 529 {"type":"error","error":{"type":"overloaded_error"}}')
        script.say("No response requested.")
        script.say("Credit balance is too low", isApiErrorMessage=True)
        script.say("API Error: what it means\n\nAPI Error: 529 says that the API is busy. No response requested. é")
        text = script.text()
        self.assertEqual(text.count("API Error: 529"), 1)
        self.assertTrue(text.endswith("## Claude\nAPI Error: what it means\n\nAPI Error: 529 says that the API is busy. "
                                      "No response requested. é"), text)
        self.assertNotIn("Credit", text)

    def test_a_plan_is_kept_whole(self) -> None:
        script = Script()
        script.user("plan it")
        script.call("ExitPlanMode", "a", plan="# Plan\n1. é\n2. b")
        self.assertIn("# Plan\n1. é\n2. b\n\n- ExitPlanMode → no result yet", script.text())

    def test_texts_are_cleaned_before_they_are_cut(self) -> None:
        script = Script()
        secret = "sk" + "-" + 60 * "aB3xZ"
        script.user(f"my {secret}")
        script.bash("a", f"curl -H {secret}", f"{secret}\nmore\n{secret}")
        script.say(secret)
        items, state = rlm.transcript_items(script.lines, final=True,
                                          entry_of=lambda line: rlm.redacted_line(line)[1])
        self.assertNotIn("sk-", json.dumps(items) + json.dumps(state))
        self.assertEqual(items[0]["text"].count("[redacted:openai-key]"), 5)

    def test_a_large_image_is_not_looked_through_and_stays_in_the_copy_byte_for_byte(self) -> None:
        script, data = Script(), "iVBORw0KGgo" + "aB3x/+" * 500_000
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
        script.user([{"type": "text", "text": "look é"}, image])
        script.user([{"type": "text", "text": "my sk" + "-" + 60 * "aB3xZ"}, image, image])
        plain, secret = script.lines
        self.assertEqual(rlm.redacted_line(plain)[0], plain)
        tracemalloc.start()
        clean, entry = rlm.redacted_line(secret)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.assertLess(peak_bytes, 4 * len(secret))
        self.assertEqual(clean, re.sub(rb"sk-\w+", b"[redacted:openai-key]", secret))
        self.assertLess(len(json.dumps(entry)), 5000)

    def test_a_summary_is_kept_apart_and_the_turn_goes_on(self) -> None:
        script = Script()
        script.user("first é")
        script.call("Bash", "a", command="make")
        script.compaction("This session is being continued.\nSummary: é all of it")
        script.result("a", "made")
        script.say("going on")
        script.user("second")
        script.say("ok")
        first, summary, rest, second = script.turns()
        self.assertEqual([turn.kind for turn in (first, summary, rest, second)], ["turn", "summary", "turn", "turn"])
        self.assertTrue(rlm.turn_text(rest).endswith("continued · 2026-11-21 07:00 UTC\n> first é\n\n## Claude\n"
                                                   "- Bash `make` → ok: made\n\ngoing on"))
        items = list(turn_chunks([first, summary, rest, second]))
        self.assertEqual([item["type"] for item in items], ["session", "snapshot", "session"])
        self.assertEqual(items[1]["summary"], "Summary at a compaction: é all of it")
        self.assertEqual(items[2]["summary"], "(continued) first é | second")

    def test_subagents_are_turns_of_their_own(self) -> None:
        for named in (True, False):
            script = Script()
            script.user("research")
            script.call("Agent", "a", description="look", prompt="find é", subagent_type="Explore")
            more = {"isSidechain": True, **({"agentId": "a4bc9ce5"} if named else {})}
            parent = script.user("find é", **more)
            for text in ("inside one", "inside two"):
                script.say(text, **more, parentUuid=parent)
                parent = fake_uuid(script.n)
            script.result("a", [{"type": "text", "text": "found"}])
            script.say("thanks")
            script.user("next")
            main, side, after = script.turns()
            with self.subTest(named=named):
                self.assertNotIn("inside", rlm.turn_text(main))
                self.assertTrue(rlm.turn_text(side).startswith("## Subagent's task"))
                self.assertIn("## Subagent\ninside one\n\ninside two", rlm.turn_text(side))
                items = list(turn_chunks([main, side, after]))
                self.assertEqual([item["sidechain"] for item in items], [False, True, False])

    def test_a_subagents_own_file(self) -> None:
        script = Script()
        script.extra = {"isSidechain": True, "agentId": "a4bc"}
        for n in range(2):
            script.user(f"task {n}")
            script.say(f"answer {n}")
        turns = script.turns()
        self.assertEqual([(turn.agent, turn.prompt) for turn in turns], [("a4bc", "task 0"), ("a4bc", "task 1")])
        self.assertTrue(all(turn.after for turn in turns))

    def test_a_half_written_line_waits(self) -> None:
        script = Script()
        script.user("whole")
        cut = len(script.data())
        script.say("é half")
        for size in (cut + 1, cut + 40, len(script.data()) - 2):
            items, state = rlm.transcript_items(script.data()[:size].splitlines(keepends=True), final=True)
            self.assertNotIn("half", items[0]["text"])
            self.assertEqual(state["offset"], cut)

    def test_garbage_is_passed_over(self) -> None:
        values: list[Any] = [None, True, 5, -1.5, "x", [], {}, [None, 5, {}], {"type": 5}, [[]], {"a": {"b": []}},
                             "\ud83d"]
        rng = random.Random(5)
        for seed in range(60):
            script = Script()
            script.user("before")
            script.call("TaskCreate", "a", subject="s")
            for base in ("user", "assistant", "attachment", "system"):
                entry = {"type": base, "subtype": "local_command", **script.common()}
                for key in ("message", "uuid", "timestamp", "sessionId", "cwd", "isSidechain", "attachment", "content",
                            "toolUseResult", "gitBranch", "agentId", "forkedFrom", "isCompactSummary", "parentUuid"):
                    if rng.random() < 0.5:
                        entry[key] = rng.choice(values)
                if rng.random() < 0.7:
                    keys = ("text", "input", "name", "id", "tool_use_id", "content")
                    block = {key: rng.choice(values) for key in keys}
                    block["type"] = rng.choice(["text", "tool_use", "tool_result", "image", None])
                    entry["message"] = {"content": [block, rng.choice(values)]}
                script.lines.append(json.dumps({**entry, "also": "queued_command"}).encode() + b"\n")
                self.assertTrue(rlm.may_matter(script.lines[-1]))
            script.lines += [b"\n", b"{\n", b'{"type":"user"\n', b'"type":"user"\n', b"\xff\xfe" + b'"type":"user"\n',
                             b'[{"type":"user"}]\n', b'{"a":' + b"[" * 200_000 + b'"type":"user"\n',
                             b'{"type":"user","message":{"content":"\xff bytes"}}\n', b'{"type":"user","uuid":7}\n']
            script.say("after")
            with self.subTest(seed=seed):
                items, state = rlm.transcript_items(script.lines, final=True)
                texts = "".join(item["text"] for item in items)
                self.assertIn("before", texts)
                self.assertIn("after", texts)
                json.dumps([items, state], ensure_ascii=False).encode("utf-8")
                self.assertTrue(rlm.handoff_text(rlm.open_task(script.turns()), ["x"]))

    def test_only_the_damaged_part_of_a_line_is_lost_and_it_is_counted(self) -> None:
        script = Script()
        for n in range(4):
            script.user(f"<asked {n}> é")
        first, second, third, last = script.lines
        half = second[: len(second) // 2]
        raw = third.replace(b"<asked 2>", b"<asked 2>\x1b[31m\x00\t")
        cases: list[tuple[str, list[bytes], str, int]] = [
            ("torn at every kind of place", [first, *(second[:n] + third for n in (1, 9, 40, 150, 220)), last], "023", 5),
            ("torn twice", [first, half + half + third, last], "023", 1),
            ("torn and nothing behind it", [first, half + b"\n", third, last], "023", 1),
            ("torn within a value that could hold a record", [first, b'{"message":' + third, last], "023", 1),
            ("two on a line", [first, second[:-1] + third, last], "0123", 0),
            ("three on a line, one of them torn", [first + b"", second[:-1] + half + third, last], "0123", 1),
            ("something behind a whole one", [first, second[:-1] + b'{"type":"us\n', third, last], "0123", 1),
            ("zeros before it", [first, second, b"\0" * 400 + third, last], "0123", 1),
            ("zeros behind it", [first, second[:-1] + b"\0" * 400 + b"\n", third, last], "0123", 1),
            ("raw control characters", [first, second, raw, last], "0123", 0),
            ("a number that Python refuses", [first, second, b'{"n":' + b"9" * 5000 + b"," + third[1:], last], "0123", 0),
            ("a byte order mark", [b"\xef\xbb\xbf" + first, second, third, last], "0123", 0),
            ("no end", [first, second, third, last[:-1]], "0123", 0),
            ("blank lines", [first, b"\n", b" \r\n", second, third, last], "0123", 0)]
        for what, lines, found, n_damaged in cases:
            with self.subTest(what):
                items, state = rlm.transcript_items(lines, final=True)
                texts = "".join(item["text"] for item in items)
                self.assertEqual("".join(n for n in "0123" if texts.count(f"<asked {n}>") == 1), found)
                self.assertEqual((state["damaged"], state["offset"]), (n_damaged, sum(map(len, lines))))
                # Read again from before, the same is lost only once.
                self.assertEqual(in_steps(b"".join(lines), [len(first) + 30])[1]["damaged"], n_damaged)

    def test_no_shape_of_a_value_stops_the_reader(self) -> None:
        script = Script()
        script.user("before é")
        script.bash("a", "make", "made")
        script.call("TodoWrite", "b", todos=[{"content": "x", "status": "pending"}])
        script.call("AskUserQuestion", "c", questions=[{"question": "which?"}])
        script.result("c", "this")
        script.compaction()
        script.raw({"type": "queue-operation", "operation": "enqueue", "content": "q", **script.common()})
        script.raw({"type": "attachment", "attachment": {"type": "queued_command", "prompt": "q"}, **script.common()})
        values = [None, True, -1.5, "", "x\ud83d", [], {}, [[]], [None, {"type": "text", "text": 5}], {"a": {}}, HARD]
        deep: Any = "x"
        for _ in range(400):
            deep = [deep]
        rng = random.Random(7)

        def bent(value: Any, chance: float) -> Any:
            """The value with other things in some of its places."""
            if rng.random() < chance:
                return rng.choice([*values, deep])
            if isinstance(value, dict):
                return {key: bent(item, chance) for key, item in value.items()}
            return [bent(item, chance) for item in value] if isinstance(value, list) else value

        for seed in range(20 * SEEDS):
            lines = []
            for line in script.lines:
                entry = {key: bent(item, 0.08) for key, item in json.loads(line).items()}
                whole = json.dumps(entry).encode() + b"\n"
                lines.append(whole if rng.random() < 0.9 else whole[: rng.randrange(len(whole))] + whole)
            with self.subTest(seed=seed):
                items, state = rlm.transcript_items(lines, final=True)
                json.dumps([items, state], ensure_ascii=False).encode("utf-8")
                for line in lines:
                    rlm.redacted_line(line)[0].decode("utf-8")
                rlm.open_task(rlm.transcript_turns(lines))
        for raw in (b"[" * 100_000, b'{"type":"user","message":' + b"[" * 5000, b'"type":"user"', b'{"type":"user"}'):
            self.assertEqual(len(list(rlm.transcript_turns([*script.lines[:1], raw + b"\n"]))), 1)

    def queued(self, script: Script, operation: str, **more: Any) -> None:
        """A line about words that wait to be sent."""
        script.raw({"type": "queue-operation", "operation": operation, "sessionId": SESSION,
                    "timestamp": f"2026-11-21T09:00:{len(script.lines):02}.000Z", **more})

    def test_words_that_only_the_queue_holds_are_kept_once(self) -> None:
        for ends in (["remove"], ["dequeue"], ["popAll"], []):
            script = Script()
            script.user("go é")
            self.queued(script, "enqueue", content="only queued é")
            self.queued(script, "enqueue", content="<task-notification><summary>tests ended</summary></task-notification>")
            for operation in ends * (1 if ends == ["popAll"] else 2):
                self.queued(script, operation)
            script.say("done")
            with self.subTest(ends=ends):
                text = script.text()
                self.assertEqual(text.count("## User, meanwhile\nonly queued é"), 1)
                self.assertEqual(text.count("- background task: tests ended"), 1)
                # A reading that stopped here, and one more of the whole file, find nothing new.
                items, state = rlm.transcript_items(script.lines, final=True)
                script.user("thanks")
                items += rlm.transcript_items(script.lines[-1:], json.loads(json.dumps(state)), final=True)[0]
                self.assertEqual("".join(item["text"] for item in items).count("only queued é"), 1)

    def test_queued_words_that_come_as_a_message_are_there_once(self) -> None:
        script = Script()
        script.user("go é")
        self.queued(script, "enqueue", content="as message é")
        self.queued(script, "enqueue", content="as message too é")
        self.queued(script, "enqueue", content="as attachment é")
        script.say("working")
        cut = len(script.data())
        script.raw({"type": "attachment", "attachment": {"type": "queued_command", "prompt": "as attachment é"},
                    **script.common()})
        self.queued(script, "remove")
        script.say("done")
        for text in ("as message é", "as message too é"):
            self.queued(script, "dequeue")
            script.user(text)
            script.say("yes")
        self.assertEqual([turn.prompt for turn in script.turns()], ["go é", "as message é", "as message too é"])
        for text in ("as message é", "as message too é", "as attachment é"):
            self.assertEqual(script.text().count(text), 1)
        # What a reading in between had to store as words of that turn is not stored a second time as such.
        items, state = rlm.transcript_items(lines_of(script.data()[:cut]), final=True)
        items += rlm.transcript_items(lines_of(script.data()[cut:]), json.loads(json.dumps(state)), final=True)[0]
        self.assertEqual("".join(item["text"] for item in items).count("as attachment é"), 1)

    def test_no_escape_sequence_of_a_terminal_is_left_of_what_a_tool_printed(self) -> None:
        for n, code in enumerate(("\x1b[1;31m", "\x1b[38:2:1:2:3m", "\x1b[?25l", "\x1b[0 q", "\x1b(B", "\x1b#8", "\x1b7",
                                  "\x1b=", "\x9b31m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x9d0;title\x9c",
                                  "\x1bP1$r0m\x1b\\", "\x1b_apc\x1b\\", "\x90dcs\x9c", "\x85\x8d")):
            script = Script()
            script.user("go")
            script.bash("a", "make", f"{code}one{code} é two{code}")
            with self.subTest(n=n):
                self.assertTrue(script.text().endswith("→ ok: one é two"), repr(script.text()))

    def test_a_damaged_state_is_no_obstacle(self) -> None:
        script = Script()
        script.user("x")
        for state in ({"offset": -5}, {"offset": "9", "seen": 5, "pending": []}, {"seen": "é!", "pending": {"a": 1}}):
            items, _ = rlm.transcript_items(script.lines, state, final=True)
            self.assertEqual(len(items), 1)


class IncrementTest(unittest.TestCase):
    def long_session(self, seed: int) -> Script:
        """A session with everything in it, in random order."""
        rng, script = random.Random(seed), Script(spaced=seed % 2 == 1)
        for turn in range(rng.randint(2, 14)):
            script.user(f"prompt {turn} {HARD} " + "p" * rng.choice([0, 10, 3000]))
            for step in range(rng.choice([0, 1, 3, 40])):
                kind, call_id = rng.randrange(9), f"t{turn}-{step}"
                if kind == 0:
                    script.noise()
                elif kind == 1:
                    script.compaction()
                elif kind == 2:
                    script.bash(call_id, f"make {step}", "line é\n" * rng.choice([0, 1, 400]), error=rng.random() < 0.3)
                elif kind == 3:
                    script.call("Read", call_id, file_path=f"{CWD}/f{step}.py")  # its result may never come
                elif kind == 4:
                    script.result(f"t{turn - 1}-{step}", "late é")
                elif kind == 5 and len(script.lines) > 9:
                    script.lines += rng.sample(script.lines, 3)  # repeated lines
                elif kind == 6:
                    agent = {"isSidechain": True, "agentId": f"agent{rng.randrange(2)}"}
                    script.user(f"task {step}", **agent)
                    script.say(f"found {step}", **agent)
                else:
                    script.say(f"text {turn}.{step} " + "w\n" * rng.choice([1, 100, 3000]))
        return script

    def test_any_cuts_give_the_same_bytes(self) -> None:
        for seed in range(SEEDS):
            data, rng = self.long_session(seed).data(), random.Random(-seed)
            whole, last = in_steps(data, [])
            for n_cuts in (1, 3, 30):
                cuts = sorted(rng.randrange(len(data)) for _ in range(n_cuts))  # also within lines
                with self.subTest(seed=seed, cuts=n_cuts):
                    items, state = in_steps(data, cuts)
                    self.assertEqual(json.dumps(items), json.dumps(whole))
                    self.assertEqual(state, last)
                    self.assertEqual(state["offset"], len(data))

    def test_every_single_line_cut(self) -> None:
        data = self.long_session(3).data()
        ends = [n + 1 for n, byte in enumerate(data) if byte == 10]
        self.assertGreater(len(ends), 50)
        self.assertEqual(json.dumps(in_steps(data, ends)[0]), json.dumps(in_steps(data, [])[0]))

    def test_reading_again_without_news_gives_nothing(self) -> None:
        data = self.long_session(8).data()
        _, state = in_steps(data, [])
        self.assertEqual(rlm.transcript_items([], state, final=True), ([], state))
        # From the start, as after a file that shrank: every line is known.
        items, _ = rlm.transcript_items(data.splitlines(keepends=True), {**state, "offset": 0}, final=True)
        self.assertEqual(items, [])

    def test_final_in_the_middle_of_a_turn_loses_nothing_and_repeats_nothing(self) -> None:
        script = Script()
        script.user("the task é")
        for n in range(30):
            script.say(f"<said {n}>")
            script.bash(f"c{n}", f"run{n}!", f"out {n}")
        lines = script.lines
        for cut in range(1, len(lines)):
            first, state = rlm.transcript_items(lines[:cut], final=True)
            second, _ = rlm.transcript_items(lines[cut:], json.loads(json.dumps(state)), final=True)
            text = "".join(item["text"] for item in first + second)
            for n in range(30):
                self.assertEqual(text.count(f"<said {n}>"), 1)
                # A call that was saved without its result is shown again with it.
                self.assertEqual(text.count(f"`run{n}!` → ok: out {n}"), 1, (cut, n))
            if second:
                self.assertTrue(second[0]["summary"].startswith("(continued) the task é"))

    def test_a_resumed_session_is_stored_from_where_it_differs(self) -> None:
        parent = Script()
        for n in range(5):
            parent.user(f"prompt {n} é")
            parent.say(f"answer {n}")
        items, state = rlm.transcript_items(parent.lines, final=True)
        copied = [json.loads(line) for line in parent.lines[:7]]
        for how in ("same uuids", "branched", "own file"):
            child = Script(session="other", start=1000)
            child.noise()
            for entry in copied:
                origin = {"sessionId": SESSION, "messageUuid": entry["uuid"]}
                more = {"uuid": "new" + entry["uuid"], "forkedFrom": origin} if how == "branched" else {}
                child.raw({**entry, "sessionId": "other", **more})
            child.say("the rest of answer 3")
            child.user("a new way")
            child.say("indeed")
            with self.subTest(how):
                self.assertEqual(rlm.line_key(rlm.first_entry(child.lines)).hex(), state["first"])
                found, after = rlm.transcript_items(child.lines, known=rlm.unpacked_keys(state["seen"]), final=True)
                text = "".join(item["text"] for item in found)
                self.assertNotIn("prompt 2", text)
                self.assertNotIn("answer", text.replace("the rest of answer 3", ""))
                self.assertIn("> prompt 3 é\n\n## Claude\nthe rest of answer 3", text)
                self.assertIn("a new way", text)
                self.assertEqual(len(rlm.unpacked_keys(after["seen"])), 3)

    def test_calls_that_never_end_do_not_fill_the_state(self) -> None:
        script = Script()
        for n in range(200):
            script.user(f"p{n}")
            script.call("Bash", f"c{n}", command=f"run {n}")
        _, state = rlm.transcript_items(script.lines, final=True)
        self.assertEqual(list(state["pending"]), [f"c{n}" for n in range(200 - rlm.MAX_PENDING, 200)])

    def test_state_is_small(self) -> None:
        script = Script()
        for n in range(2000):
            script.user(f"p{n}")
        _, state = rlm.transcript_items(script.lines, final=True)
        self.assertLess(len(json.dumps(state)), 2000 * 8 + 600)


class ChunkTest(unittest.TestCase):
    def test_small_turns_share_a_chunk_and_large_ones_are_split_at_line_ends(self) -> None:
        script = Script()
        for n in range(40):
            script.user(f"small {n} é")
            script.say("word " * 60)
        script.user("the large one " + "P" * 3000)
        for n in range(300):
            script.say(f"paragraph {n} " + "日本 " * 40)
            script.bash(f"b{n}", f"make {n}", "ok")
        items = list(turn_chunks(script.turns()))
        sizes = [len(item["text"].encode()) for item in items]
        small = [size for item, size in zip(items, sizes) if "small" in item["summary"]]
        self.assertTrue(all(2000 <= size <= 8000 for size in small[:-1]), small)
        parts = [item for item in items if "(part" in item["summary"]]
        self.assertGreater(len(parts), 5)
        self.assertLessEqual(max(sizes), rlm.CHUNK_MAX_BYTES)
        self.assertIn("P" * 3000, parts[0]["text"])
        for n, part in enumerate(parts, 1):
            which = f"(part {n} of {len(parts)})"
            self.assertTrue(part["summary"].startswith(which))
            self.assertEqual(n > 1, part["text"].startswith(which))
            self.assertTrue(part["commands"])
        self.assertEqual(sum(part["text"].count("paragraph ") for part in parts), 300)
        self.assertEqual({item["project"] for item in items}, {"/home/dev/project"})
        self.assertEqual(parts[0]["branch"], "main")

    def test_a_long_prompt_and_a_long_line_stay_whole_as_far_as_possible(self) -> None:
        script = Script()
        prompt = "é" * 30_000
        script.user(prompt)
        script.say("日" * 20_000)
        items = list(turn_chunks(script.turns()))
        self.assertIn(prompt, items[0]["text"])
        self.assertEqual(sum(item["text"].count("日") for item in items), 20_000)
        self.assertTrue(all(len(item["text"].encode()) <= rlm.CHUNK_MAX_BYTES for item in items[1:]))

    def test_cut_text_is_the_text(self) -> None:
        rng = random.Random(2)
        for _ in range(200):
            text = "".join(rng.choice("aé日\U0001f600\n") for _ in range(rng.randrange(200)))
            parts = rlm.cut_text(text, rng.randint(4, 50))
            self.assertEqual("".join(parts), text)

    def test_a_wrong_time_makes_no_wrong_date(self) -> None:
        for at, good in (("2026-11-21T07:13:49.642Z", True), ("2026-99-21T07:13:49.642Z", False), ("yesterday", False),
                         ("2026-11-21T07:13:49+01:00", True), ("2026-11-21T07:13:49 nonsense", False), ("0001-01-01T00:00:00", False)):
            script = Script()
            script.user("x", timestamp=at)
            item, = turn_chunks(script.turns())
            self.assertEqual(item["created_at"], at if good else "")


class HandoffTest(unittest.TestCase):
    def session(self) -> Script:
        """A session in the middle of its work."""
        script = Script()
        script.user("an earlier question")
        script.say("answered")
        script.user(f"Make the tests pass {HARD}")
        script.call("TaskCreate", "t1", subject="write é", description="d")
        script.result("t1", "Task #1 created successfully: write é")
        script.call("TaskCreate", "t2", subject="test it")
        script.result("t2", "Task #2 created successfully: test it")
        script.call("TaskUpdate", "t3", taskId="1", status="completed")
        script.result("t3", "Updated task #1 status")
        script.call("Read", "a", file_path=CWD + "/a.py")
        script.result("a", "x")
        script.call("Write", "b", file_path=CWD + "/b.py", content="1\n2\n")
        script.result("b", "File created")
        for n in range(10):
            script.bash(f"c{n}", f"make step{n}", "fine")
        script.bash("d", "pytest", "Exit code 1\nboom", error=True)
        script.bash("e", "mypy", "Exit code 2\nbad", error=True)
        script.bash("f", "mypy", "Success")
        script.say("I will look into boom.")
        script.compaction()
        script.user("<command-name>/model</command-name><command-message>model</command-message>")
        return script

    def test_the_open_task(self) -> None:
        task = rlm.open_task(self.session().turns())
        self.assertEqual(task["prompt"], f"Make the tests pass {HARD}")
        self.assertEqual(task["files"], [{"path": CWD + "/b.py", "changed": True},
                                         {"path": CWD + "/a.py", "changed": False}])
        self.assertEqual(len(task["commands"]), 8)
        self.assertEqual(task["commands"][-1], "mypy → ok: Success")
        self.assertEqual(task["errors"], ["Bash pytest: exit 1: boom"])
        self.assertEqual(task["tasks"], [{"subject": "write é", "status": "completed"},
                                         {"subject": "test it", "status": "pending"}])
        self.assertEqual(task["last_words"], "I will look into boom.")
        self.assertEqual(task["earlier"], ["an earlier question"])

    def test_todowrite_sets_the_whole_list(self) -> None:
        script = Script()
        script.user("go")
        for todos in ([{"content": "old", "status": "pending"}], [{"content": "new é", "status": "in_progress"}]):
            script.call("TodoWrite", "a", todos=todos)
            script.result("a", "ok")
        self.assertEqual(rlm.open_task(script.turns())["tasks"], [{"subject": "new é", "status": "in_progress"}])

    def test_the_text_fits_at_any_limit_and_names_the_chunks(self) -> None:
        script = self.session()
        ids = [f"2026-11-21_project_{n:03}" for n in range(80)]
        text = rlm.handoff_text(rlm.open_task(script.turns()), ids)
        for part in ("in the user's words", "\n> ".join(HARD.splitlines()), "b.py (changed)", "[pending] test it",
                     "mypy → ok: Success", "boom", ids[0], ids[-1]):
            self.assertIn(part, text)
        script.user("x" * 9000 + "日" * 9000)
        for n in range(200):
            script.call("Read", f"r{n}", file_path=f"/other/{n}" * 30)
        task = rlm.open_task(script.turns())
        for limit in (4096, 1024, 300, 80):
            text = rlm.handoff_text(task, ids, limit)
            self.assertLessEqual(len(text.encode("utf-8")), limit)
        self.assertIn(ids[-1], rlm.handoff_text(task, ids, 4096))
        self.assertEqual(rlm.handoff_text({}, []), "")


class KeepCase(TempHome):
    def setUp(self) -> None:
        super().setUp()
        self.projects = os.path.join(self.home, ".claude", "projects")

    def path_of(self, name: str = SESSION, folder: str = "-home-dev-project") -> str:
        """Where the client keeps that session's transcript."""
        return os.path.join(self.projects, folder, name + ".jsonl")

    def write(self, data: bytes, name: str = SESSION, *, folder: str = "-home-dev-project", quiet: bool = True) -> str:
        """Writes a transcript, which was last touched long ago when *quiet*; its path."""
        path = self.path_of(name, folder)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        if quiet:
            self.age(path)
        return path

    @staticmethod
    def age(path: str, seconds: float = 9000) -> None:
        """Makes the file look untouched for so long; more of a file gives another time."""
        at_ns = int((time.time() - seconds) * 1e9) + os.path.getsize(path)
        os.utime(path, ns=(at_ns, at_ns))

    def save(self, path: str, *, final: bool = True, **options: Any) -> rlm.Saved:
        """Saves a transcript as a process of its own would."""
        return rlm.Keeper(self.view(), is_final=final).save(path, durable=False, **options)

    def import_all(self) -> rlm.Imported:
        """What `rlm.py import` does without an argument."""
        return rlm.import_transcripts(self.view(), rlm.transcript_paths(self.projects), lambda *_: None)

    def kept(self, name: str = SESSION) -> bytes:
        """What the copy holds: all members of the file."""
        with gzip.open(self.places.transcript(name)) as file:
            return file.read()

    def texts(self) -> list[str]:
        """The texts of all chunks, in the order in which they were stored."""
        return [str(found[1]) for found in everything(self.places).values() if found[0] == "chunk"]

    def rows(self) -> list[list[Any]]:
        """Everything that was stored but for its ids, sorted."""
        return sorted([list(found[1:]) for found in everything(self.places).values()], key=repr)

    def other_home(self, name: str) -> None:
        """Goes on with another, empty store."""
        os.environ["RLM_HOME"] = os.path.join(self.home, name)
        self.places = rlm.Places()

    def stored_bytes(self) -> bytes:
        """All bytes of all files below the store, those of gzipped ones unpacked, and the files' names."""
        found = []
        for folder, _, names in os.walk(os.environ.get("RLM_HOME") or os.path.join(self.home, ".claude", "rlm")):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    data = file.read()
                found += [name.encode(), data, gzip.decompress(data) if name.endswith(".gz") and data else b""]
        self.assertTrue(found)
        return b"\0".join(found)

    def grown(self, data: bytes, cuts: Sequence[int], *, final: bool) -> None:
        """Saves a transcript that grew to these sizes, each time as a process of its own would; the end is final."""
        for size in [*cuts, len(data)]:
            self.save(self.write(data[:size]), final=final or size == len(data))


class StopAfter:
    """A replace_file that does its work, up to that file's; then the process is as good as dead."""

    def __init__(self, path: str) -> None:
        self.path, self.is_over, self.real = path, False, rlm.replace_file

    def __call__(self, path: str, data: bytes, **options: Any) -> Any:
        if self.is_over:
            raise InterruptedError(path)
        self.is_over = path == self.path
        return self.real(path, data, **options)


class KeepingTest(KeepCase):
    def script(self, n_turns: int = 12, session: str = SESSION) -> Script:
        """An ordinary session."""
        script = Script(session)
        for n in range(n_turns):
            script.noise()
            script.user(f"<asked {n}> {HARD}" + "p" * 900)
            script.bash(f"c{n}", f"make {n}", "line é\n" * 40)
            script.say(f"<said {n}>")
        return script

    def assert_each_once(self, n_turns: int) -> None:
        """Whatever was said is in the store exactly once."""
        whole = "\n".join(self.texts())
        for n in range(n_turns):
            self.assertEqual(whole.count(f"<said {n}>"), 1, n)
            self.assertEqual(len(re.findall(f"(?m)^<asked {n}>", whole)), 1, n)  # a quoted prompt begins with "> "

    def test_saving_again_changes_nothing_and_costs_two_looks(self) -> None:
        path = self.write(self.script().data())
        first = self.save(path)
        before = self.log_bytes(), self.kept()
        self.assertTrue(first.ids and first.is_whole)
        self.assertTrue(rlm.is_saved(self.places, path))
        second = self.save(path)
        self.assertEqual((second.ids, second.is_whole), ([], True))
        self.assertEqual((self.log_bytes(), self.kept()), before)
        state = rlm.load_state(self.places, SESSION)
        self.assertEqual((state["ids"], state["n_ids"]), (first.ids, len(first.ids)))
        self.assertFalse(rlm.is_saved(self.places, self.write(self.script().data() + b"{}\n")))

    def test_chunks_say_whose_they_are_and_are_found(self) -> None:
        self.save(self.write(self.script().data()))
        chunk = self.call("rlm_list_chunks", limit=99).data["chunks"][-1]
        self.assertEqual((chunk["project"], chunk["session"]), ("project", SESSION))
        self.assertIn("asked 0", chunk["summary"])
        record = next(json.loads(line) for line in self.log_bytes().splitlines() if b"asked 0" in line)
        self.assertEqual((record["branch"], record["type"], len(record["uuids"])), ("main", "session", 2))
        self.assertTrue(record["commands"][0].startswith("make 0"))
        hits = self.call("rlm_search", query="said 7 日本語", project="project").data
        self.assertIn(chunk["id"][:10], json.dumps(hits))

    def test_a_session_that_moves_into_a_folder_of_its_project_stays_in_that_project(self) -> None:
        script = Script()
        script.raw({"type": "queue-operation", "operation": "enqueue", "sessionId": SESSION, "content": "x"})
        ends = [len(script.data())]
        for cwd, size in ((CWD, 5000), (CWD + "/sub é", 5000), (CWD + "2/other", 5000)):
            script.user(f"asked in {cwd} " + "p" * size, cwd=cwd)
            script.say("said", cwd=cwd)
            ends.append(len(script.data()))
        for n, cuts in enumerate(([], ends)):
            with self.subTest(cuts=cuts):
                self.other_home(f"other {n}")
                self.grown(script.data(), cuts, final=True)
                found = [found[4] for found in everything(self.places).values()]
                self.assertEqual(found, ["project", "project", "other"])

    def test_any_cuts_give_the_chunks_and_the_copy_of_one_go(self) -> None:
        data, rng = self.script(6).data(), random.Random(11)
        self.save(self.write(data))
        whole = self.texts()
        ends = [n + 1 for n, byte in enumerate(data) if byte == 10]
        self.assertGreater(len(ends), 100)
        for n, cuts in enumerate((ends, *(sorted(rng.sample(range(len(data)), 15)) for _ in range(3)))):
            with self.subTest(n):
                self.other_home(f"other {n}")
                self.grown(data, cuts, final=False)
                self.assertEqual(self.texts(), whole)
                self.assertEqual(self.kept(), data)

    def test_a_final_end_anywhere_loses_and_doubles_nothing(self) -> None:
        data, rng = self.script(6).data(), random.Random(12)
        ends = [n + 1 for n, byte in enumerate(data) if byte == 10]
        for n, cuts in enumerate((ends, *(sorted(rng.sample(range(len(data)), 15)) for _ in range(3)))):
            with self.subTest(n):
                self.other_home(f"other {n}")
                self.grown(data, cuts, final=True)
                self.assert_each_once(6)
                self.assertEqual(self.kept(), data)

    def test_slices_and_deadlines_give_the_same(self) -> None:
        data = self.script(40).data()
        self.save(self.write(data))
        whole = self.texts()
        self.other_home("other")
        path = self.write(data)
        with mock.patch.object(rlm, "SLICE_BYTES", 9000):
            n_saves, saved = 1, self.save(path, until_s=0)
            self.assertFalse(saved.is_whole or rlm.is_saved(self.places, path))
            while not saved.is_whole:
                n_saves, saved = n_saves + 1, self.save(path, until_s=0)
        self.assertGreater(n_saves, 9)
        self.assertEqual(self.texts(), whole)
        self.assertEqual(self.kept(), data)
        self.assertTrue(rlm.is_saved(self.places, path))

    def test_a_crash_between_copy_and_state_is_mended(self) -> None:
        data = self.script().data()
        half = data.index(b"\n", len(data) // 2) + 1
        self.save(self.write(data[:half]))
        state_file = self.places.reading(SESSION)
        before, size = rlm.read_file(state_file), os.path.getsize(self.places.transcript(SESSION))
        path = self.write(data)
        self.save(path)
        texts = self.texts()
        rlm.replace_file(state_file, before)
        self.assertGreater(os.path.getsize(self.places.transcript(SESSION)), size)
        self.assertEqual(rlm.load_state(self.places, SESSION)["n_packed"], size)
        self.save(path)
        self.assertEqual(self.kept(), data)
        self.assertEqual(self.texts(), texts)

    def test_a_scrub_stopped_between_copy_and_state_is_mended(self) -> None:
        script = self.script(3)
        script.user("it is password" + "='sword" + "fish' é")
        script.say("<late>")
        path = self.write(script.data())
        with mock.patch.object(rlm, "redact_value", lambda value: value):
            self.save(path)
        self.assertIn(b"='sword" + b"fish'", self.kept())
        stopped = StopAfter(self.places.transcript(SESSION))
        with mock.patch.object(rlm, "replace_file", stopped), self.assertRaises(InterruptedError):
            rlm.scrub_transcript(self.places, SESSION, dry_run=False)
        self.assertTrue(stopped.is_over)
        self.assertFalse(rlm.is_saved(self.places, path))
        self.save(path)
        kept = self.kept()
        self.assertEqual(kept.count(b"\n"), script.data().count(b"\n"))
        self.assertNotIn(b"sword" + b"fish", kept)
        self.assertIn(b"[redacted:password]", kept)

    def test_a_damaged_or_lost_state_costs_nothing(self) -> None:
        data = self.script().data()
        path = self.write(data)
        self.save(path)
        texts, state_file = self.texts(), self.places.reading(SESSION)
        good = rlm.read_file(state_file)
        state = rlm.load_state(self.places, SESSION)
        wrong = [json.dumps({**state, key: value}).encode() + b'\n""\n' for key in (*state, "compacted_at") if key != "v"
                 for value in (5, "x", [1], {"x": 1}, None, -1, [1, "x"]) if type(value) is not type(state.get(key))]
        for bad in (b"", b"\0" * 99, b"{", b"[]\n[]\n", b'{"offset":"5","kept":[]}\n""\n', good[: len(good) // 2],
                    good.split(b"\n")[0] + b"\n", good.split(b"\n")[0] + b"\n5\n", b"\xff\xfe\n", None, *wrong):
            with self.subTest(bad):
                rlm.remove_file(state_file)
                if bad is not None:
                    rlm.replace_file(state_file, bad)
                self.save(path)
                self.assertEqual(self.texts(), texts)
                self.assertEqual(self.versions(), {"": data})
                self.assertTrue(rlm.is_saved(self.places, path))

    def test_a_copy_that_was_removed_or_cut_comes_back(self) -> None:
        data = self.script().data()
        half = data.index(b"\n", len(data) // 2) + 1
        for n_left in (0, 100):
            self.save(self.write(data[:half]))
            copy = self.places.transcript(SESSION)
            os.truncate(copy, n_left) if n_left else os.unlink(copy)
            self.save(self.write(data))
            self.assertEqual(self.kept(), data)
            self.assert_each_once(12)
            self.other_home("other")

    def test_what_holds_nothing_to_keep_leaves_no_empty_copy(self) -> None:
        script = Script()
        script.user("a prompt that Claude works on é")
        path = self.write(script.data())
        self.save(path, final=False)
        self.assertEqual(rlm.kept_transcripts(self.places), [])
        self.save(path)
        self.assertEqual(self.kept(), script.data())
        self.other_home("other")
        rlm.write_config(self.places, {"exclude": ["project"]})
        self.save(path)
        self.assertEqual(rlm.kept_transcripts(self.places), [])
        self.assertTrue(rlm.is_saved(self.places, path))

    def test_no_folder_that_a_line_names_is_too_odd(self) -> None:
        rlm.write_config(self.places, {"exclude": ["~/clients", "hush*"]})
        script = self.script(1)
        script.lines[0] = script.lines[0].replace(b'"sessionId"', b'"cwd":"/home/dev/project","sessionId"')
        for n, cwd in enumerate(("/w/\0x", "/w/" + "x" * 9999, "~nobody/é", "/w/\udc80", "relative", "/" * 99, "C:\\x", "[redacted:"), 1):
            script.user(f"<asked {n}> é", cwd=cwd)
            script.say(f"<said {n}>", cwd=cwd)
        self.save(self.write(script.data()))
        self.assert_each_once(9)

    def test_no_copy_when_the_user_wants_none_and_all_of_it_when_wanted_again(self) -> None:
        data = self.script().data()
        ends = [n + 1 for n, byte in enumerate(data) if byte == 10]
        first, second, third = ends[len(ends) // 4], ends[len(ends) // 2], ends[-9]
        self.save(self.write(data[:first]))
        rlm.write_config(self.places, {"keep_transcripts": False})
        self.save(self.write(data[:second]))
        self.save(self.write(data[:third]))
        self.assertEqual(self.kept(), data[:first])
        rlm.write_config(self.places, {})
        with mock.patch.object(rlm, "SLICE_BYTES", 9000):
            self.save(self.write(data))
        self.assertEqual(self.kept(), data)
        self.assert_each_once(12)
        self.other_home("other")
        rlm.write_config(self.places, {"keep_transcripts": False})
        self.save(self.write(data))
        self.assertFalse(os.path.exists(self.places.transcript(SESSION)))
        self.assert_each_once(12)

    def test_no_secret_reaches_the_disk(self) -> None:
        secrets = [f"gh{kind}_" + 6 * f"Ab{n}xY9" for n, kind in enumerate("pousr")]
        script = self.script(2)
        script.user(f"my token {secrets[0]} é")
        script.call("Bash", "s1", command=f"curl -H 'Authorization: Bearer {secrets[1]}'")
        script.result("s1", [{"type": "text", "text": secrets[2]}], extra={"deep": [{"stdout": "x " + secrets[3]}]})
        script.raw({"type": "queue-operation", "sessionId": SESSION, "content": secrets[4]})
        script.lines.append(f'broken {{ "type":"user" {secrets[0]}\n'.encode())
        script.lines.append(b'broken "type":"user" <private>HIDDEN\n')
        script.user("a <private>HIDDEN</private> é <private>HIDDEN")
        script.say("the end of it")
        path = self.write(script.data())
        self.save(path)
        stored = self.stored_bytes()
        for secret in [*secrets, "HIDDEN"]:
            self.assertIn(secret.encode(), script.data())
            self.assertNotIn(secret.encode(), stored)
        kept = self.kept()
        self.assertEqual(kept.count(b"\n"), script.data().count(b"\n"))
        self.assertIn(b"[redacted:github-token]", kept)
        for line, original in zip(lines_of(kept), script.lines):
            self.assertTrue(line == original or b"[redacted:" in line or b"[private]" in line, line)
        self.assertEqual(sum(a != b for a, b in zip(lines_of(kept), script.lines)), 7)

    def excluded(self, *entries: str) -> None:
        """Sets what is never saved."""
        rlm.write_config(self.places, {"exclude": list(entries)})

    def test_nothing_of_an_excluded_project_is_anywhere(self) -> None:
        script = Script()
        script.raw({"type": "queue-operation", "operation": "enqueue", "sessionId": SESSION, "content": "HUSH é"})
        script.noise()
        script.user("HUSH é", cwd=CWD + "/sub")
        script.bash("a", "make HUSH", "HUSH")
        script.say("HUSH")
        script.raw({"type": "last-prompt", "sessionId": SESSION, "lastPrompt": "HUSH é"})
        script.raw({"type": "api-request-blob", "sessionId": SESSION, "message": {"content": "HUSH"}})
        script.lines.append(b"broken HUSH\n")
        data = script.data()
        ends = [n + 1 for n, byte in enumerate(data) if byte == 10]
        for n, entry in enumerate(("PROJECT", "sub", "/home/dev", CWD)):
            for m, cuts in enumerate(([], ends)):
                with self.subTest(entry=entry, cuts=len(cuts)):
                    self.other_home(f"other {n} {m}")
                    self.excluded(entry, *(["project"] if entry == "sub" else []))
                    self.grown(data, cuts, final=True)
                    self.assertNotIn(b"HUSH", self.stored_bytes())
                    self.assertEqual(self.texts(), [])
                    self.assertTrue(rlm.is_saved(self.places, self.path_of()))

    def test_excluding_one_project_keeps_the_others_to_the_byte(self) -> None:
        self.excluded("elsewhere", "/home/dev/pro")  # the folder of another project begins the same
        data = self.script().data()
        self.assertTrue(data.startswith(b'{"type":"queue-operation"'))
        self.grown(data, [data.index(b"\n", len(data) // 2) + 1], final=True)
        self.assertEqual(self.kept(), data)
        self.assert_each_once(12)

    def test_a_session_that_goes_to_an_excluded_folder_hides_only_what_is_of_it(self) -> None:
        self.excluded("/home/dev/hidden")
        script = Script()
        script.user("open é")
        script.say("seen " + "long " * 20_000)  # beyond what is looked at first
        cut = len(script.data())
        script.user("HUSH", cwd="/home/dev/hidden")
        script.say("HUSH", cwd="/home/dev/hidden/deep")
        second = len(script.data())
        script.raw({"type": "last-prompt", "sessionId": SESSION, "lastPrompt": "HUSH"})
        script.user("open again")
        script.say("seen again")
        for n, cuts in enumerate(([], [cut], [cut, second])):
            with self.subTest(cuts=cuts):
                self.other_home(f"other {n}")
                self.excluded("/home/dev/hidden")
                self.grown(script.data(), cuts, final=True)
                self.assertNotIn(b"HUSH", self.stored_bytes())
                self.assertIn("seen again", "".join(self.texts()))
                self.assertIn("open é", "".join(self.texts()))
                self.assertIn(b"seen again", self.kept())

    def test_a_summary_of_hidden_work_is_kept_from_no_session_that_goes_on_with_it(self) -> None:
        self.excluded("/home/dev/hidden")
        parent = self.script(1)
        parent.user("HUSH", cwd="/home/dev/hidden")
        parent.say("HUSH", cwd="/home/dev/hidden")
        begin = len(parent.lines)
        parent.compaction("Summary: HUSH was made é")
        parent.user("<asked 1> é")
        parent.say("<said 1>")
        self.save(self.write(parent.data()))
        child = Script("94c965d7-ad2a-4ff7-b7dc-945d745a7032", start=4000)
        for entry in map(json.loads, parent.lines[begin:]):
            child.raw({**entry, "uuid": f"n{entry['uuid']}", "sessionId": child.session,
                       "forkedFrom": {"sessionId": SESSION, "messageUuid": entry["uuid"]}})
        child.user("<asked 2>")
        child.say("<said 2>")
        self.save(self.write(child.data(), child.session))
        self.assertNotIn(b"HUSH", self.stored_bytes())
        self.assert_each_once(3)

    def test_a_project_excluded_later_stays_out_from_then_on(self) -> None:
        script = self.script(2)
        self.save(self.write(script.data()))
        self.excluded("project")
        script.raw({"type": "last-prompt", "sessionId": SESSION, "lastPrompt": "HUSH"})
        self.save(self.write(script.data()))
        script.user("HUSH")
        self.save(self.write(script.data()))
        self.assertNotIn(b"HUSH", self.stored_bytes())
        self.assert_each_once(2)

    def test_a_folder_excluded_before_its_copy_is_made_stays_out_of_it(self) -> None:
        script = Script()
        script.user("open é")
        script.say("seen " + "long " * 20_000)
        rlm.write_config(self.places, {"keep_transcripts": False})
        self.save(self.write(script.data()))
        first = script.data()
        script.user("HUSH", cwd="/home/dev/hidden")
        script.raw({"type": "last-prompt", "sessionId": SESSION, "lastPrompt": "HUSH"})
        self.save(self.write(script.data()))
        self.excluded("hidden")
        self.save(self.write(script.data()))
        self.assertEqual(self.kept(), first)

    def test_a_project_excluded_while_no_copies_were_wanted_stays_out_of_them(self) -> None:
        script = self.script(2)
        first = script.data()
        self.save(self.write(first))
        rlm.write_config(self.places, {"keep_transcripts": False})
        script.user("asked HUSH")
        script.raw({"type": "last-prompt", "sessionId": SESSION, "lastPrompt": "HUSH2"})
        self.save(self.write(script.data()))
        self.excluded("project")
        self.save(self.write(script.data()))
        self.assertEqual(self.kept(), first)

    def test_resumed_and_forked_sessions_are_stored_once(self) -> None:
        parent = self.script(5)
        copied = [json.loads(line) for line in parent.lines]
        for order in (("aaaa", "bbbb"), ("bbbb", "aaaa")):  # names in which the files are come to
            self.other_home("order " + order[0])
            self.projects = os.path.join(os.environ["RLM_HOME"], "in")
            names = [f"{first}c232-d4a0-4b3f-a780-c76246539c7a" for first in order]
            self.write(parent.data(), names[0])
            for how in (0, 1):
                child = Script(session=names[1], start=2000 * (how + 1))
                for entry in copied:
                    origin = {"sessionId": names[0], "messageUuid": entry.get("uuid")}
                    more = {"uuid": f"n{entry.get('uuid')}", "forkedFrom": origin} if how and "uuid" in entry else {}
                    child.raw({**entry, "sessionId": child.session, **more})
                child.user(f"<asked {5 + how}> a new way é")
                child.say(f"<said {5 + how}>")
                self.write(child.data(), names[1][:-1] + str(how))
            done = self.import_all()
            with self.subTest(order=order):
                self.assertEqual(done.refused, [])
                self.assert_each_once(7)
                self.assertEqual(self.import_all().n_new, 0)

    def versions(self) -> dict[str, bytes]:
        """What the copies of the session hold, by their names without that of the session."""
        return {name[len(SESSION) :]: self.kept(name) for name in rlm.kept_transcripts(self.places)}

    def test_a_file_that_shrank_or_was_replaced_is_another_version_and_nothing_is_doubled(self) -> None:
        script, other = self.script(6), Script(start=5000)
        for n in range(6, 30):
            other.user(f"<asked {n}> " + "q" * 3000)
            other.say(f"<said {n}>")
        self.assertGreater(len(other.data()), len(script.data()))
        short = script.data()[: script.data().index(b"\n", 5000) + 1]
        wanted: list[bytes] = []
        for data, n_turns in ((script.data(), 6), (short, 6), (script.data(), 6), (other.data(), 30)):
            path = self.write(data)
            self.save(path)
            self.assertTrue(rlm.is_saved(self.places, path))
            self.assert_each_once(n_turns)
            wanted += [data] * (data not in wanted)
            self.assertEqual(sorted(self.versions().values()), sorted(wanted))
            self.assertEqual(self.kept(), script.data())  # to which nothing was done
            self.assertEqual(self.kept(rlm.kept_name(self.places, path)), data)

    def test_whatever_happens_to_a_file_all_that_was_said_is_stored_once_and_its_copy_is_the_file(self) -> None:
        for seed in range(12):
            rng, versions = random.Random(seed), [self.script(3).lines]
            said: set[str] = set()
            self.other_home(f"other {seed}")
            for n in range(100, 120):
                lines, other = list(versions[-1]), Script(start=100 * n)
                other.user(f"<asked {n}> é" + "p" * rng.randrange(3000))
                other.say(f"<said {n}>")
                what = rng.choice(("grows", "grows", "shrinks", "is another", "comes back", "stays"))
                lines = {"grows": lines + other.lines, "shrinks": lines[: rng.randrange(len(lines)) + 1], "stays": lines,
                         "is another": other.lines, "comes back": rng.choice(versions)}[what]
                versions.append(lines)
                path = self.write(b"".join(lines))
                rlm.write_config(self.places, {"keep_transcripts": rng.random() < 0.8})
                if rng.random() < 0.3:
                    with mock.patch.object(rlm, "link_file", rng.choice((rlm.link_file, lambda *_: False))):
                        rlm.put_aside(self.places, path)
                for copy in map(self.places.transcript, rlm.kept_transcripts(self.places)) if rng.random() < 0.1 else ():
                    os.truncate(copy, os.path.getsize(copy) - 7)
                with mock.patch.object(rlm, "SLICE_BYTES", rng.choice((3000, 1 << 20))):
                    if rng.random() < 0.3:
                        rlm.drain_spool(rlm.Keeper(self.view(), hurries=True))
                    if self.save(path, until_s=rng.choice((0, 1e18)), final=rng.random() < 0.8).is_whole:
                        said.update(re.findall(r"<said \d+>", b"".join(lines).decode()))
            rlm.write_config(self.places, {})
            rlm.drain_spool(rlm.Keeper(self.view()))
            self.save(path)
            whole, name = "\n".join(self.texts()), rlm.kept_name(self.places, path)
            with self.subTest(seed):
                self.assertTrue(rlm.is_saved(self.places, path))
                self.assertEqual(self.kept(name), b"".join(lines))
                for each in said | set(re.findall(r"<said \d+>", b"".join(lines).decode())):
                    self.assertEqual(whole.count(each), 1, each)

    def test_the_newest_version_of_a_transcript_is_given_back_and_the_others_are_named(self) -> None:
        self.save(self.write(self.script(3).data()))
        older = self.places.transcript(SESSION + "~1")  # as older programs named it
        rlm.replace_file(older, gzip.compress(b"{}\n"))
        rlm.save_state(self.places, SESSION + "~1", {"v": 1, "offset": 0, "kept": 0, "n_packed": os.path.getsize(older)}, 0)
        other = Script(start=5000)
        other.user("other é" * 9999)
        path = self.write(other.data())
        self.save(path)
        os.unlink(path)
        done = self.cli("restore-transcript", SESSION[:8])
        self.assertEqual((done.returncode, rlm.read_file(path)), (0, other.data()))
        self.assertIn(f"`claude --resume {SESSION}`", done.stdout.decode())
        for name, data in ((SESSION + "~1", b"{}\n"), (SESSION + "~0", self.script(3).data())):
            self.assertIn(f"restore-transcript {name} --to FILE", done.stdout.decode())
            self.assertEqual(self.cli("restore-transcript", name, "--to", "-").stdout, data)

    def test_a_line_replaced_by_one_as_long_is_seen_though_all_lines_end_alike(self) -> None:
        script = self.script(3)
        script.say("<said 7> AAAA")
        script.lines[-1] = script.lines[-1][:-2] + b',"slug":"' + b"s" * 90 + b'"}\n'
        path = self.write(script.data())
        self.save(path)
        changed = script.lines[-1].replace(b"<said 7> AAAA", b"<said 8> BBBB").replace(fake_uuid(script.n).encode(),
                                                                                     fake_uuid(script.n + 9).encode())
        self.assertEqual((len(changed), changed[-64:]), (len(script.lines[-1]), script.lines[-1][-64:]))
        data = b"".join(script.lines[:-1]) + changed
        self.save(self.write(data))
        self.assertEqual("".join(self.texts()).count("<said 8> BBBB"), 1)
        self.assertEqual(list(self.versions().values()), [script.data(), data])
        self.assert_each_once(3)

    def test_states_of_older_programs_are_read_and_go_on(self) -> None:
        script = self.script(4)
        self.save(self.write(script.data()))
        state = rlm.load_state(self.places, SESSION)
        more = self.script(5)
        for tail, kept, copies in (([64, rlm.crc_of(script.data()[-64:])], state["kept"], [more.data()]),
                                   (state["tail"], state["kept"] + 9, [script.data(), more.data()])):  # shrunk, for those
            self.save(self.write(script.data()))
            old = {key: value for key, value in state.items() if key not in ("root", "compacted_at")}
            rlm.save_state(self.places, SESSION, {**old, "tail": tail, "kept": kept, "kept_tail": tail}, 0)
            self.save(self.write(more.data()))
            self.assertEqual(list(self.versions().values()), copies)
            self.assert_each_once(5)
            self.other_home("other")

    def test_one_session_in_two_folders_makes_two_copies_and_each_is_given_back_to_its_place(self) -> None:
        script = self.script(3)
        paths = [self.write(script.data(), folder=folder) for folder in ("-home-dev-project", "-home-dev-other")]
        self.save(paths[0])
        files = [list(script.lines), list(script.lines)]
        for n in range(3, 9):
            more = Script(start=1000 * n)
            more.user(f"<asked {n}> é")
            more.say(f"<said {n}>")
            files[n % 2] += more.lines
            with open(paths[n % 2], "wb") as file:
                file.write(b"".join(files[n % 2]))
            self.age(paths[n % 2])
            self.assertFalse(rlm.is_saved(self.places, paths[n % 2]))
            self.save(paths[n % 2])
            self.assertTrue(rlm.is_saved(self.places, paths[n % 2]))
        self.assert_each_once(9)
        names = rlm.kept_transcripts(self.places)
        self.assertEqual(len(names), 2)
        for n, name in enumerate(names):
            self.assertEqual(self.kept(name), b"".join(files[n]))
            self.assertEqual(rlm.original_path(self.places, name), paths[n])
            self.assertEqual(rlm.transcript_names(self.places, name), [name])
        self.assertEqual(rlm.transcript_names(self.places, SESSION[:8]), [SESSION])
        rlm.put_aside(self.places, paths[1])
        self.assertEqual([name for _, name in rlm.spooled_files(self.places)], [names[1]])

    def test_a_transcript_whose_folder_was_renamed_goes_on_and_is_given_back_where_it_is_now(self) -> None:
        script = self.script(3)
        self.save(self.write(script.data()))
        os.rename(os.path.dirname(self.path_of()), os.path.join(self.projects, "-home-dev-renamed"))
        script.user("<asked 3>")
        script.say("<said 3>")
        path = self.write(script.data(), folder="-home-dev-renamed")
        self.save(path)
        self.assertEqual(rlm.original_path(self.places, SESSION), path)
        self.assertEqual(self.kept(), script.data())
        self.assertEqual(rlm.kept_transcripts(self.places), [SESSION])
        self.assert_each_once(4)

    def test_a_branch_that_begins_at_a_compaction_is_stored_once(self) -> None:
        parent = self.script(4)
        self.save(self.write(parent.data()))
        begin = len(parent.lines)
        parent.compaction("Summary: all of it é")
        for n in range(4, 8):
            parent.user(f"<asked {n}> é")
            parent.say(f"<said {n}>")
            self.save(self.write(parent.data()))
        child, name = Script("94c965d7-ad2a-4ff7-b7dc-945d745a7032", start=4000), "94c965d7-ad2a-4ff7-b7dc-945d745a7032"
        for entry in map(json.loads, parent.lines[begin:]):
            child.raw({**entry, "uuid": f"n{entry['uuid']}", "sessionId": name,
                       "forkedFrom": {"sessionId": SESSION, "messageUuid": entry["uuid"]}})
        child.user("<asked 8>")
        child.say("<said 8>")
        self.save(self.write(child.data(), name))
        self.assert_each_once(9)
        self.assertEqual("\n".join(self.texts()).count("all of it é"), 1)

    def test_a_secret_in_the_name_of_a_folder_is_in_no_file_and_the_project_has_one_name(self) -> None:
        token = "ghp_" + "Zx8Kq2Lm5Np7Rt9Vw1By3Cd4Ef6Gh0Jk8sQ2"
        folder = os.path.join(self.home, "code", token)
        os.makedirs(os.path.join(folder, ".git"))
        os.makedirs(os.path.join(folder, "deep"))
        for cwds in ([folder, os.path.join(folder, "deep")], [os.path.join(folder, "deep"), folder]):
            self.other_home(os.path.basename(cwds[0]) if cwds[0] != folder else "first")
            script = Script()
            for n, cwd in enumerate(cwds):
                script.user(f"<asked {n}> é", cwd=cwd)
                script.say(f"<said {n}>", cwd=cwd)
                self.save(self.write(script.data(), folder=token))
            self.assertEqual({found[4] for found in everything(self.places).values()}, {"[redacted:github-token]"})
            stored = self.stored_bytes()
            self.assertNotIn(token[4:].encode(), stored)
            self.assertTrue(rlm.is_saved(self.places, self.path_of(folder=token)))

    def test_a_half_written_last_line_waits(self) -> None:
        script = self.script(3)
        whole = len(script.data())
        script.say("<late> é")
        for cut in (whole + 1, len(script.data()) - 20, len(script.data()) - 2):
            self.save(self.write(script.data()[:cut]))
            self.assertNotIn("<late>", "".join(self.texts()))
            self.assertEqual(self.kept(), script.data()[:whole])
        self.save(self.write(script.data()))
        self.assertEqual("".join(self.texts()).count("<late>"), 1)
        self.assertEqual(self.kept(), script.data())
        self.assert_each_once(3)

    def test_garbage_is_kept_as_it_is_and_costs_only_itself(self) -> None:
        script = self.script(2)
        rng = random.Random(3)
        script.lines += [bytes(rng.randrange(256) for _ in range(3000)).replace(b"\n", b"") + b"\n", b"\n", b"\r\n",
                         b"\0" * 5000 + b"\n", b'{"type":"user","message":{"content":"nul \\u0000 \xff"}}\n',
                         b'{"type":"user","message":{"role":"user","content":"half \\ud83d here"},"uuid":"s"}\n',
                         b'{"a":' + b"[" * 100_000 + b'"type":"user"\n', b'{"n":NaN,"type":"user"}\n', b"\xed\xa0\x80\n",
                         b'"type":"user"\n', b"\xef\xbb\xbf{}\n"]
        script.user("<asked 2> after")
        script.say("<said 2>")
        data = script.data()
        crlf = b"".join(line[:-1] + b"\r\n" if line.startswith(b"{") else line for line in script.lines)
        for n, each in enumerate((data, crlf)):
            self.other_home(f"other {n}")
            self.grown(each, [len(each) // 2, len(each) - 700], final=True)
            with self.subTest(n):
                self.assert_each_once(3)
                self.assertIn("half", "".join(self.texts()))
                self.assertEqual(self.kept(), each)
                self.assertEqual(rlm.verify(self.view(), lambda *_: None), [])

    def test_a_line_of_megabytes_is_only_long_and_needs_few_copies_of_itself(self) -> None:
        script = Script()
        script.user("<asked 0> é")
        script.call("Read", "a", file_path=CWD + "/big")
        script.result("a", "a key\n" + "and some plain words on a line\n" * 200_000)
        script.say("<said 0>")
        data = script.data()
        path = self.write(data)
        tracemalloc.start()
        self.save(path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        self.assertLess(peak_bytes, 6 * len(data))
        self.assert_each_once(1)
        self.assertIn("Read `big` → ok [200,001 lines, 6.2 MB]\n", self.texts()[0])
        self.assertTrue(self.kept() == data)

    def test_an_import_takes_the_last_turn_of_a_session_that_was_touched_a_moment_ago(self) -> None:
        script = self.script(2)
        self.write(script.data(), quiet=False)
        self.import_all()
        self.assert_each_once(2)
        self.assertTrue(rlm.is_saved(self.places, self.path_of()))
        self.assertEqual(self.kept(), script.data())

    def subagent(self, agent_id: str, answer: str) -> Script:
        """The lines of a subagent."""
        script = Script(start=700)
        script.extra = {"isSidechain": True, "agentId": agent_id}
        script.user("find é")
        script.say(answer)
        return script

    def test_subagents_are_saved_with_their_session(self) -> None:
        script, agent = self.script(2), self.subagent("a4bc9ce5", "inside")
        self.write(script.data())
        path = self.write(agent.data(), f"{SESSION}/subagents/agent-a4bc9ce5")
        rlm.replace_file(path[: -len(".jsonl")] + ".meta.json", b'{"agentType":"Explore"}')
        self.assertEqual(rlm.transcript_name(path), f"{SESSION}.agent-a4bc9ce5")
        self.assertEqual(rlm.unsaved_in(self.places, os.path.dirname(self.path_of())), [self.path_of(), path])
        self.import_all()
        self.assertEqual(self.kept(f"{SESSION}.agent-a4bc9ce5"), agent.data())
        self.assertEqual(sum("inside" in text for text in self.texts()), 1)
        self.assertEqual({c["session"] for c in self.call("rlm_list_chunks", limit=99).data["chunks"]}, {SESSION})
        self.assertEqual(rlm.unsaved_in(self.places, os.path.dirname(self.path_of())), [])

    def test_subagents_of_workflows_are_saved_and_their_journal_is_not(self) -> None:
        script, agent = self.script(2), self.subagent("a2", "deep inside")
        self.write(script.data())
        path = self.write(agent.data(), f"{SESSION}/subagents/workflows/wf_7/agent-a2")
        self.write(b'{"type":"result","agentId":"a2"}\n', f"{SESSION}/subagents/workflows/wf_7/journal")
        self.assertEqual(rlm.subagent_files(self.path_of()), [path])
        self.assertEqual(rlm.session_of(rlm.transcript_name(path)), SESSION)
        self.import_all()
        self.assertEqual(sum("deep inside" in text for text in self.texts()), 1)
        self.assertEqual(rlm.unsaved_in(self.places, os.path.dirname(self.path_of())), [])

    def test_no_transcript_has_no_subagents(self) -> None:
        os.makedirs(os.path.join(self.home, "subagents"))
        rlm.replace_file(os.path.join(self.home, "subagents", "agent-1.jsonl"), b"{}\n")
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.home)
        self.assertEqual(rlm.subagent_files(""), [])

    def test_names_of_copies_stay_inside_their_folder(self) -> None:
        hard = ["/x/../../etc/passwd.jsonl", "/x/.jsonl", "/x/é 日本.jsonl", "/x/" + "a-" * 100 + ".jsonl", "/x/a.jsonl", "/y/a.jsonl",
                "/x/..-----------------------------------------.jsonl", "/x/a b-c-d-e-f-" + "x" * 40 + ".jsonl"]
        names = [rlm.transcript_name(path) for path in hard]
        self.assertEqual(len(set(names)), len(hard))
        for name in names:
            self.assertRegex(name, r"\A\w[\w.-]{0,119}\Z")
        self.assertEqual(rlm.transcript_name(self.path_of()), SESSION)


class SpoolTest(KeepCase):
    def test_what_was_put_aside_is_saved_later_though_the_client_removed_it(self) -> None:
        script = Script()
        script.user("first é")
        script.say("<one>")
        cut = len(script.data())
        script.user("second")
        script.say("<two>")
        for n, saved_before in enumerate((False, True)):
            for m, linked in enumerate((True, False)):
                self.other_home(f"other {n}{m}")
                with self.subTest(saved_before=saved_before, linked=linked):
                    path = self.write(script.data()[:cut])
                    if saved_before:
                        self.save(path)
                    path = self.write(script.data())
                    with mock.patch.object(rlm, "link_file", rlm.link_file if linked else lambda *_: False):
                        rlm.put_aside(self.places, path)
                        rlm.put_aside(self.places, path)
                    (spooled, name), = rlm.spooled_files(self.places)
                    self.assertEqual(name, SESSION)
                    self.assertEqual(os.path.samefile(spooled, path), linked)
                    self.assertFalse(rlm.is_saved(self.places, path))
                    os.unlink(path)
                    self.assertGreater(rlm.drain_spool(rlm.Keeper(self.view())), 0)
                    self.assertEqual(rlm.spooled_files(self.places), [])
                    self.assertEqual([("".join(self.texts())).count(word) for word in ("<one>", "<two>")], [1, 1])
                    self.assertEqual(self.kept(), script.data())
                    self.assertEqual(rlm.drain_spool(rlm.Keeper(self.view())), 0)

    def test_what_was_put_aside_and_saved_meanwhile_is_not_saved_twice(self) -> None:
        script = Script()
        script.user("first é")
        script.say("<one>")
        path = self.write(script.data())
        with mock.patch.object(rlm, "link_file", lambda *_: False):
            rlm.put_aside(self.places, path)
        script.say("<two>")
        self.save(self.write(script.data()))
        self.assertEqual(rlm.drain_spool(rlm.Keeper(self.view())), 0)
        self.assertEqual(rlm.spooled_files(self.places), [])
        self.assertEqual([("".join(self.texts())).count(word) for word in ("<one>", "<two>")], [1, 1])
        self.assertEqual(self.kept(), script.data())

    def test_the_end_of_a_file_that_an_older_program_put_aside_is_read(self) -> None:
        script = Script()
        script.user("first é")
        script.say("<one>")
        cut = len(script.data())
        script.user("second")
        script.say("<two>")
        self.save(self.write(script.data()[:cut]))
        rlm.ensure_folder(self.places.spool())
        rlm.replace_file(self.places.spooled(SESSION, cut), script.data()[cut:])
        self.assertEqual(rlm.drain_spool(rlm.Keeper(self.view())), 1)
        self.assertEqual(rlm.spooled_files(self.places), [])
        self.save(self.write(script.data()))
        self.assertEqual([("".join(self.texts())).count(word) for word in ("<one>", "<two>")], [1, 1])
        self.assertEqual(self.kept(), script.data())

    def test_what_was_put_aside_stays_until_all_of_it_is_saved(self) -> None:
        script = Script()
        for n in range(9):
            script.user(f"<{n}> é" + "p" * 3000)
            script.say("fine")
        path = self.write(script.data())
        rlm.put_aside(self.places, path)
        os.unlink(path)
        n_drains = 0
        with mock.patch.object(rlm, "SLICE_BYTES", 5000):
            while rlm.spooled_files(self.places):
                rlm.drain_spool(rlm.Keeper(self.view()), until_s=0)
                n_drains += 1
        self.assertGreater(n_drains, 1)
        self.assertEqual([("".join(self.texts())).count(f"<{n}>") for n in range(9)], [1] * 9)
        self.assertEqual(self.kept(), script.data())

    def test_a_file_that_vanished_from_the_spool_does_not_keep_the_others_in_it(self) -> None:
        script = Script()
        script.user("first é")
        script.say("<one>")
        path = self.write(script.data())
        rlm.put_aside(self.places, path)
        os.unlink(path)
        other = "00000000" + SESSION[8:]
        gone = (self.places.spooled(other, 0), other)  # another session has saved it meanwhile
        with mock.patch.object(rlm, "spooled_files", return_value=[gone, *rlm.spooled_files(self.places)]):
            self.assertEqual(rlm.drain_spool(rlm.Keeper(self.view())), 1)
        self.assertEqual(rlm.spooled_files(self.places), [])
        self.assertEqual("".join(self.texts()).count("<one>"), 1)

    def test_one_that_cannot_be_read_does_not_keep_the_others_in_the_spool(self) -> None:
        sessions = [f"{n}" * 8 + SESSION[8:] for n in range(3)]
        for n, session in enumerate(sessions):
            script = Script(session=session, start=500 * n)
            script.user(f"first é {n}")
            script.say(f"<{n}>")
            path = self.write(script.data(), session)
            rlm.put_aside(self.places, path)
            os.unlink(path)
        clean = rlm.redacted_line
        for error in (ValueError("embedded null byte"), RecursionError(), OSError(errno.EIO, "broken"), KeyError("x")):
            def failing(line: bytes, error: Exception = error) -> Any:
                if b"<1>" in line:
                    raise error
                return clean(line)

            with mock.patch.object(rlm, "redacted_line", failing), self.subTest(error=error):
                rlm.drain_spool(rlm.Keeper(self.view()))
            self.assertEqual([name for _, name in rlm.spooled_files(self.places)], [sessions[1]])
            told = rlm.read_file(self.places.hooks_log()).decode().splitlines()[-1]
            self.assertIn(sessions[1], told)
            self.assertIn(f"{type(error).__name__}:", told)
        self.assertEqual(rlm.drain_spool(rlm.Keeper(self.view())), 1)
        self.assertEqual([("".join(self.texts())).count(f"<{n}>") for n in range(3)], [1] * 3)

    def test_of_a_file_rewritten_before_its_spooled_version_was_read_both_are_kept(self) -> None:
        first, second = Script(), Script(start=500)
        first.user("first é" + "p" * 3000)
        first.say("<one>")
        second.user("second é")
        second.say("<two>")
        for longer, shorter in ((first, second), (second, first)):
            self.other_home(f"other {len(longer.data())}")
            path = self.write(longer.data())
            rlm.put_aside(self.places, path)
            os.unlink(path)
            path = self.write(shorter.data())
            self.save(path)
            rlm.drain_spool(rlm.Keeper(self.view()))
            self.assertEqual([("".join(self.texts())).count(word) for word in ("<one>", "<two>")], [1, 1])
            self.assertTrue(rlm.is_saved(self.places, path))

    def test_drafts_that_a_killed_process_left_are_swept_after_a_day(self) -> None:
        drafts = []
        for target in (self.places.spooled(SESSION, 0), self.places.transcript(SESSION), self.places.reading(SESSION)):
            drafts.append(rlm.temporary_of(target))
            rlm.ensure_folder(os.path.dirname(target))
            rlm.replace_file(drafts[-1], b"secret\n", mtime_ns=10**18)  # such a draft gets the time of its transcript
        kept = os.path.join(self.places.transcripts(), "x.tmp.txt")
        rlm.replace_file(kept, b"")
        rlm.drain_spool(rlm.Keeper(self.view()))
        self.assertEqual([path for path in drafts if not os.path.exists(path)], [])
        with mock.patch.object(rlm, "now", return_value=rlm.now() + 1.1 * rlm.DAY_S):
            rlm.drain_spool(rlm.Keeper(self.view()))
        self.assertEqual([path for path in (*drafts, kept) if os.path.exists(path)], [kept])

    def test_foreign_files_in_the_spool_are_left_alone(self) -> None:
        rlm.ensure_folder(self.places.spool())
        for name in ("x.jsonl", "x@.jsonl", "x@-5.jsonl", "@", "x@5.txt", "é@5"):
            rlm.replace_file(os.path.join(self.places.spool(), name), b"{}\n")
        self.assertEqual(rlm.spooled_files(self.places), [])
        self.assertEqual(rlm.drain_spool(rlm.Keeper(self.view())), 0)
        self.assertEqual(len(os.listdir(self.places.spool())), 6)


class HistoryTest(KeepCase):
    def history(self, n_files: int = 3) -> None:
        """Past conversations of two projects."""
        for n in range(n_files):
            script = Script(session=f"{n:08x}-d4a0-4b3f-a780-c76246539c7a", start=1000 * n)
            for turn in range(4):
                script.noise()
                script.user(f"<asked {n}.{turn}> {HARD}" + "p" * 1500)
                script.bash(f"c{n}{turn}", f"make {turn}", "ok é")
                script.say(f"<said {n}.{turn}>")
            self.write(script.data(), script.session, folder=f"-home-dev-{n % 2}")

    def store_files(self) -> dict[str, bytes]:
        """Every file of the store, without the index, by its name."""
        found = {}
        for folder, _, names in os.walk(os.path.join(self.home, ".claude", "rlm")):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    found[os.path.join(folder, name)] = file.read()
        return found

    def test_import_without_an_argument_reads_the_clients_folder(self) -> None:
        self.history()
        moved = os.path.join(self.home, "moved é")
        for n, env in enumerate(({}, {"CLAUDE_CONFIG_DIR": moved})):
            with self.subTest(env=env):
                if env:
                    os.rename(os.path.join(self.home, ".claude"), moved)
                    shutil.rmtree(os.path.join(moved, "rlm"))
                done = self.cli("import", "--json", env=env)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                data = json.loads(done.stdout)
                self.assertEqual((data["transcripts"], data["unchanged"], data["refused"]), (3, 0, []))
                self.assertGreaterEqual(data["new"], 3)
                with mock.patch.dict(os.environ, env):
                    self.places = rlm.Places()
                    self.assertEqual("".join(self.texts()).count("<said 2.3>"), 1)
                again = self.cli("import", env=env)
                self.assertEqual(again.returncode, 0)
                self.assertEqual(again.stdout, b"Nothing new in 3 transcripts.\n")
                self.assertTrue(os.path.isdir(os.path.join(moved if n else os.path.join(self.home, ".claude"), "rlm")))

    def test_a_file_or_a_folder_can_be_named(self) -> None:
        self.history()
        path = os.path.join(self.projects, "-home-dev-1")
        for each, n_files in ((os.path.join(path, os.listdir(path)[0]), 1), (self.projects + "/-home-dev-0", 2), (self.projects, 3)):
            done = self.cli("import", each, "--dry-run", "--json")
            self.assertEqual(json.loads(done.stdout)["transcripts"], n_files)
        shutil.move(self.projects, os.path.join(self.home, "backup é"))
        done = self.cli("import", "backup é", "--json")
        self.assertEqual(json.loads(done.stdout)["transcripts"], 3)

    def test_without_any_conversation_it_says_where_it_looked(self) -> None:
        done = self.cli("import")
        self.assertEqual(done.returncode, 1)
        self.assertIn(os.path.join(self.home, ".claude", "projects").encode(), done.stderr)
        os.makedirs(self.projects)
        done = self.cli("import")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(b"0 chunks from 0 transcripts", done.stdout)

    def test_a_dry_run_changes_nothing(self) -> None:
        self.history()
        self.assertEqual(self.store_files(), {})
        done = self.cli("import", "--dry-run", "--json")
        n_bytes = sum(os.path.getsize(path) for path in rlm.transcript_paths(self.projects))
        data = json.loads(done.stdout)
        self.assertEqual([data[key] for key in ("transcripts", "unsaved", "n_bytes", "kinds")], [3, 3, n_bytes, {}])
        self.assertEqual(self.store_files(), {})
        self.cli("import")
        before = self.store_files()
        self.assertTrue(before)
        done = self.cli("import", "--dry-run")
        self.assertEqual(done.stdout, b"Would read 0 transcripts, 0 B, of 3.\n")
        self.assertEqual(self.store_files(), before)

    @unittest.skipIf(os.geteuid() == 0, "root reads every file")
    def test_a_transcript_without_permission_is_named_and_the_others_arrive(self) -> None:
        self.history()
        paths = rlm.transcript_paths(self.projects)
        os.chmod(paths[0], 0)
        done = self.cli("import", "--json")
        self.assertEqual(done.returncode, 1)
        self.assertIn(paths[0], json.loads(done.stdout)["refused"][0])
        os.chmod(paths[0], 0o600)
        self.assertEqual(json.loads(self.cli("import", "--json").stdout)["transcripts"], 1)

    def test_a_transcript_that_cannot_be_read_is_named_and_the_others_arrive(self) -> None:
        self.history()
        paths, opened = sorted(rlm.transcript_paths(self.projects)), open
        failed = []

        def failing(path: Any, *more: Any, **options: Any) -> Any:
            """open, with a broken disk below one file."""
            if path == paths[0]:
                failed.append(path)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return opened(path, *more, **options)

        with mock.patch("builtins.open", failing):
            done = rlm.import_transcripts(self.view(), paths, lambda *_: None)
        self.assertTrue(failed)
        self.assertEqual(done.refused, [f"{paths[0]}: cannot be read ({os.strerror(errno.EIO)})"])
        self.assertEqual([("".join(self.texts())).count(f"<said {n}.3>") for n in range(3)], [0, 1, 1])
        self.assertEqual((self.import_all().n_known, "".join(self.texts()).count("<said 0.3>")), (2, 1))

    def test_a_transcript_with_an_impossible_time_does_not_keep_the_others_out(self) -> None:
        for n, at in enumerate(("2026-11-21T07:13:49.642Z", "0001-01-01T00:00:00", "2026-11-22T07:13:49.642Z")):
            script = Script(session=f"{n:08x}-d4a0-4b3f-a780-c76246539c7a", start=1000 * n)
            script.extra = {"timestamp": at}
            script.user(f"<asked {n}> {HARD}")
            script.say(f"<said {n}>")
            self.write(script.data(), script.session)
        done = self.cli("import", "--json")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual((json.loads(done.stdout)["transcripts"], json.loads(done.stdout)["refused"]), (3, []))
        self.assertEqual(["".join(self.texts()).count(f"<said {n}>") for n in range(3)], [1, 1, 1])

    def test_very_many_transcripts_that_cannot_be_read_are_counted(self) -> None:
        self.history(23)
        options = argparse.Namespace(path="", project="", dry_run=False)
        with mock.patch.object(rlm.Keeper, "save", side_effect=OSError(errno.EIO, os.strerror(errno.EIO))):
            answer = rlm.import_command(rlm.Call(rlm.Store(self.places)), options)
        self.assertTrue(answer.failed)
        self.assertEqual((len(answer.notes), answer.notes[-1]), (21, "not imported: 3 more"))
        self.assertEqual(len(answer.data["refused"]), 23)

    def test_killed_at_any_write_and_run_again_gives_what_one_run_gives(self) -> None:
        self.history(2)
        self.import_all()
        wanted, copies = self.rows(), [self.kept(rlm.transcript_name(p)) for p in rlm.transcript_paths(self.projects)]

        def dying(n_calls: int, half: bool, name: str) -> Any:
            """A function like rlm's of that name, at whose n-th call the process is killed, half way or before it."""
            real, left = getattr(rlm if name == "write_all" else os, name), [n_calls]

            def call(first: Any, *more: Any, **options: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    if half:
                        os.write(first, more[0][: len(more[0]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(first, *more, **options)

            return call

        n_killed = 0
        for name, half in (("write_all", False), ("write_all", True), ("replace", False), ("ftruncate", False)):
            for n in range(1, 99):
                self.other_home(f"{name} {half} {n}")

                def run(n: int = n, name: str = name, half: bool = half) -> None:
                    with mock.patch.object(rlm if name == "write_all" else os, name, dying(n, half, name)):
                        self.import_all()

                code = ended(forked(run))
                if code == 0:
                    break
                self.assertEqual(code, -signal.SIGKILL)
                n_killed += 1
                with self.subTest(name=name, half=half, n=n):
                    self.assertEqual(self.import_all().refused, [])
                    self.assertEqual(self.rows(), wanted)
                    self.assertEqual([self.kept(rlm.transcript_name(p)) for p in rlm.transcript_paths(self.projects)], copies)
                    self.assertEqual(self.import_all().n_new, 0)
            else:
                self.fail("it never ends by itself")
        self.assertGreater(n_killed, 20)

    def test_the_command_killed_at_any_moment_and_run_again_gives_what_one_run_gives(self) -> None:
        self.history(4)
        self.cli("import")
        wanted, n_killed = self.rows(), 0
        shutil.rmtree(os.path.join(self.home, ".claude", "rlm"))
        for wait_s in (0.02, 0.05, 0.08, 0.12):  # it starts in 0.05
            process = started("import", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                process.kill()
                n_killed += process.wait() == -signal.SIGKILL
        self.assertGreater(n_killed, 0)
        self.assertEqual(self.cli("import").returncode, 0)
        self.assertEqual(self.rows(), wanted)

    def test_two_imports_at_once_store_everything_once(self) -> None:
        self.history(6)
        runs = [started("import", "--json", stdout=subprocess.PIPE) for _ in range(2)]
        counts = [json.loads(run.communicate(timeout=60)[0])["new"] for run in runs]
        self.assertEqual([run.returncode for run in runs], [0, 0])
        found = self.rows()
        self.assertEqual(sum(counts), len(found))
        shutil.rmtree(os.path.join(self.home, ".claude", "rlm"))
        self.cli("import")
        self.assertEqual(self.rows(), found)
        for path in rlm.transcript_paths(self.projects):
            self.assertEqual(self.kept(rlm.transcript_name(path)), rlm.read_file(path))


if __name__ == "__main__":
    unittest.main()
