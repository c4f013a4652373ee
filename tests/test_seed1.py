"""The rlm-claude reader against stores built here file by file, as that server's 0.10.0 and 0.11.0 write them."""
from __future__ import annotations

import gzip
import hashlib
import json
import os
import unittest
from typing import Any

from tests.support import TempHome, rlm

DAY = "2026-02-03"


def content_hash(text: str) -> str:
    """The hash rlm-claude stores beside a text."""
    return hashlib.sha256(" ".join(text.lower().split()).encode("utf-8")).hexdigest()


class SeedStore:
    """A store in the making: `add` writes the chunk file, `save` the indexes."""

    def __init__(self, root: str, version: str) -> None:
        self.root = root  # the "context" folder
        self.version = version  # "0.10.0" or "0.11.0"
        self.rows: list[dict[str, Any]] = []  # of index.json
        self.old_rows: list[dict[str, Any]] = []  # of archive_index.json
        self.insights: list[dict[str, Any]] = []
        os.makedirs(os.path.join(root, "chunks"))
        os.makedirs(os.path.join(root, "archive"))

    def path(self, *parts: str) -> str:
        """A path in the store."""
        return os.path.join(self.root, *parts)

    def write(self, name: str, raw: bytes) -> None:
        """Writes a file of the store."""
        with open(self.path(*name.split("/")), "wb") as file:
            file.write(raw)

    def chunk_bytes(self, row: dict[str, Any], text: str) -> bytes:
        """The chunk file: header, one blank line, then the text with nothing added."""
        lines = ["---", f"id: {row['id']}", f"summary: {row['summary']}"]
        lines += ["tags: " + ", ".join(row["tags"]), f"chunk_type: {row['chunk_type']}"]
        lines += ["entities:", "  (none)", f"project: {row['project']}"]
        lines += [f"ticket: {row['ticket'] or ''}", f"domain: {row['domain'] or ''}"]
        # 0.10.0 asks for the time twice, so its header is some microseconds older than its row.
        created = row["created_at"] if self.version != "0.10.0" else row["created_at"][:-1] + "0"
        lines += [f"created_at: {created}", f"tokens_estimate: {row['tokens_estimate']}"]
        lines += [f"content_hash: {row['content_hash']}", 'format_version: "2.0"', "---", "", ""]
        return ("\n".join(lines) + text).encode("utf-8")

    def add(self, seq: int, text: str, **given: Any) -> str:
        """Writes one chunk and its row; returns the id."""
        project = given.get("project", "demo")
        parts = [DAY, project, f"{seq:03d}", given.get("ticket"), given.get("domain")]
        chunk_id = "_".join(part for part in parts if part)
        row: dict[str, Any] = {
            "id": chunk_id, "file": f"chunks/{chunk_id}.md", "summary": given.get("summary", "a summary"),
            "tags": given.get("tags", []), "tokens_estimate": len(text) // 4, "content_hash": content_hash(text),
            "access_count": given.get("uses", 0), "created_at": f"{DAY}T10:00:{seq:02d}.123456",
            "last_accessed": "2026-02-09T08:00:00.000001" if given.get("uses") else None,
            "chunk_type": given.get("chunk_type", "session"), "project": project, "ticket": given.get("ticket"),
            "domain": given.get("domain"), "format_version": "2.0",
            "entities": {"files": [], "versions": [], "modules": [], "tickets": [], "functions": []}}
        if self.version == "0.11.0":
            row["embedded"] = False
        self.write(f"chunks/{chunk_id}.md", self.chunk_bytes(row, text))
        self.rows.append(row)
        return chunk_id

    def archive(self, chunk_id: str) -> None:
        """Moves a chunk as rlm-claude does: gzip of the whole file, row to the other index."""
        name = self.path("chunks", chunk_id + ".md")
        with open(name, "rb") as file:
            raw = file.read()
        with gzip.open(self.path("archive", chunk_id + ".md.gz"), "wb") as packed:
            packed.write(raw)
        os.unlink(name)
        row = next(row for row in self.rows if row["id"] == chunk_id)
        self.rows.remove(row)
        more = {"archived_at": f"{DAY}T11:00:00.000001", "original_size": len(raw)}
        self.old_rows.append({**row, **more, "compressed_size": 1})

    def remember(self, text: str, category: str, importance: str, tags: list[str]) -> None:
        """Adds an insight."""
        n = len(self.insights)
        row = {"id": f"{n:08x}", "content": text, "category": category, "importance": importance}
        self.insights.append({**row, "tags": tags, "created_at": f"{DAY}T12:00:0{n}.5"})

    def save(self) -> None:
        """Writes the indexes with rlm-claude's spacing: indent 2, no escapes, no last newline."""
        head = {"version": "2.0.0", "created_at": f"{DAY}T09:00:00.1"}
        totals = {"total_chunks": len(self.rows), "total_tokens_estimate": 0, "last_chunking": None}
        files: dict[str, dict[str, Any]] = {"index.json": {**head, "chunks": self.rows, **totals}}
        if self.old_rows:
            files["archive_index.json"] = {"version": "1.0.0", "archives": self.old_rows}
        if self.insights:
            metadata = {"created_at": DAY, "last_updated": None, "total_insights": 0}
            files["session_memory.json"] = {"version": "1.0.0", "insights": self.insights, "metadata": metadata}
        for name, value in files.items():
            self.write(name, json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8"))
            if self.version == "0.11.0":
                self.write(name + ".lock", b"")  # 0.10.0 removes its lock files


class SeedCase(TempHome):
    """A fresh folder per test, and words to say what is in it."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = self.home

    def store(self, version: str = "0.11.0", name: str = "context") -> SeedStore:
        """An empty store of that version."""
        return SeedStore(os.path.join(self.folder, name), version)

    def read(self, store: SeedStore) -> list[dict[str, Any]]:
        """Every item of the store."""
        return list(rlm.rlm_claude_items(store.root))

    def chunks(self, store: SeedStore) -> list[dict[str, Any]]:
        """The chunks of the store."""
        return [item for item in self.read(store) if item["kind"] == "chunk"]

    def damage(self, store: SeedStore) -> list[tuple[str, str]]:
        """(path, why) of everything damaged; paths as in the store."""
        return [(os.path.relpath(i["path"], store.root), i["why"]) for i in self.read(store) if i["kind"] == "damaged"]

    def assert_damage(self, store: SeedStore, path: str, why: str) -> None:
        """Exactly one damaged item, about `path`, whose reason holds `why`."""
        found = self.damage(store)
        self.assertEqual([each[0] for each in found], [path], found)
        self.assertIn(why, found[0][1])

    def recognised(self, path: str) -> bool:
        """Whether the folder is taken for a store."""
        return ("rlm-claude", path) in rlm.things_at(path)


class WholeStoreTest(SeedCase):
    def fill(self, store: SeedStore) -> None:
        """Four chunks, one of them archived, and two insights."""
        store.add(1, "réunion à Besançon\n", tags=["été", "b"], uses=4, chunk_type="snapshot")
        store.add(2, "日本語のメモ\n結果", ticket="#364", domain="r&d", chunk_type="debug")
        store.archive(store.add(3, "old one\n" * 40, domain="ops", uses=1))
        store.add(1, "spaced", project="My Project")
        store.remember("garder SQLite dehors", "decision", "critical", ["été"])
        store.remember("two\nlines\r\n", "todo", "low", [])
        store.save()

    def test_both_versions_give_every_memory_with_its_fields(self) -> None:
        for version in ("0.10.0", "0.11.0"):
            with self.subTest(version=version):
                store = self.store(version, version)
                self.fill(store)
                items = self.read(store)
                self.assertEqual([i["kind"] for i in items], ["chunk"] * 4 + ["insight"] * 2)
                first = next(i for i in items if i["id"] == f"{DAY}_demo_001")
                self.assertEqual(first, {
                    "kind": "chunk", "id": f"{DAY}_demo_001", "text": "réunion à Besançon\n", "summary": "a summary",
                    "tags": ["été", "b"], "project": "demo", "ticket": "", "domain": "", "type": "snapshot",
                    "created_at": f"{DAY}T10:00:01.123456", "uses": 4, "last_used": "2026-02-09T08:00:00.000001",
                    "archived": False})
                self.assertEqual(items[4], {
                    "kind": "insight", "id": "00000000", "text": "garder SQLite dehors", "category": "decision",
                    "importance": "critical", "tags": ["été"], "created_at": f"{DAY}T12:00:00.5", "uses": 0,
                    "last_used": ""})

    def test_an_archived_chunk_is_marked_and_whole(self) -> None:
        store = self.store()
        self.fill(store)
        old = [item for item in self.chunks(store) if item["archived"]]
        found = [(i["id"], i["text"], i["uses"]) for i in old]
        self.assertEqual(found, [(f"{DAY}_demo_003_ops", "old one\n" * 40, 1)])

    def test_without_any_index_the_headers_say_the_same(self) -> None:
        store = self.store()
        self.fill(store)
        before = self.chunks(store)
        os.unlink(store.path("index.json"))
        os.unlink(store.path("archive_index.json"))
        after = self.chunks(store)
        for item in before:
            item.update(uses=0, last_used="")  # only the index counts uses
        self.assertEqual(after, before)

    def test_an_id_that_begins_with_no_date_gives_none(self) -> None:
        store = self.store()
        for name, day in ((f"{DAY}_x", DAY), ("demo-v2-notes", ""), ("2026-13-45_demo_001", "")):
            store.write(f"chunks/{name}.md", b"text")
            self.assertEqual([i["created_at"] for i in self.read(store) if i["id"] == name], [day])

    def test_reading_changes_no_file(self) -> None:
        store = self.store()
        self.fill(store)
        names = [os.path.join(at, n) for at, _, some in os.walk(store.root) for n in some]
        before = {name: os.stat(name).st_mtime_ns for name in names}
        self.read(store)
        rlm.import_domains(self.places, store.root)
        again = [os.path.join(at, n) for at, _, some in os.walk(store.root) for n in some]
        self.assertEqual({name: os.stat(name).st_mtime_ns for name in again}, before)

    def test_a_folder_that_is_no_store_yields_nothing(self) -> None:
        self.assertEqual(list(rlm.rlm_claude_items(self.folder)), [])
        self.assertEqual(list(rlm.rlm_claude_items(self.folder + "/absent")), [])


class TextTest(SeedCase):
    TEXTS = ("", "no end newline", "\n\n  leading blank lines\n\n\n", "crlf\r\nlone\rcr\r\n",
             "---\nfront: matter\n---\n\nbody\n", '\nformat_version: "2.0"\n---\n\n', "🙂" * 100,
             "---\nid: z\ncontent_hash: " + "0" * 64 + '\nformat_version: "2.0"\n---\n\nquoted',
             "\ufeffbom, \u2028 separator, \x00 nul, \x0c feed, İıß")
    SUMMARIES = ("plain: with colon", "two\nlines", "a\n---\ntags: injected\n---\n")

    def test_texts_come_back_exactly_whatever_the_summary(self) -> None:
        for known in (True, False):
            with self.subTest(in_index=known):
                store = self.store(name=f"known-{known}")
                texts = {}
                for n, text in enumerate(self.TEXTS):
                    for m, summary in enumerate(self.SUMMARIES):
                        chunk_id = store.add(n * 10 + m, text, summary=summary, tags=["t"])
                        texts[chunk_id] = (text, summary if known else summary.split("\n")[0], ["t"], "demo")
                if not known:
                    store.rows = []
                store.save()
                found = {i["id"]: (i["text"], i["summary"], i["tags"], i["project"]) for i in self.chunks(store)}
                self.assertEqual(found, texts)
                self.assertEqual(self.damage(store), [])

    def test_a_text_that_is_another_chunk_file_is_kept_whole(self) -> None:
        store = self.store()
        store.add(1, "inner")
        with open(store.path("chunks", f"{DAY}_demo_001.md"), encoding="utf-8") as file:
            whole = file.read()
        store.add(2, whole)
        store.save()
        self.assertEqual([i["text"] for i in self.chunks(store)], ["inner", whole])

    def test_a_hand_edited_text_is_read_after_its_header(self) -> None:
        store = self.store()
        store.add(1, "before")
        store.save()
        store.add(2, "odd", summary="two\n---\nlines")
        store.save()
        for n in (1, 2):
            with open(store.path("chunks", f"{DAY}_demo_00{n}.md"), "ab") as file:
                file.write(b" and after")
        self.assertEqual([i["text"] for i in self.chunks(store)], ["before and after", "odd and after"])
        self.assertEqual(self.damage(store), [])

    def test_headers_of_older_versions_and_files_without_one(self) -> None:
        store = self.store()
        head = "---\nid: 2026-01-18_001\nsummary: old\ntags: x, y\n"
        head += "created_at: 2026-01-18T09:00:00\n---\n"
        store.write("chunks/2026-01-18_001.md", (head + "\nbody\n---\nmore\n").encode())
        store.write("chunks/2026-01-19_bare.md", b"just text\n---\n")
        found = self.chunks(store)
        self.assertEqual([i["text"] for i in found], ["body\n---\nmore\n", "just text\n---\n"])
        self.assertEqual([i["created_at"] for i in found], ["2026-01-18T09:00:00", "2026-01-19"])
        self.assertEqual((found[0]["summary"], found[0]["tags"]), ("old", ["x", "y"]))
        self.assertEqual(found[0]["type"], "session")


class CrashTest(SeedCase):
    """What rlm-claude leaves when it is killed, or when two of its sessions collide."""

    def test_a_chunk_the_index_does_not_know_is_read(self) -> None:
        store = self.store()
        store.add(1, "known")
        store.add(2, "orphan", tags=["t"], domain="ops")
        del store.rows[1]
        store.save()
        orphan = self.chunks(store)[1]
        self.assertEqual((orphan["text"], orphan["tags"], orphan["domain"]), ("orphan", ["t"], "ops"))

    def test_unfinished_temporary_files_are_no_memories(self) -> None:
        store = self.store()
        store.add(1, "known")
        store.save()
        store.write("chunks/.2026-02-03_demo_002.md.ab12.tmp", b"---\nid: half")
        store.write("chunks/._2026-02-03_demo_001.md", b"what macOS puts beside a file")
        self.assertEqual(len(self.read(store)), 1)

    def test_killed_while_archiving_or_restoring_loses_no_text(self) -> None:
        store = self.store()
        chunk_id = store.add(1, "the whole text\n")
        with open(store.path("chunks", chunk_id + ".md"), "rb") as file:
            raw = file.read()
        store.archive(chunk_id)
        store.save()
        for n_bytes in range(0, len(raw) + 1, 7):
            store.write(f"chunks/{chunk_id}.md", raw[:n_bytes])
            self.assertIn("the whole text\n", [i["text"] for i in self.read(store)], n_bytes)

    def test_an_archived_id_given_away_again_keeps_both_texts(self) -> None:
        store = self.store()
        store.archive(store.add(1, "first", summary="one"))
        store.add(1, "second", summary="two")
        store.save()
        found = [(i["text"], i["summary"], i["archived"]) for i in self.read(store)]
        self.assertEqual(sorted(found), [("first", "one", True), ("second", "two", False)])

    def test_of_two_rows_about_one_text_the_newer_is_taken(self) -> None:
        store = self.store()
        store.add(1, "text")
        store.rows.append({**store.rows[0], "access_count": 7})
        store.save()
        self.assertEqual([i["uses"] for i in self.chunks(store)], [7])
        self.assertEqual(self.damage(store), [])


class DamageTest(SeedCase):
    """No damage raises, each is named, and everything else is still read."""

    def setUp(self) -> None:
        super().setUp()
        self.small = self.store()
        self.small.add(1, "good", uses=2)
        self.bad_id = self.small.add(2, "bad")
        self.small.remember("first", "fact", "high", [])
        self.small.remember("second", "fact", "high", [])
        self.small.save()
        self.assertEqual(len(self.read(self.small)), 4)  # nothing is damaged yet
        self.assertEqual(self.damage(self.small), [])

    def damage_file(self, name: str, raw: bytes) -> None:
        """Replaces a file by something damaged."""
        self.small.write(name, raw)
        self.assertNotEqual(self.damage(self.small), [], "the damage did not land")

    def bytes_of(self, name: str) -> bytes:
        """The bytes of a file."""
        with open(self.small.path(*name.split("/")), "rb") as file:
            return file.read()

    def test_a_cut_index_loses_no_chunk_at_any_byte(self) -> None:
        raw = self.bytes_of("index.json")
        for n_bytes in range(0, len(raw), 7):
            self.small.write("index.json", raw[:n_bytes])
            self.assertEqual([i["text"] for i in self.chunks(self.small)], ["good", "bad"])
            self.assertEqual([p for p, _ in self.damage(self.small)], ["index.json"], n_bytes)

    def test_a_cut_memory_file_is_named(self) -> None:
        self.damage_file("session_memory.json", self.bytes_of("session_memory.json")[:-40])
        self.assert_damage(self.small, "session_memory.json", "not valid JSON")
        self.assertEqual(len(self.chunks(self.small)), 2)

    def test_json_of_the_wrong_shape(self) -> None:
        for raw in (b"[]", b"null", b'{"chunks": 3}', b'{"chunks": [1, "x"]}', b"[" * 100_000):
            with self.subTest(raw=raw[:20]):
                self.damage_file("index.json", raw)
                self.assertEqual(len(self.chunks(self.small)), 2)

    def test_rows_with_odd_values_read_as_clean_ones(self) -> None:
        odd = {"id": self.bad_id, "summary": ["x"], "tags": [1, None, " t "], "access_count": "9"}
        more = {"last_accessed": 5, "project": "half \ud800", "created_at": None, "content_hash": None}
        raw = json.dumps({"chunks": [{**odd, **more}, {"id": 7}, {}]}).encode()
        self.small.write("index.json", raw)
        item = self.chunks(self.small)[1]
        self.assertEqual((item["summary"], item["tags"], item["uses"]), ("a summary", ["t"], 0))
        self.assertEqual((item["project"], item["last_used"]), ("half ?", ""))
        self.assertEqual(item["created_at"], f"{DAY}T10:00:02.123456")

    def test_a_chunk_that_is_not_utf_8_is_read_all_the_same(self) -> None:
        name = f"chunks/{self.bad_id}.md"
        self.small.write(name, self.bytes_of(name) + b"\xe9")
        self.assertEqual([i["text"] for i in self.chunks(self.small)], ["good", "bad\udce9"])

    def test_gzip_files_that_are_cut_altered_or_no_gzip(self) -> None:
        self.small.archive(self.bad_id)
        self.small.save()
        name = f"archive/{self.bad_id}.md.gz"
        raw = self.bytes_of(name)
        for bad in (b"not gzip", raw[:-9], raw[:40] + b"\0\0\0\0" + raw[44:], raw + b"tail"):
            with self.subTest(raw=bad[-10:]):
                self.damage_file(name, bad)
                self.assert_damage(self.small, name, "cannot be read")
                self.assertEqual(self.chunks(self.small)[0]["text"], "good")

    def test_a_gzip_bomb_is_not_unpacked(self) -> None:
        packed = gzip.compress(b"\0" * (rlm.RLM_CLAUDE_CHUNK_BYTES + 1))
        self.assertLess(len(packed), 100_000)
        self.damage_file("archive/2026-02-03_bomb_001.md.gz", packed)
        self.assert_damage(self.small, "archive/2026-02-03_bomb_001.md.gz", "longer than")

    def test_a_chunk_file_that_is_too_long(self) -> None:
        self.damage_file(f"chunks/{self.bad_id}.md", b"x" * (rlm.RLM_CLAUDE_CHUNK_BYTES + 1))
        self.assert_damage(self.small, f"chunks/{self.bad_id}.md", "longer than")


class PathTest(SeedCase):
    """Nothing outside the folder is read."""

    def setUp(self) -> None:
        super().setUp()
        self.small = self.store()
        self.small.add(1, "good")
        self.small.save()
        self.secret = os.path.join(self.folder, "secret.md")
        with open(self.secret, "w", encoding="utf-8") as file:
            file.write("secret")

    def assert_kept_out(self) -> None:
        """The secret is not read, and what is sound is."""
        self.assertEqual([i["text"] for i in self.read(self.small) if i["kind"] == "chunk"], ["good"])

    def test_links_are_not_followed(self) -> None:
        os.symlink(self.secret, self.small.path("chunks", "2026-02-03_x_001.md"))
        os.rmdir(self.small.path("archive"))
        os.symlink(self.folder, self.small.path("archive"))
        os.rename(self.small.path("index.json"), os.path.join(self.folder, "index.json"))
        os.symlink(os.path.join(self.folder, "index.json"), self.small.path("index.json"))
        self.assert_kept_out()
        self.assertEqual(self.damage(self.small), [("index.json", "no plain file")])

    def test_a_linked_folder_of_chunks_is_not_followed(self) -> None:
        os.rename(self.small.path("chunks"), os.path.join(self.folder, "elsewhere"))
        os.symlink(os.path.join(self.folder, "elsewhere"), self.small.path("chunks"))
        self.assertEqual(self.chunks(self.small), [])

    def test_a_pipe_does_not_hang_and_a_folder_is_no_chunk(self) -> None:
        os.mkfifo(self.small.path("chunks", "2026-02-03_x_001.md"))
        os.mkdir(self.small.path("chunks", "2026-02-03_x_002.md"))
        self.assert_kept_out()

    def test_ids_with_steps_in_them_are_not_followed(self) -> None:
        for chunk_id in ("../../secret", "/etc/passwd", "..", "", "a/b", "x\0y"):
            self.small.rows[1:] = [{"id": chunk_id, "file": f"chunks/{chunk_id}.md"}]
            self.small.save()
            self.assert_kept_out()

    def test_the_store_itself_may_be_a_link(self) -> None:
        os.symlink(self.small.root, os.path.join(self.folder, "link"))
        items = list(rlm.rlm_claude_items(os.path.join(self.folder, "link")))
        self.assertEqual([i["kind"] for i in items], ["chunk"])


class ImportTest(SeedCase):
    """`import` takes over all that the reader finds."""

    def fill(self, store: SeedStore) -> None:
        """Chunks of every kind, an archived one, an id that was given away twice, insights and domains."""
        store.add(1, "réunion à Besançon\n", tags=["été", "keep"], uses=4, chunk_type="snapshot")
        store.add(2, "日本語のメモ\r\n結果", ticket="#364", domain="r&d", chunk_type="debug")
        store.archive(store.add(3, "old one\n" * 40, domain="ops", uses=1))
        store.archive(store.add(4, "first of that id"))
        store.add(4, "second of that id")
        store.remember("garder SQLite dehors", "decision", "critical", ["été"])
        store.remember("an odd category", "idea", "urgent", [])
        store.save()
        groups = {"default": {"list": ["dev", "r&d"]}, "own": {"list": ["été\n"]}}
        store.write("domains.json", json.dumps({"domains": groups}).encode())

    def import_(self, store: SeedStore) -> rlm.Imported:
        """Imports the store as the command does."""
        rlm.import_domains(self.places, store.root)
        items = rlm.items_of_things(self.places, rlm.things_at(store.root), store.root)
        return rlm.import_items(self.view(), items, "", lambda *_: None)

    def test_everything_arrives_with_its_id_uses_dates_and_tier(self) -> None:
        for version in ("0.10.0", "0.11.0"):
            with self.subTest(version=version):
                os.environ["RLM_HOME"] = os.path.join(self.folder, "home of " + version)
                self.places = rlm.Places()
                store = self.store(version, version)
                self.fill(store)
                done = self.import_(store)
                self.assertEqual((done.n_new, done.n_known, done.refused), (7, 0, []))
                rows = {row["id"]: row for row in self.call("rlm_list_chunks").data["chunks"]}
                row = rows[f"{DAY}_demo_001"]
                self.assertEqual((row["tags"], row["uses"], row["type"], row["project"], row["summary"]),
                                 (["été", "keep"], 4, "snapshot", "demo", "a summary"))
                self.assertEqual(rlm.epoch_of(row["created_at"]), round(rlm.epoch_of(f"{DAY}T10:00:01.123456"), 3))
                row = rows[f"{DAY}_demo_002_#364_r&d"]
                self.assertEqual((row["ticket"], row["domain"], row["tier"]), ("#364", "r&d", "task"))
                row = rows[f"{DAY}_demo_003_ops"]
                self.assertEqual((row["tier"], row["uses"]), ("archived", 1))
                found = self.call("rlm_recall").data["insights"]
                self.assertEqual([(i["id"], i["category"], i["importance"], i["project"]) for i in found],
                                 [("00000001", "general", "medium", "default"),
                                  ("00000000", "decision", "critical", "default")])

    def test_texts_are_the_same_bytes(self) -> None:
        store = self.store()
        self.fill(store)
        self.import_(store)
        wanted = sorted((item["text"], item["archived"]) for item in self.chunks(store))
        ids = [row["id"] for row in self.call("rlm_list_chunks").data["chunks"]]
        answers = [self.call("rlm_peek", chunk_id=chunk_id) for chunk_id in ids]
        self.assertEqual(sorted((a.verbatim or "", a.data["tier"] == "archived") for a in answers), wanted)

    def test_an_id_that_was_given_away_twice_becomes_two(self) -> None:
        store = self.store()
        self.fill(store)
        self.import_(store)
        hits = self.call("rlm_search", query="first second of that id").data["hits"]
        texts = {self.call("rlm_peek", chunk_id=hit["id"]).verbatim: hit["id"] for hit in hits}
        self.assertIn("first of that id", texts)
        self.assertIn("second of that id", texts)
        self.assertIn(f"{DAY}_demo_004", texts.values())

    def test_a_second_import_stores_nothing(self) -> None:
        store = self.store()
        self.fill(store)
        self.import_(store)
        before = (self.log_bytes(), os.stat(self.places.config()).st_ino)
        done = self.import_(store)
        self.assertEqual((done.n_new, done.n_known, done.refused), (0, 7, []))
        self.assertEqual((self.log_bytes(), os.stat(self.places.config()).st_ino), before)

    def test_its_domains_join_the_settings(self) -> None:
        rlm.write_config(self.places, {"domains": ["api"], "immune_uses": 5})
        store = self.store()
        self.fill(store)
        self.import_(store)
        self.assertEqual(rlm.read_config(self.places), {"domains": ["api", "dev", "r&d", "été"], "immune_uses": 5})
        self.assertIn("été: 0 chunks", self.call("rlm_domains").text)

    def test_a_dry_run_changes_nothing(self) -> None:
        store = self.store()
        self.fill(store)
        done = self.cli("import", store.root, "--dry-run")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(b"chunk 5, insight 2", done.stdout)
        self.assertFalse(os.path.exists(self.places.home))

    def test_damage_is_reported_and_the_rest_is_stored(self) -> None:
        store = self.store()
        self.fill(store)
        store.write(f"archive/{DAY}_demo_003_ops.md.gz", b"no gzip")
        store.add(9, "   \n")
        done = self.cli("import", store.root)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"/context/archive/{DAY}_demo_003_ops.md.gz: cannot be read".encode(), done.stderr)
        self.assertIn(b"the content is empty", done.stderr)
        self.assertIn(b"Imported 6, known already 0, not imported 2.", done.stdout)
        self.assertEqual(rlm.read_config(self.places), {"domains": ["dev", "r&d", "été"]})
        self.assertEqual(self.call("rlm_status").data["n_chunks"], 4)


class RecogniseTest(SeedCase):
    def test_a_store_is_recognised_even_when_damaged(self) -> None:
        store = self.store()
        self.assertFalse(self.recognised(store.root))
        store.add(1, "text")
        self.assertTrue(self.recognised(store.root))  # killed before its first index
        store.save()
        self.assertTrue(self.recognised(store.root))
        store.write("index.json", b"")
        self.assertTrue(self.recognised(store.root))

    def test_insights_alone_are_a_store(self) -> None:
        store = self.store()
        store.remember("x", "fact", "low", [])
        store.save()
        os.unlink(store.path("index.json"))
        self.assertTrue(self.recognised(store.root))

    def test_other_folders_are_not(self) -> None:
        self.write_index('{"notes": []}')
        self.assertFalse(self.recognised(self.folder))
        self.write_index('{"chunks": []}')  # of a bundler, say
        self.assertFalse(self.recognised(self.folder))

    def write_index(self, text: str) -> None:
        """An index.json in a folder that is no store."""
        with open(os.path.join(self.folder, "index.json"), "w", encoding="utf-8") as file:
            file.write(text)

    def test_domains_come_once_and_in_order(self) -> None:
        store = self.store()
        for raw in (b"{", b"[]", b'{"domains": ["dev"]}', b"\xff"):
            store.write("domains.json", raw)
            rlm.import_domains(self.places, store.root)
            self.assertEqual(rlm.read_config(self.places), {})
        groups = {"default": {"list": ["dev", "r&d", 3]}, "own": {"list": ["é", "dev"]}, "odd": 1}
        store.write("domains.json", json.dumps({"version": "1.0.0", "domains": groups}).encode())
        rlm.import_domains(self.places, store.root)
        self.assertEqual(rlm.read_config(self.places)["domains"], ["dev", "r&d", "é"])


if __name__ == "__main__":
    unittest.main()
