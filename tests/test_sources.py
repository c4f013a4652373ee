"""Other tools' memories are recognised, read without being changed, and stored once."""
from __future__ import annotations

import json
import os
import sqlite3
import unittest
from contextlib import closing
from typing import Any

from tests.support import HARD, TempHome, rlm


class SourceTest(TempHome):
    def write(self, name: str, data: str | bytes) -> str:
        """Writes a file below the home; its path."""
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
        return path

    def test_mcp_memory(self) -> None:
        rows: list[Any] = [
            {"type": "entity", "name": "Zoé", "entityType": "person", "observations": [HARD, {"content": "dated"}, 5]},
            {"type": "entity", "name": "Bare", "entityType": "place", "observations": []},
            {"type": "relation", "from": "Zoé", "to": "Bare", "relationType": "lives_in"}, {"type": "_aim"}, 7]
        path = self.write("memory.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n\nbroken {\n")
        items = list(rlm.mcp_memory_items(path))
        self.assertEqual([item.get("text") for item in items],
                         [f"Zoé: {HARD}", "Zoé: dated", "Bare: place", "Zoé lives_in Bare", None, None])
        self.assertEqual(items[0]["tags"], ["person", "Zoé"])
        self.assertEqual([item["kind"] for item in items], ["insight"] * 4 + ["damaged"] * 2)
        self.assertTrue(rlm.is_mcp_memory(path))
        self.assertFalse(rlm.is_mcp_memory(self.write("x.jsonl", '{"text":"entity"}\n{"type":"user"}\n')))
        self.assertFalse(rlm.is_mcp_memory(self.home))
        self.assertEqual([i["kind"] for i in rlm.mcp_memory_items(self.home + "/absent")], ["damaged"])

    def episode(self) -> dict[str, Any]:
        """An episode as tempera 0.3 writes it."""
        return {"id": "1234abcd-0000-4000-8000-000000000000", "timestamp_start": "2026-03-01T10:00:00.123456789Z",
                "timestamp_end": "2026-03-01T11:00:00Z", "project": "démo",
                "intent": {"raw_prompt": f"fix {HARD}", "extracted_intent": "fix auth é", "task_type": "bugfix",
                           "domain": ["rust", "auth"]},
                "context": {"files_read": [], "files_modified": ["src/auth.rs"], "tools_invoked": ["cargo test"],
                            "errors_encountered": [{"error_type": "E", "message": "boom", "resolved": True,
                                                    "resolution": "added é"}]},
                "outcome": {"status": "success", "tests_before": None},
                "utility": {"score": None, "retrieval_count": 3, "helpful_count": 2},
                "retrieval_history": [{"timestamp": "2026-04-01T10:00:00Z", "project": "démo", "was_helpful": True}]}

    def test_episodes(self) -> None:
        day = "tempera/episodes/2026-03-01/"
        self.write(day + "session-1234abcd.json", json.dumps(self.episode(), indent=2))
        self.write(day + "session-1234abcd.md", "# a copy")
        self.write(day + "session-1234abcd.diff", "diff")
        self.write(day + "session-aaaaaaaa.md", "# Episode: only é\n\ntext")
        self.write(day + "session-bbbbbbbb.json", "{")
        self.write(day + "session-cccccccc.json", '{"intent": 5}')
        for path in (self.home + "/tempera", self.home + "/tempera/episodes"):
            self.assertTrue(rlm.is_episodes(path))
            items = list(rlm.episode_items(path))
            self.assertEqual([item["kind"] for item in items], ["chunk", "chunk", "damaged", "damaged"])
        first, second = items[:2]
        for part in (HARD, "src/auth.rs", "boom → added é", "bugfix, success, démo", "cargo test"):
            self.assertIn(part, first["text"])
        self.assertEqual(first["tags"], ["episode", "bugfix", "success", "rust", "auth"])
        self.assertEqual((first["uses"], first["project"], first["summary"]), (3, "démo", "fix auth é"))
        self.assertEqual(first["created_at"], "2026-03-01T10:00:00.123456789Z")
        self.assertEqual(second["summary"], "Episode: only é")
        self.assertFalse(rlm.is_episodes(self.home))
        self.assertFalse(rlm.is_episodes(self.home + "/absent"))

    def test_auto_memory(self) -> None:
        base = "projects/-home-dev-project/memory/"
        self.write(base + "MEMORY.md", "# Memory\n- [user](user_role.md) — é\n")
        self.write(base + "user_role.md", '---\nname: user-role\ndescription: "é: senior"\nmetadata:\n  type: user\n'
                   "---\n\nWorks on the backend.\r\n")
        self.write(base + "old.md", "---\nname: old\ndescription: d\ntype: project\n---\n" + "long é\n" * 900)
        self.write("projects/-other/memory/MEMORY.md", "# Notes\n- deploys on Fridays é\n")
        self.write("projects/-none/x.jsonl", "")
        items = list(rlm.auto_memory_items(self.home + "/projects", lambda name: name.rpartition("-")[2]))
        self.assertEqual([(i["kind"], i["project"]) for i in items],
                         [("chunk", "project"), ("insight", "project"), ("chunk", "other")])
        self.assertEqual(items[1]["text"], "é: senior\n\nWorks on the backend.")
        self.assertEqual(items[1]["category"], "preference")
        self.assertEqual(items[1]["tags"], ["auto-memory", "user", "user-role"])
        self.assertIn("deploys on Fridays é", items[2]["text"])
        for path in ("/projects", "/projects/-home-dev-project", "/projects/-home-dev-project/memory"):
            self.assertTrue(rlm.is_auto_memory(self.home + path))
        self.assertEqual(len(list(rlm.auto_memory_items(self.home + "/" + base))), 2)
        self.assertFalse(rlm.is_auto_memory(self.home))
        self.write("elsewhere/memory/notes.md", "no front matter")
        self.assertFalse(rlm.is_auto_memory(self.home + "/elsewhere"))

    def database(self, script: str, *rows: tuple[str, tuple[Any, ...]]) -> str:
        """An SQLite file."""
        path = os.path.join(self.home, "claude mem é#?.db")
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
            for sql, values in rows:
                connection.execute(sql, values)
            connection.commit()
        return path

    def test_claude_mem(self) -> None:
        path = self.database(
            "CREATE TABLE sdk_sessions (id INTEGER PRIMARY KEY, content_session_id TEXT, memory_session_id TEXT,"
            " project TEXT);"
            "CREATE TABLE observations (id INTEGER PRIMARY KEY, memory_session_id TEXT, project TEXT, text TEXT,"
            " type TEXT, title TEXT, subtitle TEXT, facts TEXT, narrative TEXT, concepts TEXT, files_read TEXT,"
            " files_modified TEXT, created_at TEXT, created_at_epoch INTEGER);"
            "CREATE TABLE session_summaries (id INTEGER PRIMARY KEY, memory_session_id TEXT, project TEXT,"
            " request TEXT, learned TEXT, next_steps TEXT, created_at_epoch INTEGER);"
            "CREATE TABLE user_prompts (id INTEGER PRIMARY KEY, content_session_id TEXT, prompt_text TEXT,"
            " created_at TEXT);"
            "CREATE TABLE directives (id INTEGER PRIMARY KEY, project TEXT, content TEXT, created_at TEXT);",
            ("INSERT INTO sdk_sessions VALUES (1, 'client', 'mem', 'démo')", ()),
            ("INSERT INTO observations VALUES (1, 'mem', 'démo', NULL, 'decision', 'Use é', 'sub', ?, ?, ?, '[]', ?, "
             "'2026-01-02T03:04:05.678Z', 1)", ('["one", "two"]', HARD, '["what-changed"]', '["a.py"]')),
            ("INSERT INTO observations VALUES (2, 'mem', 'démo', 'old text', 'bugfix', 'Fixed', NULL, 'not json', "
             "NULL, NULL, NULL, NULL, NULL, 1767323045678)", ()),
            ("INSERT INTO session_summaries VALUES (1, 'mem', 'démo', 'do é', 'that', 'more', 1767323045678)", ()),
            ("INSERT INTO user_prompts VALUES (1, 'client', ?, '2026-01-02T03:04:05.678Z')", (HARD,)),
            ("INSERT INTO directives VALUES (1, NULL, 'always é', NULL)", ()))
        with open(path, "rb") as file:
            before = file.read()
        self.assertTrue(rlm.is_claude_mem(path))
        items = list(rlm.claude_mem_items(path))
        self.assertEqual([item["kind"] for item in items], ["insight", "insight", "chunk", "chunk", "chunk"])
        rule, decision, bugfix, summary, prompt = items
        self.assertEqual((rule["text"], rule["category"]), ("always é", "preference"))
        self.assertEqual(decision["text"], f"Use é\n\nsub\n\n{HARD}\n\nFacts:\n- one\n- two\n\nFiles changed:\n- a.py")
        self.assertEqual(decision["category"], "decision")
        self.assertEqual(decision["tags"], ["claude-mem", "decision", "what-changed"])
        self.assertEqual(bugfix["created_at"], "2026-01-02T03:04:05Z")
        self.assertEqual(summary["text"], "Request:\ndo é\n\nLearned:\nthat\n\nNext steps:\nmore")
        self.assertEqual((prompt["text"], prompt["project"], prompt["session"]), (HARD, "démo", "client"))
        self.assertEqual({decision["session"], summary["session"]}, {"client"})
        with open(path, "rb") as file:
            self.assertEqual(file.read(), before)
        self.assertEqual(os.listdir(self.home), [os.path.basename(path)])

    def test_claude_mem_in_use_is_read_with_its_journal(self) -> None:
        path = self.database("PRAGMA journal_mode=WAL; CREATE TABLE session_summaries (request TEXT)")
        writer = sqlite3.connect(path)
        self.addCleanup(writer.close)
        writer.execute("INSERT INTO session_summaries VALUES ('just now é')")
        writer.commit()
        self.assertTrue(os.path.getsize(path + "-wal"))
        self.assertEqual([item["summary"] for item in rlm.claude_mem_items(path)], ["just now é"])

    def test_other_files_are_no_claude_mem(self) -> None:
        self.assertFalse(rlm.is_claude_mem(self.database("CREATE TABLE x (y)")))
        for data in (b"", b"SQLite format 3\0" + b"x" * 5000):
            path = self.write("bad.db", data)
            self.assertFalse(rlm.is_claude_mem(path))
        self.assertEqual([item["kind"] for item in rlm.claude_mem_items(path)], ["damaged"])
        self.assertEqual([item["kind"] for item in rlm.claude_mem_items(self.home + "/absent")], ["damaged"])
        self.assertFalse(rlm.is_claude_mem(self.home))


if __name__ == "__main__":
    unittest.main()
