"""Memories that name files say when those changed or vanished; checked with real files and a real git repository."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Any
from unittest import mock

from tests.support import TempHome, bytecode, rlm

TEXT = "The pool in src/db.py:12 keeps 5 connections, `src/api.py` asks it, README.md says why."


class StaleCase(TempHome):
    def setUp(self) -> None:
        super().setUp()
        self.top = os.path.realpath(tempfile.mkdtemp(prefix="rlm shop é "))
        self.addCleanup(shutil.rmtree, self.top, ignore_errors=True)
        for name in ("src/db.py", "src/api.py", "README.md"):
            self.write(name, f"# {name}\n")
        for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
            self.git(*command)
        patch = mock.patch.dict(os.environ, CLAUDE_PROJECT_DIR=self.top)
        patch.start()
        self.addCleanup(patch.stop)

    def write(self, name: str, text: str) -> None:
        path = os.path.join(self.top, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def git(self, *words: str) -> str:
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=self.top, check=True,
                              capture_output=True, text=True).stdout.strip()

    def remembered(self, text: str = TEXT, **more: Any) -> str:
        return str(self.call("rlm_remember", content=text, **more).data["id"])

    def record(self, wanted: str) -> dict[str, Any]:
        view = self.view()
        return dict(view.record(view.doc(view.ordinal_of(wanted))))

    def stale(self, *words: str, code: int = 0) -> Any:
        done = self.cli("stale", "--json", *words)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)

    def hook(self, event: str, **payload: Any) -> str:
        script = os.path.join(os.path.dirname(rlm.PROGRAM), "hooks", rlm.HOOKS[event].file)
        told = {"hook_event_name": event, "session_id": "s-now", "cwd": self.top, **payload}
        done = subprocess.run([sys.executable, "-I", "-S", script], input=json.dumps(told).encode(), capture_output=True,
                              env={**os.environ, **bytecode()}, cwd=self.home, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return str(json.loads(done.stdout)["hookSpecificOutput"]["additionalContext"]) if done.stdout[:1] == b"{" else ""


class StaleTest(StaleCase):
    def test_a_memory_keeps_the_print_of_each_file_it_names_and_the_commit(self) -> None:
        code = self.record(self.remembered())["code"]
        self.assertEqual((code["root"], code["commit"]), (self.top, self.git("rev-parse", "HEAD")))
        self.assertEqual(sorted(code["files"]), ["README.md", "src/api.py", "src/db.py"])
        self.git("pack-refs", "--all")
        self.assertEqual(rlm.checkout(os.path.join(self.top, "src")), (self.top, code["commit"]))
        self.git("worktree", "add", "-q", "-b", "side", os.path.join(self.top, "side"))
        self.assertEqual(rlm.checkout(os.path.join(self.top, "side")),
                         (os.path.join(self.top, "side"), code["commit"]))
        self.git("checkout", "-q", "--detach")
        self.assertEqual(rlm.checkout(self.top), (self.top, code["commit"]))

    def test_every_answer_that_shows_it_says_what_changed_and_what_is_gone(self) -> None:
        wanted = self.remembered()
        asked = {"rlm_search": {"query": "connections of the pool"}, "rlm_recall": {}, "rlm_peek": {"chunk_id": wanted}}
        self.assertNotIn("since", "".join(self.call(name, **words).text for name, words in asked.items()))
        self.write("src/api.py", "# other\n")
        self.write("README.md", "# longer than it was\n")
        os.remove(os.path.join(self.top, "src/db.py"))
        for name, words in asked.items():
            with self.subTest(name):
                self.assertIn("src/db.py is gone, 2 files changed since", self.call(name, **words).text)
        self.assertEqual(self.stale()["stale"][0]["stale"],
                         {"gone": ["src/db.py"], "changed": ["src/api.py", "README.md"]})
        self.assertIn("src/db.py gone", self.cli("stale").stdout.decode())

    def test_an_episode_says_it_of_its_files_too(self) -> None:
        self.call("rlm_capture", summary="Raised the limit of connections", task_type="bugfix", outcome="success",
                  files="src/db.py, src/api.py")
        os.remove(os.path.join(self.top, "src/db.py"))
        self.assertIn("src/db.py is gone", self.call("rlm_search", query="limit of connections").text)

    def test_what_was_written_back_as_it_was_is_fresh(self) -> None:
        self.remembered()
        self.write("src/db.py", "# other\n")
        self.assertEqual(self.stale()["total"], 1)
        self.write("src/db.py", "# src/db.py\n")
        self.stale(code=1)
        self.write("src/db.py", "# other\n")
        self.remembered()  # said again: it is true of the code as it is now
        self.stale(code=1)

    def test_stale_lists_by_project_and_limit_and_ends_with_1_without_any(self) -> None:
        self.assertEqual(self.stale(code=1)["stale"], [])
        ids = [self.remembered(f"{n}: {TEXT}") for n in range(3)]
        self.write("src/db.py", "# other\n")
        found = self.stale("--limit", "2")
        self.assertEqual((found["total"], len(found["stale"])), (3, 2))
        self.assertLessEqual({row["id"] for row in found["stale"]}, set(ids))
        self.stale("--project", "nobody", code=1)
        self.stale("--project", "test")
        self.assertEqual(self.cli("stale", "--limit", "0").returncode, 2)

    def test_nothing_outside_the_project_is_read_and_nothing_is_claimed_without_the_folder(self) -> None:
        outside = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, outside)
        with open(os.path.join(outside, "key.txt"), "w", encoding="utf-8") as file:
            file.write("x")
        os.symlink(outside, os.path.join(self.top, "link"))
        os.mkfifo(os.path.join(self.top, "pipe.txt"))
        text = f"see link/key.txt, {outside}/key.txt, pipe.txt and ../{os.path.basename(outside)}/key.txt"
        self.assertNotIn("code", self.record(self.remembered(text)))
        self.assertNotIn("code", self.record(self.remembered("src/db.py elsewhere", project="other")))
        wanted = self.remembered()
        shutil.rmtree(self.top)
        self.assertNotIn("gone", self.call("rlm_peek", chunk_id=wanted).text)

    def test_a_malformed_field_claims_nothing(self) -> None:
        for code in (7, {}, {"root": 7}, {"root": self.top}, {"root": self.top, "files": [1]}, {"root": "src", "files": {}},
                     {"root": "\0", "files": {"a": ""}}, {"root": self.top, "files": {"\0": "1"}}):
            self.assertEqual(rlm.code_changes({"code": code}), {}, code)
        files = {"../" * 9 + "etc/passwd": "1", "src": "1", "src/db.py/x": 1}
        self.assertEqual(rlm.code_changes({"code": {"root": self.top, "files": files}}), {"gone": list(files)})

    def test_a_large_file_is_read_at_both_ends_only(self) -> None:
        self.write("big.txt", "a" * (300 << 10))
        first = rlm.file_print(self.top, "big.txt")
        self.write("big.txt", "a" * (300 << 10) + "b")
        self.assertNotEqual(rlm.file_print(self.top, "big.txt"), first)
        self.write("big.txt", "a" * ((300 << 10) - 1) + "b")
        self.assertNotEqual(rlm.file_print(self.top, "big.txt"), first)

    def test_a_shown_memory_costs_no_more_than_2_ms(self) -> None:
        for n in range(rlm.MAX_CODE_FILES):
            self.write(f"src/{n}.py", "x" * 20_000)
        record = {"code": rlm.code_now(self.top, [f"src/{n}.py" for n in range(rlm.MAX_CODE_FILES)])}
        self.assertEqual(len(record["code"]["files"]), rlm.MAX_CODE_FILES)
        took = []
        for _ in range(7):
            rlm.PRINTS.clear()
            began_s = time.perf_counter()
            rlm.code_changes(record)
            took.append(time.perf_counter() - began_s)
        self.assertLess(min(took), 0.002)

    def test_an_export_brings_it_along(self) -> None:
        self.remembered()
        exported = self.cli("export").stdout
        shutil.rmtree(self.places.home)
        self.assertEqual(self.cli("import", "-", stdin=exported).returncode, 0)
        os.remove(os.path.join(self.top, "src/db.py"))
        self.assertEqual(self.stale()["stale"][0]["stale"], {"gone": ["src/db.py"]})


class StaleInHooksTest(StaleCase):
    def saved_session(self) -> None:
        """A transcript in which src/db.py was read, saved by the hook."""
        use = {"type": "tool_use", "id": "t1", "name": "Read", "input": {"file_path": os.path.join(self.top, "src/db.py")}}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": "1\tpool = 5"}
        rows = [("user", "How large is the connection pool of the warehouse?"), ("assistant", [use]), ("user", [result]),
                ("assistant", [{"type": "text", "text": "The warehouse connection pool holds five connections."}])]
        path = os.path.join(self.home, "projects", "shop", "s-old.jsonl")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            for n, (role, content) in enumerate(rows):
                file.write(json.dumps({
                    "type": role, "uuid": f"u{n}", "parentUuid": f"u{n - 1}" if n else None, "sessionId": "s-old",
                    "cwd": self.top, "timestamp": f"2026-11-20T10:00:0{n}.000Z",
                    "message": {"role": role, "content": content}}) + "\n")
        self.hook("PreCompact", session_id="s-old", transcript_path=path, trigger="manual")

    def test_a_saved_conversation_keeps_its_files_and_the_hooks_say_what_became_of_them(self) -> None:
        self.saved_session()
        self.write("src/db.py", "# other\n")
        found = self.stale()["stale"]
        self.assertEqual([row["stale"] for row in found], [{"changed": ["src/db.py"]}])
        self.assertEqual(found[0]["commit"], self.git("rev-parse", "HEAD"))
        self.assertIn("src/db.py changed since]", self.hook("SessionStart", source="startup"))
        prompt = "how many connections does the warehouse connection pool hold"
        self.assertIn("src/db.py changed since]", self.hook("UserPromptSubmit", prompt=prompt))
        with mock.patch.dict(os.environ, RLM_LANG="fr"):
            self.assertIn("src/db.py modifié depuis]", self.hook("SessionStart", source="startup"))

    def test_of_two_that_answer_alike_the_fresh_one_is_shown_first(self) -> None:
        text = "The warehouse connection pool of {} holds five connections."
        self.write("src/c.py", "c")
        ids = {name: self.remembered(text.format(name)) for name in ("src/db.py", "src/api.py", "src/c.py", "README.md")}
        for name in ("src/c.py", "README.md"):
            self.write(name, "# other\n")
        shown = self.hook("UserPromptSubmit", prompt="how many connections does the warehouse connection pool hold")
        order = sorted((shown.find(wanted) if wanted in shown else 1 << 30, name) for name, wanted in ids.items())
        self.assertEqual({name for _, name in order[:2]}, {"src/db.py", "src/api.py"}, shown)


if __name__ == "__main__":
    unittest.main()
