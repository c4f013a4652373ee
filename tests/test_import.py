"""Import and export: everything arrives once, bad input is named and costs only itself, stores can be merged."""
from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import unittest
import unittest.mock
from typing import Any

from tests.support import HARD, TempHome, days_ago, everything, rlm


def line(**fields: Any) -> bytes:
    """One line of JSONL, escaped only where UTF-8 has no form."""
    return rlm.encode_record(fields)


class ImportCase(TempHome):
    def write(self, name: str, data: bytes | str) -> str:
        """Writes a file below the home; its path."""
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
        return path

    def import_(self, path: str, project: str = "") -> rlm.Imported:
        """Imports what is at the path, as the command does."""
        items, detected = rlm.source_items(path)
        return rlm.import_items(self.view(), items, project or detected.name, lambda *_: None, detected.identity)

    def import_lines(self, *lines: bytes) -> rlm.Imported:
        """Imports a JSONL file of these lines."""
        return self.import_(self.write("in.jsonl", b"".join(lines)))

    def rows(self) -> list[dict[str, Any]]:
        """All chunks, newest first."""
        return list(self.call("rlm_list_chunks", limit=10_000).data["chunks"])

    def text(self, memory_id: str) -> str:
        """A memory's text."""
        return str(self.call("rlm_peek", chunk_id=memory_id).verbatim)

    def exported(self, project: str = "") -> list[bytes]:
        """The lines of an export, sorted."""
        return sorted(rlm.exported_lines(self.view(), project))

    def other_home(self, name: str) -> None:
        """Goes on with another, empty store."""
        os.environ["RLM_HOME"] = os.path.join(self.home, name)
        self.places = rlm.Places()


class JsonLinesTest(ImportCase):
    def test_every_field_arrives(self) -> None:
        done = self.import_lines(line(
            text=HARD, summary="a summary é\n", tags=["a", " b\t"], project="P é", ticket="T-1", domain="D",
            type="debug", session="s1", importance="high", id="my-id", created_at="2025-03-04T05:06:07Z", uses=3,
            last_used="2025-04-01T00:00:00Z"))
        self.assertEqual((done.n_new, done.n_known, done.refused), (1, 0, []))
        expected = {"id": "my-id", "summary": "a summary é", "tags": ["a", "b"], "project": "P é", "ticket": "T-1",
                    "domain": "D", "type": "debug", "session": "s1", "importance": "high", "uses": 3, "tier": "task",
                    "created_at": "2025-03-04T05:06:07.000Z"}
        row = self.rows()[0]
        self.assertEqual({key: row[key] for key in expected}, expected)
        self.assertEqual(self.text("my-id"), HARD)

    def test_a_line_may_have_nothing_but_a_text(self) -> None:
        self.import_lines(line(text="# Title é\nbody"))
        row = self.rows()[0]
        self.assertEqual((row["summary"], row["project"], row["type"], row["tags"], row["uses"]),
                         ("Title é", "test", "session", [], 0))
        self.assertRegex(row["id"], r"\A\d{4}-\d\d-\d\d_test_001\Z")

    def test_a_line_with_a_category_is_an_insight(self) -> None:
        self.import_lines(line(text="We deploy on Fridays", category="decision", importance="high", tags="a, b"),
                          line(text="tabs", kind="insight"), line(text="spaces", k="insight", category="nonsense"))
        found = {row["text"]: row for row in self.call("rlm_recall").data["insights"]}
        row = found["We deploy on Fridays"]
        self.assertEqual((row["category"], row["importance"], row["tags"]), ("decision", "high", ["a", "b"]))
        self.assertEqual((found["tabs"]["category"], found["spaces"]["category"]), ("general", "general"))
        self.assertEqual(self.rows(), [])

    def test_fields_of_another_type_are_left_out_and_do_no_harm(self) -> None:
        odd: tuple[Any, ...] = (5, None, [], {}, [1, None, " t "], True, 1.5, "x" * 1000, "\udcff")
        lines = []
        for n, value in enumerate(odd):
            fields = dict.fromkeys(("summary", "tags", "project", "ticket", "domain", "type", "session", "importance",
                                    "id", "uses", "last_used", "archived", "nonsense"), value)
            lines.append(line(text=f"text {n}", **fields))
        done = self.import_lines(*lines)
        self.assertEqual((done.n_new, done.refused), (len(odd), []))
        rows = {self.text(row["id"]): row for row in self.rows()}
        row = rows["text 0"]
        self.assertEqual((row["project"], row["tags"], row["type"]), ("test", [], "session"))
        self.assertEqual(rows["text 4"]["tags"], ["t"])
        self.assertEqual((len(rows["text 7"]["project"]), len(rows["text 7"]["tags"][0])), (200, 200))
        self.assertEqual([text for text, row in rows.items() if row["tier"] == "archived"], ["text 5"])
        self.assertEqual([row for row in rows.values() if not row["id"].strip()], [])

    def test_dates_are_respected_in_every_form(self) -> None:
        local_s = rlm.epoch_of("2025-01-02T03:04:05")
        cases = (("2025-01-02T03:04:05Z", 1735787045.0), ("2025-01-02T03:04:05.6789+01:00", 1735783445.679),
                 (1735787045, 1735787045.0), (1735787045.25, 1735787045.25), ("2025-01-02T03:04:05", local_s),
                 ("2025-01-02 03:04:05", local_s), ("2025-01-02", rlm.epoch_of("2025-01-02T00:00")), (-86400, -86400.0))
        for n, (written, at_s) in enumerate(cases):
            with self.subTest(written=written):
                self.import_lines(line(text=f"text {n}", created_at=written))
                row = next(row for row in self.rows() if self.text(row["id"]) == f"text {n}")
                self.assertAlmostEqual(rlm.epoch_of(row["created_at"]), at_s, places=3)
                self.assertTrue(row["id"].startswith(rlm.local_day(at_s)), row["id"])

    def test_old_chunks_are_old_for_dates_order_and_retention(self) -> None:
        self.import_lines(line(text="newer", created_at="2025-02-02"), line(text="older", created_at="2025-01-01"))
        newer, older = (row["id"] for row in self.rows())
        self.assertEqual((self.text(newer), self.text(older)), ("newer", "older"))
        hits = self.call("rlm_search", query="newer older", date_to="2025-01-31").data["hits"]
        self.assertEqual([hit["id"] for hit in hits], [older])
        with days_ago(0):
            self.import_lines(line(text="unread é", created_at="2025-03-01"))
            self.assertEqual(len(self.call("rlm_retention_preview").data["archive"]), 1)

    def test_the_order_of_lines_does_not_matter_for_numbers(self) -> None:
        self.import_lines(*(line(text=f"text {n}", created_at="2025-01-01T12:00:00Z") for n in range(300)))
        self.assertEqual(len({row["id"] for row in self.rows()}), 300)

    def test_an_id_that_a_line_brings_along_is_not_given_to_another_line(self) -> None:
        day = {"created_at": "2025-01-01T12:00"}
        self.import_lines(line(text="one é", id="2025-01-01_test_001", **day), line(text="two", **day),
                          line(text="three", id="2025-01-01_test_001", **day),
                          line(text="four", id="i-1", category="fact"), line(text="five", id="i-1", category="fact"))
        ids = {self.text(memory_id): memory_id for memory_id in everything(self.places)}
        self.assertEqual(set(ids), {"one é", "two", "three", "four", "five"})
        self.assertEqual((ids["one é"], ids["four"]), ("2025-01-01_test_001", "i-1"))

    def test_an_archived_line_goes_to_the_archive(self) -> None:
        self.import_lines(line(text=HARD, id="a1", archived=True, uses=2), line(text="active"))
        rows = {row["id"]: row for row in self.rows()}
        self.assertEqual((rows["a1"]["tier"], rows["a1"]["uses"]), ("archived", 2))
        self.assertEqual(self.text("a1"), HARD)
        rlm.rewrite(self.view())
        packed = b"".join(rlm.read_file(self.places.archive(n)) for n in self.places.numbered("archive"))
        self.assertIn("日本語".encode(), gzip.decompress(packed))
        self.assertEqual(sum(row["tier"] == "archived" for row in rows.values()), 1)

    def test_importing_again_does_not_bring_back_what_was_forgotten(self) -> None:
        lines = (line(id="n1", text=f"a chunk {HARD}"), line(text=f"an insight {HARD}", category="fact"))
        self.assertEqual(self.import_lines(*lines).n_new, 2)
        ids = [row["id"] for row in self.rows()] + [row["id"] for row in self.call("rlm_recall").data["insights"]]
        for memory_id in ids:
            self.call("rlm_forget", insight_id=memory_id)
        done = self.import_lines(*lines)
        self.assertEqual((done.n_new, done.n_known, self.rows(), len(ids)), (0, 2, [], 2))
        # Who says it again by hand means it.
        self.assertTrue(self.call("rlm_chunk", content=f"a chunk {HARD}").data["new"])

    def test_an_id_with_a_colon_gives_way_since_lines_are_asked_for_so(self) -> None:
        self.import_lines(line(text="one\ntwo", id="note:1-1"))
        new_id = self.rows()[0]["id"]
        self.assertEqual(new_id, "note-1-1")
        self.assertEqual(self.text(new_id + ":2-2"), "two")

    def test_bad_lines_are_named_and_cost_only_themselves(self) -> None:
        path = self.write("in.jsonl", b"".join([
            line(text="first é"), b"not json\n\n", b'{"text": 5}\n', b"[1]\n", b'"text"\n', line(text="  \n"),
            line(text="late", created_at="2026-13-45"), b'{"text": "cut\n', b"\xff\xfe\n", b"[" * 50_000 + b"\n",
            line(text="never", created_at="x" * 5000), line(text="x" * (2 << 20) + "é"), b"null\r\n",
            line(text="last")]))
        done = self.cli("import", path)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, b"Imported 2, known already 0, not imported 12.\n")
        errors = done.stderr.decode().splitlines()
        numbers = [2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
        self.assertEqual([error.split(": ")[1] for error in errors], [f"{path}:{n}" for n in numbers])
        for error, why in zip(errors, ("not JSON", "no \"text\"", "no \"text\"", "no \"text\"", "empty", "2026-13-45")):
            self.assertIn(why, error)
        self.assertTrue(all(len(error) < 400 for error in errors))
        self.assertEqual({self.text(row["id"]) for row in self.rows()}, {"first é", "last"})

    def test_very_many_bad_lines_are_counted_and_listed_in_json(self) -> None:
        path = self.write("in.jsonl", b"bad\n" * 50 + line(text="good é"))
        done = self.cli("import", path, "--json")
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 21))
        self.assertIn(b"not imported: 30 more", done.stderr)
        self.assertEqual(len(json.loads(done.stdout)["refused"]), 50)

    def test_line_ends_a_byte_order_mark_and_a_missing_last_newline_are_no_matter(self) -> None:
        data = b"\xef\xbb\xbf" + line(text="one").replace(b"\n", b"\r\n") + b"\r\n" + line(text="two")[:-1]
        done = self.import_(self.write("in.jsonl", data))
        self.assertEqual((done.n_new, done.refused), (2, []))

    def test_a_second_import_stores_nothing(self) -> None:
        lines = [line(text=f"text {n} é", created_at=1e9 + n, uses=n, archived=n % 2 == 0) for n in range(20)]
        lines += [line(text="an insight", category="fact"), line(text="text 3 é"),
                  line(text="text 3 é", project="other")]
        first = self.import_lines(*lines)
        self.assertEqual((first.n_new, first.n_known), (22, 1))
        before = self.log_bytes(), everything(self.places)
        second = self.import_lines(*lines)
        self.assertEqual((second.n_new, second.n_known, second.refused), (0, 23, []))
        self.assertEqual((self.log_bytes(), everything(self.places)), before)

    def test_more_than_one_batch_arrives_and_is_indexed(self) -> None:
        n_lines = 2 * rlm.IMPORT_ITEMS + 7
        told: list[float] = []
        path = self.write("in.jsonl", b"".join(line(text=f"text {n} é") for n in range(n_lines)))
        items, project = rlm.source_items(path)
        done = rlm.import_items(self.view(), items, project.name, lambda done, total, message: told.append(done))
        self.assertEqual(done.n_new, n_lines)
        self.assertEqual(told[:2], [rlm.IMPORT_ITEMS, 2 * rlm.IMPORT_ITEMS])
        view = self.view()
        self.assertEqual((view.n_docs(), len(view.tail)), (n_lines, 0))

    def test_an_import_goes_on_where_one_was_killed_before_it_was_indexed(self) -> None:
        size = rlm.READ_MAX_BYTES // 8 + 1
        path = self.write("in.jsonl", b"".join(line(text=f"text {n} " + "word " * (size // 5)) for n in range(9)))
        self.assertEqual(self.cli("import", path).returncode, 0)
        shutil.rmtree(self.places.index)
        more = self.write("more.jsonl", line(text="one more é"))
        done = self.cli("import", more)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(len(self.view().tail), 0)


class SourceTest(ImportCase):
    def test_gzip_and_standard_input_are_read_too(self) -> None:
        packed = gzip.compress(line(text="packed é")) + gzip.compress(line(text="twice"))
        self.import_(self.write("in.jsonl.gz", packed))
        done = self.cli("import", "-", stdin=line(text="piped é") + b"bad\n")
        self.assertEqual((done.returncode, done.stdout), (1, b"Imported 1, known already 0, not imported 1.\n"))
        self.assertIn(b"stdin:2: not JSON", done.stderr)
        for name in ("in.ndjson", "in.json"):
            self.import_(self.write(name, line(text=f"from {name}")))
        self.assertEqual({self.text(row["id"]) for row in self.rows()},
                         {"packed é", "twice", "piped é", "from in.ndjson", "from in.json"})

    def test_a_cut_gzip_file_gives_what_it_holds_up_to_the_cut(self) -> None:
        lines = [line(text=f"text {n} é " + os.urandom(500).hex()) for n in range(200)]
        packed = gzip.compress(b"".join(lines))
        path = self.write("in.jsonl.gz", packed[: len(packed) // 2])
        done = self.cli("import", path)
        self.assertEqual(done.returncode, 1)
        n_stored = len(self.rows())
        self.assertIn(f"{path}:{n_stored + 1}: cannot be read from here on".encode(), done.stderr)
        self.assertNotIn(b"Traceback", done.stderr)
        self.assertTrue(20 < n_stored < 180, n_stored)

    def test_what_is_no_gzip_file_is_said_so(self) -> None:
        packed = bytearray(gzip.compress(b"".join(line(text=f"text {n}") for n in range(100))))
        packed[-8] ^= 1  # the checksum
        for data in (b"not packed", bytes(packed), b"\x1f\x8b\x08\x00" + b"\xff" * 100):
            done = self.import_(self.write("in.jsonl.gz", data))
            self.assertEqual(len(done.refused), 1)
            self.assertIn("in.jsonl.gz:", done.refused[0])
            self.assertIn("cannot be read from here on", done.refused[0])

    def test_a_folder_gives_its_text_files_in_order(self) -> None:
        folder = os.path.join(self.home, "my notes é")
        for name, data in (("b.md", "# Big é\nbody"), ("a.txt", b"caf\xe9 latin-1\r\n"), ("sub/deep/c", "C"),
                           ("empty.txt", " \n"), ("picture.png", b"\x89PNG\0\0"), (".hidden", "no"),
                           (".git2/config", "no")):
            self.write(os.path.join("my notes é", name), data)
        self.write("secret", "not in the folder")
        os.symlink(os.path.join(self.home, "secret"), os.path.join(folder, "link"))
        os.symlink(self.home, os.path.join(folder, "link to a folder"))
        os.mkfifo(os.path.join(folder, "pipe"))
        os.utime(os.path.join(folder, "b.md"), (1e9, 1e9))
        done = self.import_(folder)
        self.assertEqual((done.n_new, done.n_skipped, done.refused), (3, 1, []))
        rows = {row["summary"].split(":")[0]: row for row in self.rows()}
        self.assertEqual(set(rows), {"a.txt", "b.md", "sub/deep/c"})
        self.assertEqual(rows["b.md"]["summary"], "b.md: Big é")
        self.assertEqual(rows["b.md"]["created_at"], rlm.stamp(1e9))
        self.assertEqual({row["project"] for row in rows.values()}, {"my notes é"})
        self.assertEqual(self.text(rows["a.txt"]["id"]), "caf\udce9 latin-1\r\n")
        self.assertEqual(self.import_(folder).n_new, 0)

    def test_a_huge_binary_file_is_refused_without_reading_all_of_it(self) -> None:
        path = self.write("disk é.img", b"")
        os.truncate(path, 300 << 20)  # sparse: it takes no room on the disk
        with unittest.mock.patch.object(rlm, "read_file", side_effect=AssertionError("read whole")):
            items = list(rlm.file_items(path, "disk"))
        self.assertEqual(items, [{"kind": "damaged", "path": path, "why": "binary"}])

    def test_a_folder_in_a_repository_belongs_to_its_project(self) -> None:
        os.makedirs(os.path.join(self.home, "shop", ".git"))
        self.write("shop/docs/a.md", "text é")
        self.import_(os.path.join(self.home, "shop", "docs"))
        self.assertEqual(self.rows()[0]["project"], "shop")

    def test_the_project_option_is_for_items_that_name_none(self) -> None:
        path = self.write("in.jsonl", line(text="named", project="own") + line(text="unnamed é"))
        self.assertEqual(self.cli("import", path, "--project", "given é").returncode, 0)
        self.assertEqual({self.text(row["id"]): row["project"] for row in self.rows()},
                         {"named": "own", "unnamed é": "given é"})

    def test_a_text_file_becomes_a_chunk(self) -> None:
        self.import_(self.write("Notes é.md", "first line\nsecond"))
        row = self.rows()[0]
        self.assertEqual((row["summary"], row["project"]), ("Notes é.md: first line", "test"))

    def test_a_long_file_becomes_several_chunks_that_are_the_file_together(self) -> None:
        texts = {"lines.log": "".join(f"line {n} é\r\n" for n in range(1000)),
                 "one-line.txt": "".join(map(chr, range(0x4e00, 0x4e00 + 3000))),
                 "bytes.txt": "a" + "\udce9" * 1500, "late.txt": "\n" + "x" * 2000 + "\ny"}
        for name, text in texts.items():
            with self.subTest(name=name), unittest.mock.patch.object(rlm, "PART_CHARS", 1000):
                self.other_home("home " + name)
                done = self.import_(self.write(name, text.encode("utf-8", "surrogateescape")))
                self.assertEqual(done.refused, [])
                rows = sorted(self.rows(), key=lambda row: str(row["id"]))
                self.assertGreater(len(rows), 1)
                parts = [self.text(row["id"]) for row in rows]
                self.assertEqual("".join(parts), text)
                self.assertLessEqual(max(map(len, parts)), 1000)
                self.assertIn(f"{name} (part 1 of {len(rows)}): ", rows[0]["summary"])
                if name == "lines.log":
                    self.assertTrue(all(part.endswith("\n") for part in parts), "cut within a line")
                self.assertEqual(self.import_(os.path.join(self.home, name)).n_new, 0)

    def test_a_part_of_the_widest_letters_still_fits_a_chunk(self) -> None:
        path = self.write("emoji.txt", "🙂" * (rlm.PART_CHARS + 1))
        done = self.import_(path)
        self.assertEqual((done.n_new, done.refused), (2, []))
        self.assertEqual(sum(row["n_bytes"] for row in self.rows()), os.path.getsize(path))

    def test_what_is_not_there_is_said_so(self) -> None:
        for path in ("", "nowhere", os.path.join(self.home, "no", "where")):
            with self.subTest(path=path), self.assertRaises(rlm.NotFound) as caught:
                self.import_(path)
            self.assertIn("no such file or folder", str(caught.exception))

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_what_may_not_be_read_is_reported_and_the_rest_is_stored(self) -> None:
        folder = os.path.dirname(self.write("notes/good.md", "text é"))
        os.chmod(self.write("notes/bad.md", "x"), 0)
        os.chmod(os.path.dirname(self.write("notes/closed/c.md", "x")), 0)
        self.addCleanup(os.chmod, os.path.join(folder, "closed"), 0o700)
        done = self.import_(folder)
        self.assertEqual((done.n_new, len(done.refused)), (1, 2))
        self.assertIn("bad.md: Permission denied", done.refused[0])
        self.assertIn("closed: Permission denied", done.refused[1])

    def test_a_folder_that_cannot_be_listed_is_reported(self) -> None:
        folder = os.path.dirname(self.write("notes/good.md", "text é"))
        closed = os.path.dirname(self.write("notes/closed/c.md", "x"))
        listing = os.scandir

        def scandir(path: Any) -> Any:
            if path == closed:
                raise PermissionError(13, "Permission denied", path)
            return listing(path)

        with unittest.mock.patch.object(os, "scandir", scandir):
            done = self.import_(folder)
        self.assertEqual((done.n_new, done.refused), (1, [f"{closed}: Permission denied"]))


class MixedFolderTest(ImportCase):
    """A folder is taken whole, also when something in it looks like another tool's."""

    def test_notes_beside_what_looks_like_another_tools_store(self) -> None:
        for n in range(3):
            self.write(f"n/note{n}.md", f"note number {n}")
        self.write("n/proj/memory/MEMORY.md", "# MEMORY\nuse pnpm")
        self.write("n/2026-01-01/session-standup.md", "standup of january")
        self.write("n/node_modules/left-pad/README.md", "somebody else's words")
        self.import_(os.path.join(self.home, "n"))
        texts = "".join(map(self.text, (row["id"] for row in self.rows())))
        for wanted in ("note number 0", "note number 1", "note number 2", "standup of january", "use pnpm"):
            self.assertEqual(texts.count(wanted), 1, wanted)
        self.assertNotIn("somebody else", texts)

    def test_a_dry_run_tells_what_is_in_a_file_and_stores_nothing(self) -> None:
        path = self.write("in.jsonl", line(text="one é", project="shop", created_at="2026-01-02T12:00:00Z")
                          + line(text="two", project="api", created_at="2026-03-04T12:00:00Z") + b"{broken\n")
        done = self.cli("import", "--dry-run", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        for part in ("chunk 2", "2026-01-02 to 2026-03-04", "shop 1", "api 1", "9 B"):
            self.assertIn(part, done.stdout.decode())
        self.assertIn(b"in.jsonl:3", done.stderr)
        self.assertEqual(self.rows(), [])

    def test_one_transcript_that_cannot_be_understood_stops_no_other(self) -> None:
        told: list[tuple[str, Any]] = []

        class Odd:
            def save(self, path: str, **_: Any) -> Any:
                if path == "odd":
                    raise ValueError("embedded null byte")
                return unittest.mock.Mock(ids=["x"])

        rlm.import_some(Odd(), ["first", "odd", "last"], lambda what, value: told.append((what, value)))  # type: ignore[arg-type]
        self.assertEqual([what for what, _ in told], ["new", "refused", "new"])
        self.assertIn("embedded null byte", told[1][1])

    def test_pictures_are_left_out_and_utf_16_is_read(self) -> None:
        self.write("n/a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
        self.write("n/utf16.txt", "déploiement du vendredi".encode("utf-16"))
        self.write("n/utf8.txt", "réunion du mardi")
        self.write("n/data.json", '{\n "note": "a document of several lines"\n}')
        done = self.import_(os.path.join(self.home, "n"))
        self.assertEqual((done.n_new, done.n_skipped, done.refused), (3, 1, []))
        texts = {self.text(row["id"]) for row in self.rows()}
        self.assertLessEqual({"déploiement du vendredi", "réunion du mardi"}, texts)
        done = self.import_(os.path.join(self.home, "n/data.json"))
        self.assertEqual((done.n_new + done.n_known, done.refused), (1, []))


class ExportTest(ImportCase):
    def fill(self) -> None:
        """A store with something of everything."""
        with days_ago(50):
            self.chunk("an old text é", project="shop", domain="ops", tags="a,b", ticket="T-1")
            kept = self.chunk("an old text that is kept\r\nDECISION: yes", chunk_type="snapshot")
        self.call("rlm_retention_run")
        self.import_lines(line(text="an important text", importance="critical", session="s1"),
                          line(text="half \ud83d of it and a byte \udce9"))
        self.chunk(HARD, chunk_type="debug")
        for n in range(3):
            self.call("rlm_remember", content=f"statement {n} é", category=rlm.CATEGORIES[n], importance="high",
                      tags="t")
        for _ in range(3):
            self.call("rlm_peek", chunk_id=kept)
        self.call("rlm_forget", insight_id=self.chunk("a text that is forgotten"))

    def last_uses(self) -> dict[str, int]:
        """When each memory that was used was used last."""
        docs = list(self.view().alive())
        return {doc.id: doc.life.last_use_s for doc in docs if doc.life.uses}

    def test_export_and_import_into_an_empty_store_give_the_same_memories(self) -> None:
        self.fill()
        path = os.path.join(self.home, "backup é.jsonl")
        self.assertEqual(self.cli("export", path).stdout.decode(), f"{path}: 8 memories.\n")
        before, wanted = self.exported(), {i: m for i, m in everything(self.places).items() if not m[9]}
        last_uses = self.last_uses()
        self.assertEqual(len(last_uses), 1)
        self.assertEqual({m[8] for m in wanted.values()}, {"session", "task", "longterm", "archived"})
        self.other_home("second")
        self.assertEqual(self.cli("import", path).stdout, b"Imported 8, known already 0, not imported 0.\n")
        self.assertEqual(everything(self.places), wanted)
        self.assertEqual(self.exported(), before, "dates, uses, sessions and tickets too")
        self.assertEqual(self.last_uses(), last_uses)
        rlm.rewrite(self.view())
        self.assertEqual(self.exported(), before)

    def test_lines_are_plain_json_that_nothing_needs_to_explain(self) -> None:
        self.fill()
        done = self.cli("export")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        for exported in done.stdout.splitlines():
            self.assertIsInstance(json.loads(exported)["text"], str)
        self.assertIn("é".encode(), done.stdout)
        self.assertNotIn(b"forgotten", done.stdout)

    def test_one_project_can_be_exported(self) -> None:
        self.fill()
        self.assertEqual([json.loads(exported)["project"] for exported in self.exported("SHOP")], ["shop"])
        self.assertEqual(self.cli("export", "--project", "none").stdout, b"")

    def test_an_export_is_private_and_complete_or_not_there(self) -> None:
        self.fill()
        path = os.path.join(self.home, "out.jsonl")
        self.assertEqual(self.cli("export", path).returncode, 0)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

        def failing() -> Any:
            yield b"one\n"
            raise OSError(28, "No space left on device")

        with self.assertRaises(rlm.StoreUnwritable):
            rlm.write_lines(os.path.join(self.home, "cut.jsonl"), failing())
        self.assertEqual([name for name in os.listdir(self.home) if "cut" in name], [])

    def test_a_memory_that_is_damaged_is_missing_with_a_message_and_code_1(self) -> None:
        self.fill()
        rlm.rewrite(self.view())
        number = self.places.numbered("archive")[-1]
        self.assertGreater(os.path.getsize(self.places.archive(number)), 0)
        with open(self.places.archive(number), "r+b") as file:
            file.write(b"\0" * 40)
        done = self.cli("export")
        self.assertEqual((done.returncode, done.stdout.count(b"\n")), (1, 7))
        self.assertIn(b"1 memory is damaged and not in the export", done.stderr)
        done = self.cli("export", "out.jsonl")
        self.assertEqual((done.returncode, done.stdout), (1, b"out.jsonl: 7 memories.\n"))

    def test_merging_two_stores_whose_ids_collide_loses_nothing(self) -> None:
        item = {"kind": "insight", "id": "i-00000001"}
        self.other_home("left")
        left_id = self.chunk("left text é")
        self.chunk("a text of both")
        rlm.import_items(self.view(), [{**item, "text": "left insight"}], "test", lambda *_: None)
        left = self.exported()
        self.other_home("right")
        self.assertEqual(self.chunk("right text 日本"), left_id, "the ids do not collide")
        self.chunk("a text of both")
        rlm.import_items(self.view(), [{**item, "text": "right insight"}], "test", lambda *_: None)
        right = self.exported()
        merged: list[set[tuple[str, str]]] = []
        for name, sources in (("left and right", (left, right)), ("right and left", (right, left))):
            self.other_home(name)
            for lines in (*sources, *sources):
                self.import_lines(*lines)
            found = everything(self.places)
            self.assertEqual(len(found), 5)
            merged.append({(memory[0], memory[1]) for memory in found.values()})
            self.assertIn(left_id, found)
        self.assertEqual(merged[0], merged[1])
        self.assertEqual(merged[0], {
            ("chunk", "left text é"), ("chunk", "right text 日本"), ("chunk", "a text of both"),
            ("insight", "left insight"), ("insight", "right insight")})

    def test_a_pipe_of_export_and_gzip_is_read_back(self) -> None:
        self.fill()
        done = self.cli("export")
        packed = subprocess.run(["gzip", "-c"], input=done.stdout, capture_output=True, check=True).stdout
        path = self.write("backup.jsonl.gz", packed)
        self.other_home("second")
        self.assertEqual((self.import_(path).n_new, len(self.exported())), (8, 8))


if __name__ == "__main__":
    unittest.main()
