"""Other tools' memories are recognised, read without being changed, and stored once."""
from __future__ import annotations

import json
import os
import signal
import sqlite3
import unittest
from contextlib import closing
from typing import Any

from tests.support import HARD, TempHome, ended, everything, forked, rlm


class SourceCase(TempHome):
    def write(self, name: str, data: str | bytes) -> str:
        """Writes a file below the home; its path."""
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
        return path

    def found(self, path: str) -> list[tuple[str, str]]:
        """What there is to import at a path: sources and paths below it."""
        return [(source, os.path.relpath(where, path)) for source, where in rlm.things_at(path)]

    def items(self, path: str) -> list[dict[str, Any]]:
        """The items at a path."""
        return list(rlm.items_of_things(self.places, rlm.things_at(path), path))

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

    def database(self, script: str, *rows: tuple[str, tuple[Any, ...]]) -> str:
        """An SQLite file."""
        path = os.path.join(self.home, "claude mem é#?.db")
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
            for sql, values in rows:
                connection.execute(sql, values)
            connection.commit()
        return path


class SourceTest(SourceCase):
    def test_mcp_memory(self) -> None:
        rows: list[Any] = [
            {"type": "entity", "name": "Zoé", "entityType": "person", "observations": [HARD, {"content": "dated"}, 5]},
            {"type": "entity", "name": "Bare", "entityType": "place", "observations": []},
            {"type": "relation", "from": "Zoé", "to": "Bare", "relationType": "lives_in"}, {"type": "_aim"}, 7]
        path = self.write("memory.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n\nbroken {\n")
        items = list(rlm.graph_items(path))
        self.assertEqual([item.get("text") for item in items],
                         [f"Zoé: {HARD}", "Zoé: dated", "Bare: place", "Zoé lives_in Bare", None, None])
        self.assertEqual(items[0]["tags"], ["person", "Zoé"])
        self.assertEqual([item["kind"] for item in items], ["insight"] * 4 + ["damaged"] * 2)
        self.assertEqual(self.found(path), [("MCP memory", ".")])
        path = self.write("x.jsonl", '{"text":"entity"}\n{"type":"user"}\n')
        self.assertEqual(self.found(path), [("JSON lines", ".")])
        self.assertEqual([i["kind"] for i in rlm.graph_items(self.home + "/absent")], ["damaged"])

    def test_episodes(self) -> None:
        day = "tempera/episodes/2026-03-01/"
        self.write(day + "session-1234abcd.json", json.dumps(self.episode(), indent=2))
        self.write(day + "session-1234abcd.md", "# a copy")
        self.write(day + "session-1234abcd.diff", "diff")
        self.write(day + "session-aaaaaaaa.md", "# Episode: only é\n\ntext")
        self.write(day + "session-bbbbbbbb.json", '{"intent": {')
        self.write(day + "session-cccccccc.json", '{"intent": 5}')
        for path in (self.home + "/tempera", self.home + "/tempera/episodes"):
            items = self.items(path)
            self.assertEqual([item["kind"] for item in items], ["episode", "chunk", "damaged", "damaged"])
        first, second = items[:2]
        for part in (HARD, "src/auth.rs", "boom → added é", "cargo test"):
            self.assertIn(part, first["text"])
        self.assertEqual((first["task_type"], first["outcome"], first["files"], first["resolved"]),
                         ("bugfix", "success", ["src/auth.rs"], [["boom", "added é"]]))
        self.assertEqual(first["tags"], ["episode", "bugfix", "success", "rust", "auth"])
        self.assertEqual((first["uses"], first["project"]), (3, "démo"))
        self.assertEqual(first["created_at"], "2026-03-01T10:00:00.123456789Z")
        self.assertEqual(second["summary"], "Episode: only é")
        self.assertEqual(self.found(self.home), [("memrl", "tempera/episodes/2026-03-01")])
        self.write("tempera/episodes/2026-03-01/session-notes.json", '{"of": "somebody else"}')
        self.assertIn(("text", "tempera/episodes/2026-03-01/session-notes.json"), self.found(self.home))

    def test_episodes_keep_their_ratings(self) -> None:
        def rated(n_helpful: int, *history: Any) -> list[tuple[str, str]]:
            rows = [{"timestamp": f"2026-04-0{n}T10:00:00Z", "was_helpful": each} for n, each in enumerate(history, 1)]
            item = rlm.episode_item({**self.episode(), "utility": {"helpful_count": n_helpful, "retrieval_count": 9},
                                     "retrieval_history": rows}, "x")
            self.assertEqual(len({row["session"] for row in item["ratings"]}), len(item["ratings"]))
            return [(row["at"][5:10], row["rating"]) for row in item["ratings"]]

        self.assertEqual(rated(0), [])
        self.assertEqual(rated(1, None, True, False), [("04-02", "helpful"), ("04-03", "not")])
        self.assertEqual(rated(3, True), [("04-01", "helpful")] * 3)
        self.assertEqual(rated(2), [("03-01", "helpful")] * 2)
        self.assertEqual(len(rated(1 << 40)), rlm.MAX_RATED)
        long = rlm.episode_item({**self.episode(), "intent": {"raw_prompt": "é" * 50_000}}, "x")
        self.assertEqual((long["kind"], len(long["ratings"])), ("chunk", 2))

    def test_auto_memory(self) -> None:
        base = "projects/-home-dev-project/memory/"
        self.write(base + "MEMORY.md", "# Memory\n- [user](user_role.md) — é\n")
        self.write(base + "user_role.md", '---\nname: user-role\ndescription: "é: senior"\nmetadata:\n  type: user\n'
                   "---\n\nWorks on the backend.\r\n")
        self.write(base + "old.md", "---\nname: old\ndescription: d\ntype: project\n---\n" + "long é\n" * 900)
        self.write("projects/-other/memory/MEMORY.md", "# Notes\n- deploys on Fridays é\n")
        self.write("projects/-none/x.jsonl", "")
        items = self.items(self.home + "/projects")
        self.assertEqual([(i["kind"], i["project"]) for i in items],
                         [("chunk", "project"), ("insight", "project"), ("chunk", "other")])
        self.assertEqual(items[1]["text"], "é: senior\n\nWorks on the backend.")
        self.assertEqual(items[1]["category"], "preference")
        self.assertEqual(items[1]["tags"], ["auto-memory", "user", "user-role"])
        self.assertIn("deploys on Fridays é", items[2]["text"])
        for path in ("/projects/-home-dev-project", "/projects/-home-dev-project/memory"):
            self.assertEqual(self.items(self.home + path), items[:2])
        self.write("elsewhere/memory/notes.md", "no front matter")
        self.assertEqual(self.found(self.home + "/elsewhere"), [("text", "memory/notes.md")])

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
        self.assertEqual(self.found(path), [("claude-mem", ".")])
        items = list(rlm.claude_mem_items(path))
        self.assertEqual([item["kind"] for item in items], ["insight", "insight", "chunk", "chunk", "chunk"])
        rule, decision, bugfix, summary, prompt = items
        self.assertEqual((rule["text"], rule["category"]), ("always é", "preference"))
        self.assertEqual(decision["text"], f"Use é\n\nsub\n\n{HARD}\n\nFacts:\n- one\n- two\n\nFiles changed:\n- a.py")
        self.assertEqual(decision["category"], "decision")
        self.assertEqual(decision["tags"], ["claude-mem", "decision", "what-changed"])
        self.assertEqual(bugfix["created_at"], "2026-01-02T03:04:05.678Z")
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
        self.assertEqual(self.found(self.database("CREATE TABLE x (y)")), [("damaged: binary", ".")])
        for data in (b"", b"SQLite format 3\0" + b"x" * 5000):
            path = self.write("bad.db", data)
            self.assertNotIn(("claude-mem", "."), self.found(path))
        self.assertEqual([item["kind"] for item in rlm.claude_mem_items(path)], ["damaged"])
        self.assertEqual([item["kind"] for item in rlm.claude_mem_items(self.home + "/absent")], ["damaged"])


class CommandTest(SourceCase):
    """Each source through `rlm.py import PATH`."""

    def memory_file(self) -> str:
        """An MCP memory server's file."""
        rows = [{"type": "entity", "name": "Zoé", "entityType": "person", "observations": [f"likes zebras {HARD}", "is dated"]},
                {"type": "entity", "name": "Bare", "entityType": "place", "observations": []},
                {"type": "relation", "from": "Zoé", "to": "Bare", "relationType": "lives_in"}]
        return self.write("mcp é/memory.json", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def episodes(self) -> str:
        """A folder of episodes."""
        day = "tempera/episodes/2026-03-01/"
        self.write(day + "session-1234abcd.json", json.dumps(self.episode(), indent=2))
        self.write(day + "session-aaaaaaaa.md", "# Episode: only zebras é\n\ntext")
        return self.home + "/tempera"

    def auto_memory(self) -> str:
        """A memory folder of Claude Code's, without any transcript."""
        base = "old/projects/-home-dev-project/memory/"
        self.write(base + "MEMORY.md", "# Memory\n- [user](user_role.md) — é\n")
        self.write(base + "user_role.md", '---\nname: user-role\ndescription: "é: senior"\nmetadata:\n  type: user\n---\n\n'
                   "Works on the backend of zebras.\r\n")
        return self.home + "/old/projects"

    def claude_mem(self) -> str:
        """A database of claude-mem's, as it is when nobody uses it."""
        return self.database(
            "PRAGMA journal_mode=WAL;"
            "CREATE TABLE session_summaries (id INTEGER PRIMARY KEY, memory_session_id TEXT, project TEXT,"
            " request TEXT, learned TEXT, next_steps TEXT, created_at_epoch INTEGER);"
            "CREATE TABLE user_prompts (id INTEGER PRIMARY KEY, content_session_id TEXT, prompt_text TEXT, created_at TEXT);",
            ("INSERT INTO session_summaries VALUES (1, 'mem', 'démo', 'count zebras', 'that', 'more', 1767323045678)", ()),
            ("INSERT INTO user_prompts VALUES (1, 'client', ?, '2026-01-02T03:04:05.678Z')", (HARD,)))

    def source_bytes(self) -> dict[str, tuple[bytes, int]]:
        """Every file outside the store, with its time."""
        found = {}
        for folder, _, names in os.walk(self.home):
            for name in names:
                path = os.path.join(folder, name)
                if not path.startswith(os.path.join(self.home, ".claude", "rlm") + os.sep):
                    found[path] = rlm.read_file(path), os.stat(path).st_mtime_ns
        return found

    def imported(self, path: str, code: int = 0) -> dict[str, Any]:
        """What the command says that it did."""
        done = self.cli("import", path, "--json")
        self.assertEqual(done.returncode, code, done.stderr)
        return dict(json.loads(done.stdout))

    def test_each_source_is_recognised_counted_found_and_stored_once(self) -> None:
        for made, n_new in ((self.memory_file, 4), (self.episodes, 2), (self.auto_memory, 1), (self.claude_mem, 2)):
            with self.subTest(made.__name__):
                path = made()
                before = self.source_bytes()
                self.assertTrue(before)
                if made in (self.memory_file, self.claude_mem):
                    log = self.log_bytes()
                    dry = self.cli("import", path, "--dry-run", "--json")
                    self.assertEqual(sum(json.loads(dry.stdout)["kinds"].values()), n_new)
                    self.assertEqual(self.log_bytes(), log)
                done = self.imported(path)
                self.assertEqual((done["new"], done["known"], done["refused"]), (n_new, 0, []))
                log = self.log_bytes()
                again = self.imported(path)
                self.assertEqual((again["new"], again["known"]), (0, n_new))
                self.assertEqual(self.log_bytes(), log)
                self.assertEqual(self.source_bytes(), before)
        row = self.call("rlm_recall", kind="episode").data["episodes"][0]
        self.assertEqual((row["task_type"], row["outcome"], row["n_rated"], row["n_helpful"], row["uses"]),
                         ("bugfix", "success", 2, 2, 3))
        rlm.rewrite(self.view())
        self.assertIn("from memrl: 2 of 3", self.call("rlm_peek", chunk_id=row["id"] + ":history").text)
        self.assertIn("fixed by: added é", self.call("rlm_search", query="boom").text)
        for query, n_hits in (("zebras", 4), ("日本語", 3)):
            texts = [str(found[1]) for found in everything(self.places).values() if query in str(found[1])]
            self.assertEqual(len(texts), n_hits, query)
            answer = self.call("rlm_search", query=query, limit=10).text + self.call("rlm_recall", query=query).text
            self.assertGreaterEqual(answer.count(query), n_hits, answer)

    def test_what_is_damaged_is_named_and_the_rest_arrives(self) -> None:
        with open(self.memory_file(), "ab") as file:
            file.write(b'broken { \xff\n{"type":"entity","name":"after \xc3\xa9","observations":["zebras too"]}\n')
        self.episodes()
        self.write("tempera/episodes/2026-03-01/session-bbbbbbbb.json", '{"intent": {')
        for path, n_new, named in ((self.home + "/mcp é/memory.json", 5, "memory.json"), (self.home + "/tempera", 2, "session-bbbbbbbb")):
            with self.subTest(path):
                done = self.imported(path, code=1)
                self.assertEqual((done["new"], len(done["refused"])), (n_new, 1))
                self.assertIn(named, done["refused"][0])
                self.assertIn(named.encode(), self.cli("import", path).stderr)

    def test_a_damaged_database_gives_what_can_be_read(self) -> None:
        rows = [("INSERT INTO user_prompts VALUES (?, 'client', ?, NULL)", (n, f"prompt {n} é " + "p" * 500)) for n in range(400)]
        path = self.database("CREATE TABLE session_summaries (request TEXT, created_at_epoch INTEGER);"
                             "INSERT INTO session_summaries VALUES ('kept é', 1);"
                             "CREATE TABLE user_prompts (id INTEGER PRIMARY KEY, content_session_id TEXT, prompt_text TEXT,"
                             " created_at TEXT);", *rows)
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) * 3 // 4)
            file.write(b"\xff" * 9000)
        before = self.source_bytes()
        done = self.imported(path, code=1)
        self.assertEqual(len(done["refused"]), 1)
        self.assertIn("cannot be read from here on", done["refused"][0])
        self.assertTrue(100 < done["new"] < 400, done["new"])
        self.assertEqual(self.source_bytes(), before)

    def test_a_database_left_by_a_crash_is_read_with_its_journal_and_left_alone(self) -> None:
        path = self.database("PRAGMA journal_mode=WAL; CREATE TABLE session_summaries (request TEXT)")

        def crash() -> None:
            """Writes a row that is in the journal only, and ends without closing anything."""
            connection = sqlite3.connect(path)
            connection.execute("INSERT INTO session_summaries VALUES ('just now é')")
            connection.commit()
            os.kill(os.getpid(), signal.SIGKILL)

        self.assertEqual(ended(forked(crash)), -signal.SIGKILL)
        before = self.source_bytes()
        self.assertEqual(sorted(before), [path, path + "-shm", path + "-wal"])
        self.assertNotIn("just now é".encode(), before[path][0])
        self.assertEqual(self.imported(path)["new"], 1)
        after = self.source_bytes()
        self.assertEqual(sorted(after), sorted(before))
        self.assertEqual([after[path + end] for end in ("", "-wal")], [before[path + end] for end in ("", "-wal")])
        self.assertIn("just now é", [found[3] for found in everything(self.places).values()])

    def test_secrets_and_excluded_projects_of_other_tools_stay_outside(self) -> None:
        secret = "gh" + "p_" + 6 * "Ab3xY9"
        path = self.write("memory.jsonl", json.dumps({"type": "entity", "name": "é", "entityType": "x",
                                                      "observations": [f"token {secret}", "API_KEY=" + secret]}) + "\n")
        self.assertEqual(self.imported(path)["new"], 2)
        self.assertNotIn(secret.encode(), self.log_bytes())
        self.assertIn(b"[redacted:github-token]", self.log_bytes())
        rlm.write_config(self.places, {"exclude": ["Démo"]})
        done = self.imported(self.episodes())
        self.assertEqual(done["new"], 1)
        self.assertNotIn(b"src/auth.rs", self.log_bytes())


if __name__ == "__main__":
    unittest.main()
