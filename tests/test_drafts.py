"""Drafts of episodes: what a conversation did and how it came out is guessed from its transcript, and stays private
until it is confirmed."""
from __future__ import annotations

import json
import os
import time
import unittest
from typing import Any
from unittest import mock

from tests import sessions_scripted as scripted
from tests.support import rlm
from tests.test_hooks import HookCase

FIXED = """\
U The checkout total is wrong when a coupon is used twice, please fix it.
$ pytest -q !! E   AssertionError: 12 != 10\\n1 failed
E src/cart.py | total - coupon | total - min(coupon, total)
$ pytest -q => 41 passed in 2s
C A coupon was subtracted once per line. It is subtracted once now, all 41 tests pass.
U thanks!""".split("\n")
MORE = ["U one more thing: rename the module to basket", "E src/basket.py | a | b", "C Renamed.",
        "U no, undo that, it broke the imports"]


class DraftCase(HookCase):
    def write(self, lines: list[str], name: str = "a", folder: str = "", minutes_ago: float = 60) -> tuple[str, str]:
        """A transcript of a script in the project's folder; its session and its path."""
        at_s = int(rlm.now() - 60 * minutes_ago)
        session, data = scripted.transcript(lines, folder or self.folder, name, at_s)
        path = os.path.join(self.transcripts, session + ".jsonl")
        os.makedirs(self.transcripts, exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        os.utime(path, (at_s + 60, at_s + 60))
        return session, path

    def conversation(self, lines: list[str]) -> rlm.Conversation:
        return rlm.Conversation(rlm.Keeper(rlm.View(self.places)), self.write(lines)[1], {})

    def item(self, lines: list[str]) -> dict[str, Any]:
        return rlm.drafted_item(self.conversation(lines))

    def start(self, **more: Any) -> str:
        """The next session begins."""
        return self.fire("SessionStart", **more)

    def shown(self, name: str, /, **arguments: Any) -> Any:
        """What a tool answers in the project's folder."""
        with mock.patch.dict(os.environ, CLAUDE_PROJECT_DIR=self.folder):
            return self.call(name, **arguments)

    def drafts(self, **more: Any) -> list[dict[str, str]]:
        return list(self.shown("rlm_review", action="drafts", limit=50, **more).data["changes"])


class GuessTest(DraftCase):
    def test_type_and_outcome_are_right_in_four_of_five_conversations(self) -> None:
        for text, least in ((scripted.SESSIONS, 30), (scripted.LATER, 90), (scripted.FRESH, 20)):
            rows = [(kind, outcome, self.item(lines)) for kind, outcome, lines in scripted.sections(text)]
            wrong = [(kind, outcome, item) for kind, outcome, item in rows
                     if (item.get("task_type", "none"), item.get("outcome", "none")) != (kind, outcome)]
            self.assertGreaterEqual(len(rows), least)
            self.assertLessEqual(len(wrong), len(rows) // 5, wrong)

    def test_what_was_done_met_and_mended_is_told(self) -> None:
        item = self.item(FIXED)
        self.assertEqual((item["task_type"], item["outcome"], item["files"]), ("bugfix", "success", ["src/cart.py"]))
        self.assertEqual(item["resolved"], [["AssertionError: 12 != 10",
                                             "src/cart.py (+1 −1): A coupon was subtracted once per line."]])
        self.assertRegex(item["summary"], "^The checkout total is wrong .* → A coupon was .* 41 tests pass.$")
        self.assertIn("user: thanks", item["draft"])
        self.assertIn("test passed last", item["draft"])
        open_error = self.item([*FIXED[:3], "$ pytest -q !! E   TypeError: x\n1 failed", "C I could not fix it."])
        self.assertEqual((open_error["outcome"], [fix for _, fix in open_error["resolved"]]), ("failure", ["", ""]))
        installed = self.item(["U run the app", "$ python app.py !! ModuleNotFoundError: No module named 'flask'",
                               "$ pip install flask => ok", "$ python app.py => up", "C It runs: flask was not installed."])
        self.assertEqual(installed["resolved"][0][1], "`pip install flask`: It runs: flask was not installed.")

    def test_a_question_leaves_nothing_nor_does_what_claude_captured_itself(self) -> None:
        for lines in (["U what is a monad?", "C A monad is a monoid."], ["U what is in a.py?", "R a.py", "C Two functions."],
                      ["U /model opus"], ["C hello"], [],
                      [*FIXED, 'T mcp__rlm__rlm_capture {"summary": "x"}'], [*FIXED, "$ rlm capture 'x' bugfix success => e-1"]):
            self.assertEqual(self.item(lines), {}, lines)

    def test_what_was_taken_back_does_not_count(self) -> None:
        lines = [*FIXED[:1], "C Which file?", "U cart.py, of course", "E src/wrong.py | a | b", "$ pytest !! 1 failed", "B",
                 "U try it in src/cart.py", *FIXED[2:]]
        item = self.item(lines)
        self.assertEqual((item["files"], item["outcome"], item["resolved"]), (["src/cart.py"], "success", []))
        self.assertIn("taken back", item["draft"])

    def test_commands_are_told_by_what_they_check(self) -> None:
        for command, told in (
                ("pytest -q tests/test_a.py", "test"), ("cd web && npm run test:unit -- --ci", "test"), ("make", "build"),
                ("python manage.py test users", "test"), ("./gradlew test", "test"), ("npx tsc --noEmit", "types"),
                ("make test", "test"), ("CI=1 cargo clippy | tail -3", "lint"), ("go build ./... && go test ./...", "build test")):
            self.assertEqual(rlm.checked_by(command), (told.split(), told.split()[-1]), command)
        for command, told in (
                ("docker compose up -d", "docker compose up"), ("python run.py --fast", "python run.py"), ("cat tests/a.py", ""),
                ("grep -rn test src", ""), ("git commit -m 'test; build'", ""), ("[ -f a ] && test -d b", ""), ("", "")):
            self.assertEqual(rlm.checked_by(command), ([], told), command)

    def test_of_what_a_command_printed_the_error_is_told(self) -> None:
        for text, told in (("Exit code 1\n=== FAILURES ===\nE   ValueError: bad\n1 failed", "ValueError: bad"),
                           ("\x1b[31merror\x1b[0m TS2339: no x\nfound 1", "error TS2339: no x"),
                           ("sh: foo: not found", "sh: foo: not found"),
                           ("Exit code 2\nsomething", "something"), ("", ""), ("x" * 90_000 + "\nfatal: no", "fatal: no")):
            self.assertEqual(rlm.telling_error(text), told)

    def test_whatever_a_transcript_holds_nothing_is_raised(self) -> None:
        for lines in (["U "], ["U \x00\ud800".encode("utf-8", "replace").decode() + "x" * 100_000, "$  => "], ["X", "X"], ["B", "U a"],
                      ["U fix it", "$ ; | && -x = <a !! "], ["U fix", "E  |  | "], ["T Bash {}", "T Edit {}", "U no"]):
            self.item(lines)


class LifeTest(DraftCase):
    def test_a_draft_is_made_at_the_next_start_and_found_by_nothing_but_its_review(self) -> None:
        session, path = self.write(FIXED)
        self.fire("SessionEnd", session_id=session, transcript_path=path)
        self.assertEqual(self.drafts(), [])  # not in that second
        said = self.start()
        [draft] = self.drafts()
        self.assertIn("bugfix, success", draft["why"])
        self.assertIn("rlm_review action=drafts", said)
        self.assertNotIn(draft["id"], said)
        self.assertLessEqual(len(said.encode()), rlm.BRIEF_BYTES)
        self.assertIn("No episodes", self.shown("rlm_recall", kind="episode").text)
        for answer in (self.shown("rlm_recall", query="checkout coupon", kind="episode"), self.shown("rlm_search", query="coupon"),
                       self.shown("rlm_recall", query="AssertionError: 12 != 10", kind="episode"), self.shown("rlm_status")):
            self.assertNotIn(draft["id"], json.dumps(answer.data))
        self.assertNotIn(draft["id"], self.fire("UserPromptSubmit", prompt="checkout total coupon twice wrong subtracted"))
        with mock.patch.dict(os.environ, CLAUDE_PROJECT_DIR=self.home):  # another project
            self.assertEqual(self.call("rlm_review", action="drafts").data["changes"], [])
        self.assertEqual(self.log_lines(), [])

    def test_it_is_confirmed_as_it_is_or_in_better_words_or_dropped(self) -> None:
        sessions = [self.write(FIXED, name)[0] for name in "abc"]
        self.start()
        plain, better, dropped = ids = [f"e-{rlm.digest(session)[:8]}" for session in sessions]
        self.assertEqual({row["id"] for row in self.drafts()}, set(ids))
        self.shown("rlm_capture", summary="Coupons were subtracted per line", task_type="bugfix", outcome="success", merge=better)
        self.shown("rlm_forget", insight_id=dropped)
        self.assertEqual([row["id"] for row in self.drafts()], [plain])
        before = self.log_bytes()
        self.assertEqual(self.shown("rlm_review", action="drafts").data["applied"], False)
        self.assertEqual(self.log_bytes(), before)
        self.drafts(apply=True)
        found = {row["id"]: row for row in self.shown("rlm_recall", kind="episode").data["episodes"]}
        self.assertEqual(set(found), {plain, better})
        self.assertIn("The checkout total", found[plain]["text"])
        self.assertTrue(found[better]["text"].startswith("Coupons were subtracted per line"))
        self.assertEqual(found[better]["files"], ["src/cart.py"])
        again = self.shown("rlm_recall", query="AssertionError: 12 != 10", kind="episode")
        self.assertIn("seen 2 times, fixed by: src/cart.py", again.text + " ".join(again.notes))

    def test_a_conversation_is_drafted_once_and_renewed_only_while_it_is_a_draft(self) -> None:
        session, path = self.write(FIXED)
        self.start()
        before = self.log_bytes()
        self.start()
        self.assertEqual(self.log_bytes(), before)
        [draft] = self.drafts()
        self.write(FIXED + MORE, minutes_ago=30)
        self.start()
        [renewed] = self.drafts()
        self.assertEqual(renewed["id"], draft["id"])
        self.assertIn("src/basket.py", renewed["what"])
        self.assertIn("complaint", renewed["why"])
        self.drafts(apply=True)
        self.write([*FIXED, *MORE, "U thanks"], minutes_ago=25)
        self.start()
        [kept] = self.shown("rlm_recall", kind="episode").data["episodes"]
        self.assertEqual((self.drafts(), kept["outcome"]), ([], "failure"))

    def test_a_draft_goes_when_claude_captures_the_episode_after_all(self) -> None:
        self.write(FIXED)
        self.start()
        self.assertEqual(len(self.drafts()), 1)
        self.write([*FIXED, 'T mcp__rlm__rlm_capture {"summary": "x"}'], minutes_ago=30)
        self.start()
        self.assertEqual(self.drafts(), [])

    def test_a_dropped_draft_and_what_was_forgotten_or_erased_do_not_come_back(self) -> None:
        for how in ("drop", "forget", "erase"):
            lines = [FIXED[0] + " " + how, *FIXED[1:]]
            session, _ = self.write(lines, how)
            self.start()
            [draft] = self.drafts()
            if how == "drop":
                self.shown("rlm_forget", insight_id=draft["id"])
            elif how == "forget":
                self.shown("rlm_forget", insight_id=self.shown("rlm_list_chunks").data["chunks"][0]["id"])
                self.shown("rlm_forget", insight_id=draft["id"])
            else:
                self.assertEqual(self.cli("forget", "--erase", "--session", session, "--yes").returncode, 0)
                self.assertNotIn(b"please fix it. erase", self.log_bytes())
            self.assertEqual(self.drafts(), [], how)
            self.write([*lines, "U and now?"], how, minutes_ago=20)
            self.start()
            self.assertEqual(self.drafts(), [], how)

    def test_secrets_and_excluded_projects_are_in_no_draft(self) -> None:
        secret = "ghp_" + "a1B2c3D4e5" * 4
        hidden = os.path.join(self.home, "hidden")
        os.makedirs(hidden)
        rlm.write_config(self.places, {"exclude": [hidden]})
        self.write([f"U fix the login, the token is {secret}", f"$ curl -H 'X: {secret}' localhost !! error: {secret} refused",
                    "E src/a.py | a | b", "C Fixed the login for that token now."])
        self.start()
        self.write(FIXED, "hidden", folder=hidden)
        self.write([*FIXED[:1], "C Where?"], "began here", minutes_ago=40)
        self.start()
        [draft] = self.drafts()
        self.assertIn("[redacted", draft["what"])
        self.assertNotIn(secret.encode(), self.log_bytes())

    def test_compacting_and_indexing_leave_a_draft_what_it_is(self) -> None:
        self.write(FIXED)
        self.start()
        before = self.drafts()
        rlm.catch_up(self.view())
        self.assertEqual(self.drafts(), before)
        rlm.rewrite(self.view(), wait_s=1.0)
        self.assertEqual(self.drafts(), before)
        self.assertIn("No episodes", self.shown("rlm_recall", kind="episode").text)
        self.assertNotIn(before[0]["id"], self.cli("export").stdout.decode())

    def test_a_start_is_bounded_and_the_idle_server_does_the_rest(self) -> None:
        for name in "abc":
            self.write(FIXED, name)
        began_s = time.monotonic()
        self.raw("SessionStart", json.dumps(self.payload("SessionStart")).encode(), self.patched(DRAFT_S=-1.0))
        self.assertLess(time.monotonic() - began_s, 5)
        self.assertEqual(len(self.drafts()), 1)  # one at least, else a slow machine would never have any
        slug = rlm.re.sub(r"[^A-Za-z0-9]", "-", self.folder)
        os.rename(self.transcripts, os.path.join(self.home, ".claude", "projects", slug))
        with mock.patch.dict(os.environ, CLAUDE_PROJECT_DIR=self.folder):
            self.assertFalse(rlm.idle_work(self.places))
            self.assertEqual(len(self.drafts()), 3)
            before = self.log_bytes()
            self.assertFalse(rlm.idle_work(self.places))
        self.assertEqual(self.log_bytes(), before)

    def test_what_goes_wrong_is_written_down_and_stops_nothing(self) -> None:
        self.write(FIXED)
        said = self.raw("SessionStart", json.dumps(self.payload("SessionStart")).encode(),
                        self.patched(drafted_item=mock.Mock(side_effect=ValueError("odd"))))
        self.assertIn("The checkout total", said)
        [line] = self.log_lines()
        self.assertIn("not drafted: ValueError: odd", line)


class NamedTest(DraftCase):
    def test_what_claude_cited_or_linked_after_it_was_given_counts_as_touched(self) -> None:
        named = [f"i-0000000{n}" for n in range(4)]
        cited, linked, ignored, before = named
        lines = [f"C I know {before}.", *FIXED, f"C As [{cited}] says.",
                 f'T mcp__rlm__rlm_link {{"members": "{linked} new, i-9 old"}}', f'T mcp__rlm__rlm_peek {{"chunk_id": "{ignored}"}}']
        session, _ = self.write(lines)
        start_s = rlm.now() - 60 * 60 + 10  # after the first line
        with mock.patch.object(rlm, "now", lambda: start_s):
            rlm.ensure_folder(self.places.memory)
            rlm.note_injected(self.places, session=session, project="shop", ids=named, n_bytes=9, score=1.0, reason="prompt")
        self.start()
        self.assertEqual(rlm.named_later(rlm.injected(self.places)), {(session, cited): "cited", (session, linked): "used"})
        self.assertEqual(self.shown("rlm_status").data["injected"]["read"], 2)

    def test_a_memory_that_was_named_counts_once_a_session(self) -> None:
        given = [(100.0, "s1", "a"), (200.0, "s1", "a"), (100.0, "s2", "a"), (100.0, "s2", "b")]
        self.assertEqual(rlm.touched(given, {"b": [101.0]}, {("s1", "a"), ("s3", "a")}), {"a": (1, 2), "b": (1, 1)})


if __name__ == "__main__":
    unittest.main()
