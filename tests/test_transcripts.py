"""Transcripts become readable chunks, each line once, however they are cut, and are kept as they were but for secrets."""
from __future__ import annotations

import json
import os
import random
import unittest
from typing import Any

from tests.support import HARD, TempHome, rlm

CWD = "/home/dev/project"
SEEDS = int(os.environ.get("SEEDS", "12"))
SESSION = "3c57c232-d4a0-4b3f-a780-c76246539c7a"


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
        item, = rlm.turn_chunks(script.turns())
        self.assertEqual(item["summary"], "/compact keep é | /demo a b")
        self.assertNotIn("NOISE", item["text"])

    def test_only_slash_commands_make_no_chunk(self) -> None:
        script = Script()
        script.user("<command-name>/exit</command-name><command-message>exit</command-message>")
        self.assertEqual(list(rlm.turn_chunks(script.turns())), [])

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
                wanted = expected.replace(" → ok: found", " → ok") if name in rlm.QUIET_TOOLS else expected
                self.assertIn(wanted + "\n", script.text() + "\n")

    def test_a_plan_is_kept_whole(self) -> None:
        script = Script()
        script.user("plan it")
        script.call("ExitPlanMode", "a", plan="# Plan\n1. é\n2. b")
        self.assertIn("# Plan\n1. é\n2. b\n\n- ExitPlanMode → no result yet", script.text())

    def test_texts_are_cleaned_before_they_are_cut(self) -> None:
        script = Script()
        secret = "sk-" + "a" * 300
        script.user(f"my {secret}")
        script.bash("a", f"curl -H {secret}", f"{secret}\nmore\n{secret}")
        script.say(secret)
        items, state = rlm.transcript_items(script.lines, final=True,
                                          entry_of=lambda line: rlm.redacted_line(line)[1])
        self.assertNotIn("sk-", json.dumps(items) + json.dumps(state))
        self.assertEqual(items[0]["text"].count("[redacted]"), 5)

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
        items = list(rlm.turn_chunks([first, summary, rest, second]))
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
                items = list(rlm.turn_chunks([main, side, after]))
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
        for size in (cut + 1, cut + 40, len(script.data()) - 1):
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
                self.assertEqual(rlm.first_key(child.lines), state["first"])
                found, after = rlm.transcript_items(child.lines, known=rlm.known_keys([state]), final=True)
                text = "".join(item["text"] for item in found)
                self.assertNotIn("prompt 2", text)
                self.assertNotIn("answer", text.replace("the rest of answer 3", ""))
                self.assertIn("> prompt 3 é\n\n## Claude\nthe rest of answer 3", text)
                self.assertIn("a new way", text)
                self.assertEqual(len(rlm.known_keys([after])), 3)

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
        items = list(rlm.turn_chunks(script.turns(), project_of=os.path.basename))
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
        self.assertEqual({item["project"] for item in items}, {"project"})
        self.assertEqual(parts[0]["branch"], "main")

    def test_a_long_prompt_and_a_long_line_stay_whole_as_far_as_possible(self) -> None:
        script = Script()
        prompt = "é" * 30_000
        script.user(prompt)
        script.say("日" * 20_000)
        items = list(rlm.turn_chunks(script.turns()))
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
                         ("2026-11-21T07:13:49+01:00", True), ("2026-11-21T07:13:49 nonsense", False)):
            script = Script()
            script.user("x", timestamp=at)
            item, = rlm.turn_chunks(script.turns())
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
        for part in ("in the user's words", HARD, "b.py (changed)", "[pending] test it", "mypy → ok: Success", "boom",
                     ids[0], ids[-1]):
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


if __name__ == "__main__":
    unittest.main()
