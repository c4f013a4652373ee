"""The log is the truth: cut, damaged, rolled or without its index and manifest, it gives back all it holds."""
from __future__ import annotations

import json
import os
import random
import shutil
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from tests.support import HARD, InProcess, everything, rlm


class LogCase(InProcess):
    """Tests in one process: nothing here needs the disk itself, so nobody waits for it."""

    def put_log(self, data: bytes, number: int = 1) -> None:
        """Makes *data* the log file's content, in place, as if no more had ever been acknowledged."""
        with open(self.places.log(number), "r+b") as file:
            file.truncate(0)
            file.write(data)
        os.truncate(self.places.lock(), 0)

    def ids(self) -> list[str]:
        """The ids of all that is alive, as a new process sees it."""
        view = self.view()
        ids = [doc.id for doc in view.alive()]
        view.log.close()
        return ids

    def fill(self, n_chunks: int = 4) -> list[str]:
        """Some chunks and insights with a use and a forget between them; the ids of those alive."""
        ids = []
        for i in range(n_chunks):
            ids.append(self.chunk(f"chunk {i} {HARD}", tags=f"tag{i % 3}", domain="api" if i % 2 else ""))
            new = str(self.call("rlm_remember", content=f"insight {i} {HARD}", tags="é").data["id"])
            if i % 4 == 3:
                self.call("rlm_forget", insight_id=new)
            else:
                ids.append(new)
            self.call("rlm_peek", chunk_id=ids[0])
        return ids

    def problems(self) -> list[dict[str, Any]]:
        """What verify finds."""
        return rlm.verify(self.view(), lambda *_: None)

    def n_damaged(self) -> int:
        """Damaged lines as status reports them."""
        return int(self.call("rlm_status").data["damaged_lines"])


class CutTest(LogCase):
    def lines_of(self, data: bytes) -> list[bytes]:
        """The lines of a log, the last perhaps without its newline."""
        return data.split(b"\n")

    def ids_in(self, data: bytes) -> list[str]:
        """The documents that the readable lines of *data* describe."""
        records = [rlm.decode_line(line) for line in self.lines_of(data)]
        return [r["id"] for r in records if r and r["k"] in rlm.KINDS]

    def test_a_log_cut_at_any_byte_keeps_every_whole_record_and_takes_the_next(self) -> None:
        for content in ("first é", "second 日本"):
            self.call("rlm_remember", content=content, tags="é")
        first = self.chunk(HARD)
        self.call("rlm_peek", chunk_id=first)
        log = self.log_bytes()
        self.assertGreater(len(log), 700)
        for n_bytes in range(len(log) + 1):
            left = log[:n_bytes]
            self.put_log(left)
            whole, torn = left[: left.rfind(b"\n") + 1], left[left.rfind(b"\n") + 1:]
            view = self.view()
            self.assertEqual([doc.id for doc in view.alive()], self.ids_in(whole), n_bytes)
            self.assertEqual(view.n_damaged, 0)
            with rlm.Writer(view) as writer:
                new, _ = rlm.remember(writer, HARD, category="fact", importance="low", tags=[], project="p", at_s=1.0)
            after = self.log_bytes()
            self.assertTrue(after.startswith(left + (b"\n{" if torn else b"{")), n_bytes)
            fresh = self.view()
            # A record that lost nothing but its newline is whole again.
            self.assertEqual([doc.id for doc in fresh.alive()], [*self.ids_in(left), new], n_bytes)
            self.assertEqual(fresh.n_damaged, int(bool(torn) and rlm.decode_line(torn) is None), n_bytes)
            self.assertEqual([doc.id for doc in view.alive()][-1], new)
            for each in (view, fresh):
                each.log.close()

    def test_no_way_to_write_is_glued_to_a_torn_line(self) -> None:
        ids = self.fill()
        forgotten, old = ids[3], self.chunk("to be archived é")
        self.call("rlm_forget", insight_id=forgotten)
        view = self.view()
        rlm.archive_docs(view, [view.doc(view.ordinal_of(old))], 0.0)
        self.call("rlm_remember", content="the last whole record é")
        source = os.path.join(self.home, "note é.txt")
        with open(source, "w", encoding="utf-8") as file:
            file.write("imported é text\n")
        ways: dict[str, Callable[[], object]] = {
            "chunk": lambda: self.chunk("new chunk é"), "remember": lambda: self.call("rlm_remember", content="new é"),
            "forget": lambda: self.call("rlm_forget", insight_id=ids[1]),
            "peek": lambda: self.call("rlm_peek", chunk_id=ids[0]),
            "restore": lambda: self.call("rlm_restore", chunk_id=old),
            "undo": lambda: self.main("forget", "--undo", forgotten),
            "retention": lambda: self.call("rlm_retention_run", archive=True),
            "import": lambda: self.main("import", source),
            "compact": lambda: self.main("compact"), "repair": lambda: self.main("verify", "--repair"),
        }
        keep = os.path.join(self.home, "keep")
        shutil.copytree(self.places.memory, keep)
        log, later_s = self.log_bytes(), rlm.now() + 5 * rlm.DAY_S  # time for retention to have something to do
        self.assertEqual(self.main("config", "archive_after_days", "3")[0], 0)
        last = log[log.rfind(b"\n", 0, -1) + 1:]
        for name, write in ways.items():
            for torn in (last[:1], last[: len(last) // 2], last[:-2], b"\0" * 40, b"\xff\xfe"):
                with self.subTest(name, torn=torn[:20]), mock.patch.object(rlm, "now", lambda: later_s):
                    shutil.rmtree(self.places.memory)
                    shutil.copytree(keep, self.places.memory)
                    self.put_log(log[: -len(last)] + torn)
                    before = everything(self.places)
                    write()
                    for line in self.log_bytes().split(b"\n"):
                        self.assertTrue(line in (b"", torn) or rlm.decode_line(line), line)
                    after = everything(self.places)
                    self.assertLessEqual(before.keys(), after.keys())
                    self.assertEqual({i: after[i][1] for i in before}, {i: before[i][1] for i in before})
                    if name != "repair":  # a line without an end may be one that is being written
                        self.assertNotEqual(self.log_bytes(), log[: -len(last)] + torn)

    def test_a_view_that_was_open_sees_what_comes_after_a_cut(self) -> None:
        self.fill(2)
        view = self.view()
        log = self.log_bytes()
        self.put_log(log[:-7])
        new = self.call("rlm_remember", content="after the cut é").data["id"]
        self.assertIn(new, [doc.id for doc in view.refresh().alive()])
        self.put_log(log[: log.index(b"\n") + 1])  # as a backup that was put back leaves it
        newer = self.chunk("much longer than what was cut away é " * 200)
        self.assertEqual([doc.id for doc in view.refresh().alive()], self.ids())
        self.assertIn(newer, self.ids())


    def test_blocks_of_any_size_are_the_log(self) -> None:
        with mock.patch.object(rlm, "LOG_ROLL_BYTES", 1500):
            self.fill(6)
        log, whole = self.view().log, self.log_bytes()
        self.assertGreater(len(log.manifest["logs"]), 2)
        for n_block in (1, 2, 7, 100, 333, 5000):
            blocks = list(log.blocks(0, n_block))
            self.assertEqual(b"".join(block for _, block in blocks), whole)
            self.assertEqual([whole[pos : pos + len(block)] for pos, block in blocks], [block for _, block in blocks])
        self.assertEqual([line for _, line in log.lines(0)], whole.split(b"\n")[:-1])


class DamageTest(LogCase):
    def damages(self, line: bytes) -> Iterator[tuple[str, bytes]]:
        """Ways a disk or a stray program may leave a line."""
        yield "a byte flipped in the frame", bytes([line[0] ^ 1]) + line[1:]
        yield "half of it zeros", line[: len(line) // 2] + bytes(len(line) - len(line) // 2)
        yield "not UTF-8", line[: len(line) // 2] + b"\xff" + line[len(line) // 2 + 1:]
        yield "cut short", line[: len(line) // 3]
        yield "another program's text", "plain é text, no JSON".encode()
        yield "JSON but no record", b'["k"]'

    def test_a_damaged_line_costs_that_line_and_is_counted_reported_and_set_aside(self) -> None:
        self.fill()
        log = self.log_bytes()
        lines = log.split(b"\n")[:-1]
        keep = os.path.join(self.home, "keep")
        shutil.copytree(self.places.memory, keep)
        for i in (0, 1, len(lines) // 2, len(lines) - 1):
            for name, damaged in self.damages(lines[i]):
                with self.subTest(name, line=i + 1):
                    shutil.rmtree(self.places.memory)
                    shutil.copytree(keep, self.places.memory)
                    # What is left without that line is what a store would hold that never had it.
                    self.put_log(b"\n".join([*lines[:i], *lines[i + 1:], b""]))
                    expected = everything(self.places)
                    self.put_log(b"\n".join([*lines[:i], damaged, *lines[i + 1:], b""]))
                    self.assertEqual(everything(self.places), expected)
                    self.assertEqual(self.n_damaged(), 1)
                    self.check_report(i + 1, sum(len(line) + 1 for line in lines[:i]), damaged)
                    self.check_repair(damaged, expected)

    def check_report(self, number: int, offset: int, damaged: bytes) -> None:
        """verify names the line, and fails."""
        (problem,) = self.problems()
        self.assertEqual((problem["file"], problem["line"], problem["byte"], problem["n_bytes"]),
                         ("log-000001.jsonl", number, offset, len(damaged)))
        code, out = self.main("verify")
        self.assertEqual(code, 1)
        self.assertIn(f"log-000001.jsonl:{number} (byte {offset:,}, {len(damaged):,} bytes): damaged", out)

    def check_repair(self, damaged: bytes, expected: dict[str, Any]) -> None:
        """verify --repair puts exactly those bytes into a file and loses nothing else."""
        code, out = self.main("verify", "--repair")
        self.assertEqual(code, 0, out)
        (aside,) = [n for n in os.listdir(self.places.memory) if n.startswith("damaged-")]
        self.assertIn(aside, out)
        self.assertEqual(rlm.read_file(os.path.join(self.places.memory, aside)), damaged + b"\n")
        self.assertEqual(everything(self.places), expected)
        self.assertEqual((self.problems(), self.n_damaged(), self.main("verify")[0]), ([], 0, 0))

    def test_many_damaged_lines_are_reported_one_by_one(self) -> None:
        self.fill()
        lines = self.log_bytes().split(b"\n")
        for i in (1, 2, 5):
            lines[i] = b"\0\0" + lines[i]
        self.put_log(b"\n".join(lines))
        self.assertEqual([p["line"] for p in self.problems()], [2, 3, 6])
        self.assertEqual(self.n_damaged(), 3)
        self.assertEqual(self.main("verify", "--repair")[0], 0)
        (aside,) = [n for n in os.listdir(self.places.memory) if n.startswith("damaged-")]
        self.assertEqual(rlm.read_file(os.path.join(self.places.memory, aside)),
                         b"\n".join([lines[1], lines[2], lines[5], b""]))

    def test_two_records_on_one_line_are_both_saved_by_repair(self) -> None:
        ids = self.fill()
        expected = everything(self.places)
        keep, lines = os.path.join(self.home, "keep"), self.log_bytes().split(b"\n")
        shutil.copytree(self.places.memory, keep)
        for glue in (b"", b"\0", b"\x8a", b"{\"torn"):
            with self.subTest(glue):
                self.put_log(b"\n".join([*lines[:2], lines[2] + glue + lines[3], *lines[4:]]))
                self.assertLess(len(self.ids()), len(ids))
                self.assertEqual(self.main("verify", "--repair")[0], 0)
                self.assertEqual(everything(self.places), expected)
                shutil.rmtree(self.places.memory)
                shutil.copytree(keep, self.places.memory)

    def test_a_dry_run_of_repair_changes_nothing(self) -> None:
        self.fill()
        self.put_log(self.log_bytes() + b"\xff\n")
        before = {n: os.stat(os.path.join(self.places.memory, n)).st_mtime_ns for n in os.listdir(self.places.memory)}
        self.assertEqual(self.main("verify", "--repair", "--dry-run")[0], 1)
        self.assertEqual({n: os.stat(os.path.join(self.places.memory, n)).st_mtime_ns
                          for n in os.listdir(self.places.memory)}, before)

    def test_compact_keeps_damaged_lines_for_a_later_repair(self) -> None:
        self.fill()
        self.put_log(b'{"half of a record\n' + self.log_bytes())
        expected = everything(self.places)
        self.assertEqual(self.main("compact")[0], 0)
        self.assertEqual(everything(self.places), expected)
        self.assertEqual([p["problem"] for p in self.problems()], ["damaged: no record"])
        self.assertIn(b'{"half of a record\n', self.log_bytes())

    def test_a_text_that_was_changed_behind_our_back_is_reported(self) -> None:
        doc_id = self.chunk("the true text é")
        log = self.log_bytes().replace(b"the true text", b"the wrong tex")
        without_checksum = b"{" + log[len('{"c":"01234567",'):]  # as versions before checksums wrote it
        for data in (log, without_checksum):
            with self.subTest(data[:20]):
                self.put_log(data, self.places.numbered("log")[0])
                (problem,) = self.problems()
                self.assertIn("is not what was written", problem["problem"])
                self.assertIn("altered on disk", self.call("rlm_peek", chunk_id=doc_id).text)
                self.assertIn("altered on disk", self.call("rlm_search", query="wrong").text)
                self.put_log(data, self.places.numbered("log")[0])
                self.assertEqual(self.main("verify", "--repair")[0], 1)  # nobody can tell what was right, so it stays
                self.assertEqual(self.log_bytes(), data)
                self.assertEqual(self.main("verify", "--accept")[0], 0)
                self.assertEqual((self.problems(), self.n_damaged()), ([], 0))
                self.assertIn("the wrong tex é", self.call("rlm_peek", chunk_id=doc_id).verbatim)

    def test_a_line_damaged_after_it_was_indexed_costs_that_line_only(self) -> None:
        ids = self.fill(12)
        self.assertTrue(rlm.catch_up(self.view()))
        expected = everything(self.places)
        log = self.log_bytes()
        at = log.index(b"chunk 2 ")
        self.put_log(log[:at] + b"\xff" + log[at + 1:])
        view = self.view()
        self.assertGreater(view.index.n_docs, 0)  # the fault is one that the index does not notice
        (lost,) = [i for i, value in expected.items() if value[1].startswith("chunk 2 ")]
        with self.assertRaisesRegex(rlm.Damaged, "run `rlm verify`"):
            self.call("rlm_peek", chunk_id=lost)
        for doc_id in ids:
            if doc_id != lost:
                self.assertEqual(self.call("rlm_peek", chunk_id=doc_id).verbatim, expected[doc_id][1])
        for name, arguments in (("rlm_search", {"query": "chunk"}), ("rlm_grep", {"pattern": "chunk"}),
                                ("rlm_recall", {}),
                                ("rlm_grep", {"pattern": "chnuk", "fuzzy": True}), ("rlm_list_chunks", {}),
                                ("rlm_sessions", {}),
                                ("rlm_recall", {"query": "insight"}), ("rlm_status", {}),
                                ("rlm_retention_preview", {})):
            with self.subTest(name):
                self.assertNotIn("chunk 2 ", self.call(name, **arguments).text)
        with mock.patch.object(rlm, "now", lambda: rlm.time.time() + 90 * rlm.DAY_S):
            self.call("rlm_retention_run")  # archives the others and does not stumble
        self.assertTrue([p for p in self.problems() if p.get("byte") == log.rfind(b"\n", 0, at) + 1])
        self.assertEqual(self.main("verify", "--repair")[0], 0)
        del expected[lost]
        self.assertEqual({i: v[1] for i, v in everything(self.places).items()}, {i: v[1] for i, v in expected.items()})
        self.assertEqual(self.problems(), [])


class RollTest(LogCase):
    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.object(rlm, "LOG_ROLL_BYTES", 1500)
        patch.start()
        self.addCleanup(patch.stop)

    def test_a_log_in_many_files_reads_as_one(self) -> None:
        watcher = self.view()  # open before there is a second file, as a server is
        ids = self.fill(12)
        self.assertGreater(len(self.places.numbered("log")), 4)
        for number in self.places.numbered("log")[:-1]:
            self.assertLess(os.path.getsize(self.places.log(number)), 1500 + 2000)
            self.assertTrue(rlm.read_file(self.places.log(number)).endswith(b"\n"))
        self.assertEqual(self.ids(), ids)
        self.assertEqual([doc.id for doc in watcher.refresh().alive()], ids)
        for where in ("tail", "index"):
            with self.subTest(where):
                texts = {self.call("rlm_peek", chunk_id=doc_id).verbatim: doc_id for doc_id in ids}
                for i in range(12):
                    hits = self.call("rlm_grep", pattern=f"chunk {i} ").data["hits"]
                    self.assertEqual([hit["id"] for hit in hits], [texts[f"chunk {i} {HARD}"]])
                self.assertEqual(len(self.call("rlm_list_chunks", limit=100).data["chunks"]), 12)
                self.assertTrue(rlm.catch_up(self.view()))
        self.assertEqual(self.problems(), [])

    def test_verify_counts_lines_within_each_file(self) -> None:
        self.fill(12)
        for number in self.places.numbered("log")[:3]:
            data = rlm.read_file(self.places.log(number))
            self.put_log(b"\xff" + data[1:], number)
        self.assertEqual([(p["file"], p["line"], p["byte"]) for p in self.problems()],
                         [(f"log-00000{i}.jsonl", 1, 0) for i in (1, 2, 3)])

    def test_a_torn_line_at_the_end_of_a_full_file_stays_there(self) -> None:
        first = self.chunk("x" * 2000 + " é")
        rlm.append_bytes(self.places.log(1), b'{"torn')
        second = self.chunk("second é")
        self.assertEqual((self.places.numbered("log"), self.ids()), ([1, 2], [first, second]))
        self.assertTrue(rlm.read_file(self.places.log(1)).endswith(b'\n{"torn\n'))
        self.assertEqual([(p["file"], p["line"]) for p in self.problems()], [("log-000001.jsonl", 2)])

    def test_a_roll_that_was_interrupted_anywhere_loses_nothing(self) -> None:
        big = self.chunk("x" * 2000 + " é")
        keep = os.path.join(self.home, "keep")
        shutil.copytree(self.places.memory, keep)
        for n_calls in range(12):
            shutil.rmtree(self.places.memory)
            shutil.copytree(keep, self.places.memory)
            left = [n_calls]

            def fail(fd: int, data: bytes, write: Callable[..., Any] = rlm.write_all, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] < 0:
                    os.write(fd, data[: len(data) // 2])
                    raise OSError(28, "No space left on device")
                write(fd, data)

            try:
                with mock.patch.object(rlm, "write_all", fail):
                    new = self.chunk("second é")
            except rlm.StoreUnwritable:
                self.assertEqual(self.ids(), [big])
                new = self.chunk("second é")
            else:
                self.assertGreater(n_calls, 2)
            self.assertEqual(self.ids(), [big, new])
            self.assertEqual(len(self.view().log.manifest["logs"]), 2)
            self.assertEqual([p for p in rlm.rubbish(self.view().log) if os.path.getsize(p)], [])

    def test_a_missing_or_shortened_file_is_reported_and_costs_only_itself(self) -> None:
        self.fill(12)
        numbers = self.places.numbered("log")
        texts = {n: rlm.read_file(self.places.log(n)) for n in numbers}
        lost = [r["id"] for line in texts[2].split(b"\n") if (r := rlm.decode_line(line)) and r["k"] in rlm.KINDS]
        self.assertTrue(lost)
        before = self.ids()
        os.unlink(self.places.log(2))
        self.assertEqual(self.ids(), [i for i in before if i not in lost])
        self.assertEqual([p["file"] for p in self.problems()], ["log-000002.jsonl"])
        rlm.append_bytes(self.places.log(2), texts[2][: texts[2].index(b"\n") + 1])
        self.assertEqual([p["file"] for p in self.problems()], ["log-000002.jsonl"])


class ManifestTest(LogCase):
    def manifest(self) -> bytes:
        """The manifest's bytes."""
        return rlm.read_file(self.places.manifest())

    def put_manifest(self, data: bytes) -> None:
        """Writes the manifest."""
        with open(self.places.manifest(), "wb") as file:
            file.write(data)

    def test_a_store_without_its_manifest_still_answers_and_goes_on(self) -> None:
        with mock.patch.object(rlm, "LOG_ROLL_BYTES", 1500):
            self.fill(8)
        self.assertGreater(len(self.places.numbered("log")), 2)
        view = self.view()
        rlm.archive_docs(view, [doc for doc in view.alive() if doc.kind == "chunk"][:3], rlm.now())
        rlm.catch_up(self.view())
        for step in ("rolled and archived", "compacted"):
            with self.subTest(step):
                expected = everything(self.places)
                os.unlink(self.places.manifest())
                self.assertEqual(everything(self.places), expected)
                self.assertEqual([p["file"] for p in self.problems()], ["manifest.json"])
                new = self.chunk(f"{step} é")
                self.assertTrue(os.path.exists(self.places.manifest()))
                after = everything(self.places)
                del after[new]
                self.assertEqual(after, expected)
                self.assertEqual(self.problems(), [])
                self.assertEqual(self.main("compact")[0], 0)

    def test_a_lost_manifest_is_made_anew_by_repair(self) -> None:
        self.fill()
        expected = everything(self.places)
        os.unlink(self.places.manifest())
        self.assertEqual(self.main("verify")[0], 1)
        self.assertEqual(self.main("verify", "--repair")[0], 0)
        self.assertTrue(os.path.exists(self.places.manifest()))
        self.assertEqual((everything(self.places), self.main("verify")[0]), (expected, 0))

    def test_a_damaged_manifest_is_never_believed_and_repair_makes_it_anew(self) -> None:
        self.fill()
        view = self.view()
        rlm.archive_docs(view, [doc for doc in view.alive() if doc.kind == "chunk"][:2], rlm.now())
        self.assertEqual(self.main("compact")[0], 0)
        expected, good = everything(self.places), self.manifest()
        keep = os.path.join(self.home, "keep")
        shutil.copytree(self.places.memory, keep)
        n_refused = 0
        for i in range(len(good)):
            for flip in (1, 0x10, 0x80):
                self.put_manifest(good[:i] + bytes([good[i] ^ flip]) + good[i + 1:])
                try:
                    found = everything(self.places)
                except rlm.RlmError as error:  # nobody can know what a newer version means
                    self.fail(f"{i} {flip} {error}")
                self.assertEqual(found, expected, (i, flip))
                n_refused += "manifest.json" in [p["file"] for p in self.problems()]
        self.assertGreater(n_refused, 2 * len(good))
        for data in (good[: len(good) // 2], b"", b"{}", b"null", b"\0" * 300, good.replace(b'"logs"', b'"lags"')):
            with self.subTest(data[:20]):
                shutil.rmtree(self.places.memory)
                shutil.copytree(keep, self.places.memory)
                self.put_manifest(data)
                self.assertEqual(everything(self.places), expected)
                self.assertEqual(self.main("verify")[0], 1)
                code, out = self.main("verify", "--repair")
                self.assertEqual((code, everything(self.places)), (0, expected), out)
                self.assertEqual((self.main("verify")[0], self.problems()), (0, []))
                self.put_manifest(data)  # and a writer does the same first
                new = self.chunk("written all the same é")
                after = everything(self.places)
                self.assertEqual(after.pop(new)[1], "written all the same é")
                self.assertEqual((after, self.problems()), (expected, []))
                self.assertIn(data, b"".join(map(rlm.read_file, self.places.found("damaged-", ".txt"))))

    def test_a_manifest_of_a_newer_rlm_is_left_alone(self) -> None:
        self.fill(1)
        newer = json.loads(self.manifest())
        newer["v"] = rlm.MANIFEST_VERSION + 1
        newer["check"] = rlm.manifest_check(newer)
        data = json.dumps(newer).encode()
        self.put_manifest(data)
        for arguments in (("remember", "é"), ("status",), ("compact",), ("verify", "--repair")):
            code, out = self.main(*arguments)
            self.assertEqual((code, "newer rlm; update this one" in out), (1, True), arguments)
        self.assertEqual(self.manifest(), data)

    def test_a_store_that_vanishes_under_an_open_view_is_empty_and_can_be_filled_again(self) -> None:
        store = rlm.Store(self.places)
        self.fill(3)
        rlm.catch_up(self.view())
        with store.reading() as view:
            self.assertEqual(len(list(view.alive())), 6)
        shutil.rmtree(self.places.memory)
        with store.reading() as view:
            self.assertEqual(list(view.alive()), [])
        new = self.chunk("a new life é")
        with store.reading() as view:
            self.assertEqual([doc.id for doc in view.alive()], [new])


class IndexTest(LogCase):
    """The index is a cache: whatever becomes of it, the answers stay the same and it is made anew."""

    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.object(rlm, "now", lambda: 1.8e9)
        patch.start()
        self.addCleanup(patch.stop)

    def make(self) -> None:
        """A store with an index of two segments and a tail."""
        self.fill(8)
        self.assertTrue(rlm.catch_up(self.view()))
        self.fill_more("second")
        self.assertTrue(rlm.catch_up(self.view()))
        self.fill_more("third")
        view = self.view()
        self.assertEqual((len(view.index.segments), len(view.tail) > 0, view.index.n_docs > 10), (2, True, True))

    def fill_more(self, word: str) -> None:
        """A few more chunks with that word, one of them a known text again."""
        for i in range(3):
            self.chunk(f"{word} wave {i} of file_{i}.py {HARD}", tags="é", ticket=f"T-{i}")
        self.chunk(f"chunk 0 {HARD}")

    def answers(self) -> dict[str, Any]:
        """What every reading tool answers."""
        calls: list[tuple[str, dict[str, Any]]] = [
            ("rlm_list_chunks", {"limit": 100}), ("rlm_recall", {"limit": 100}),
            ("rlm_recall", {"query": "insight 3 é"}),
            ("rlm_search", {"query": "second wave chunk", "limit": 50}),
            ("rlm_search", {"query": "日本", "domain": "api"}),
            ("rlm_grep", {"pattern": "wave [12]", "limit": 100}), ("rlm_grep", {"pattern": "secnd", "fuzzy": True}),
            ("rlm_sessions", {}), ("rlm_domains", {}), ("rlm_retention_preview", {}),
            ("rlm_search", {"query": "x", "entity": "file_1"})]
        found: dict[str, Any] = {}
        for name, given in calls:
            data = rlm.run_tool(rlm.Call(rlm.Store(self.places)), name, given).data
            for hit in data.get("hits", ()):  # neighbours lend each other score within a segment only
                hit.pop("score", None)
            found[f"{name} {given}"] = {**data, "hits": sorted(data.get("hits", ()), key=lambda hit: str(hit["id"]))}
        found["all"] = everything(self.places)
        return found

    def keep(self) -> str:
        """A copy of the index to put back."""
        kept = os.path.join(self.home, "kept index")
        shutil.copytree(self.places.index, kept)
        return kept

    def put_back(self, kept: str) -> None:
        """Makes the index that copy, with its times."""
        shutil.rmtree(self.places.index, ignore_errors=True)
        shutil.copytree(kept, self.places.index)

    def assert_noticed(self, expected: dict[str, Any], *, gone: bool = True) -> None:
        """The index is not used, the answers are right, and a sound index is made anew."""
        if gone:
            self.assertEqual(self.view().index.n_docs, 0)
        self.assertEqual(self.answers(), expected)
        self.assertTrue(rlm.catch_up(self.view()))
        view = self.view()
        self.assertEqual((view.index.n_docs, view.index.covers), (view.n_docs(), view.seen))
        self.assertEqual(self.answers(), expected)
        self.assertEqual(self.problems(), [])

    def names(self, beginning: str = "") -> list[str]:
        """The index's files."""
        return sorted(n for n in os.listdir(self.places.index) if n.startswith(beginning) and n != "lock")

    def test_answers_do_not_depend_on_the_index(self) -> None:
        self.make()
        expected = self.answers()
        self.assertEqual(len(expected["rlm_list_chunks {'limit': 100}"]["chunks"]), 8 + 3 + 3)
        self.assertTrue(expected["rlm_search {'query': 'second wave chunk', 'limit': 50}"]["hits"])
        shutil.rmtree(self.places.index)
        self.assert_noticed(expected)

    def test_any_file_of_it_deleted_is_noticed(self) -> None:
        self.make()
        expected, kept = self.answers(), self.keep()
        self.assertEqual(len(self.names()), 4)
        for name in self.names():
            with self.subTest(name):
                self.put_back(kept)
                os.unlink(os.path.join(self.places.index, name))
                self.assert_noticed(expected)

    def test_a_file_cut_at_many_sizes_is_noticed(self) -> None:
        self.make()
        expected, kept = self.answers(), self.keep()
        for name in self.names():
            size = os.path.getsize(os.path.join(kept, name))
            for n_bytes in sorted({0, 1, 7, 8, 15, 16, 17, size // 3, size // 2, size - 9, size - 2}):  # one without its newline is whole
                with self.subTest(name, n_bytes=n_bytes):
                    self.put_back(kept)
                    path = os.path.join(self.places.index, name)
                    info = os.stat(path)
                    os.truncate(path, n_bytes)
                    if n_bytes % 2:  # as some backup tools do
                        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
                    self.assertEqual(self.view().index.n_docs, 0)
            self.assert_noticed(expected)

    def test_a_flipped_byte_is_noticed(self) -> None:
        self.make()
        expected, kept = self.answers(), self.keep()
        seed = random.randrange(1 << 32)
        dice = random.Random(seed)
        for name in self.names():
            data = rlm.read_file(os.path.join(kept, name))
            for i in [0, len(data) - 1, *(dice.randrange(len(data)) for _ in range(12))]:
                with self.subTest(name, byte=i, seed=seed):
                    self.put_back(kept)
                    with open(os.path.join(self.places.index, name), "wb") as file:
                        file.write(data[:i] + bytes([data[i] ^ (1 << dice.randrange(8))]) + data[i + 1:])
                    if name.startswith("current"):  # a digit of a time may change: then the checksum is computed
                        self.assertIn(self.view().index.n_docs, (0, len(expected["all"]) - 3))
                    else:
                        self.assertEqual(self.view().index.n_docs, 0)
                    self.assertEqual(everything(self.places), expected["all"])
            self.assert_noticed(expected, gone=False)

    def test_a_list_of_its_files_that_says_anything_is_noticed(self) -> None:
        self.make()
        expected = self.answers()
        (name,) = self.names("current")
        path = os.path.join(self.places.index, name)
        current = json.loads(rlm.read_file(path))
        values: list[Any] = [None, -1, 0, 1 << 70, 1e999, "x", [], {}, [[]], [[1, 2, 3, 4]], [["../../x", 1, 1, 1]],
                             True]
        for key in current:
            for value in values:
                with self.subTest(key, value=value):
                    with open(path, "w", encoding="utf-8") as file:
                        json.dump({**current, key: value}, file)
                    self.assertEqual(everything(self.places), expected["all"])
        for data in (b"", b"[]", b"null", b"{", b"\xff" * 50, b"[" * 100_000):
            with self.subTest(data[:9]), open(path, "wb") as file:
                file.write(data)
            self.assertEqual(self.answers(), expected)
        self.assert_noticed(expected)

    def test_another_stores_index_is_noticed(self) -> None:
        self.make()
        expected = self.answers()
        other = rlm.Places(memory=os.path.join(self.home, "other é"))
        mine, self.places = self.places, other
        self.fill(9)
        self.fill_more("foreign")
        self.assertTrue(rlm.catch_up(self.view()))
        self.places = mine
        self.put_back(other.index)
        self.assert_noticed(expected)

    def test_an_older_index_is_used_as_far_as_it_reaches(self) -> None:
        self.make()
        kept = self.keep()
        self.fill_more("fourth")
        self.call("rlm_forget", insight_id=self.call("rlm_recall").data["insights"][0]["id"])
        self.assertTrue(rlm.catch_up(self.view()))
        expected = self.answers()
        self.put_back(kept)
        self.assertGreater(self.view().index.n_docs, 0)
        self.assert_noticed(expected, gone=False)

    def test_an_index_from_before_a_compact_is_noticed(self) -> None:
        self.make()
        kept = self.keep()
        self.assertEqual(self.main("compact")[0], 0)
        expected = self.answers()
        self.assertEqual(self.view().index.n_docs, len(expected["all"]))  # the new generation came with its own
        self.put_back(kept)
        self.assert_noticed(expected)

    def test_a_log_that_was_put_back_from_a_backup_is_noticed(self) -> None:
        self.make()
        log, expected = self.log_bytes(), self.answers()
        self.fill_more("written and lost again")
        self.assertTrue(rlm.catch_up(self.view()))
        self.put_log(log)  # shorter than the index reaches
        self.assert_noticed(expected)
        self.fill_more("fourth")
        self.assertTrue(rlm.catch_up(self.view()))
        now_s, longer = rlm.now(), self.log_bytes()
        self.put_log(log)
        with mock.patch.object(rlm, "now", lambda: now_s + 1):
            self.fill_more("another")
        self.assertGreaterEqual(len(self.log_bytes()), len(longer))  # as long, and not the same
        expected = self.answers()
        self.assertIn("another", str(expected))
        self.assert_noticed(expected)

    def test_an_index_that_cannot_be_written_is_done_without(self) -> None:
        self.make()
        expected = self.answers()
        shutil.rmtree(self.places.index)
        with open(self.places.index, "w", encoding="utf-8") as file:
            file.write("é, in the way")
        self.assertEqual(self.answers(), expected)
        self.assertFalse(rlm.catch_up(self.view()))
        new = self.chunk("written without an index é")
        self.assertEqual(self.main("compact")[0], 0)
        self.assertEqual(self.call("rlm_search", query="written without").data["hits"][0]["id"], new)
        self.assertEqual(self.main("status")[0], 0)
        os.unlink(self.places.index)
        self.assertTrue(rlm.catch_up(self.view()))

    def test_drafts_of_killed_indexers_are_removed(self) -> None:
        self.make()
        segment = self.places.segment(1, 0, 5)
        for name in (f"{segment}.99999-abcdef.tmp", f"{self.places.current(7)}.99999-abcdef.tmp"):
            with open(name, "wb") as file:
                file.write(b"half a segment")
        self.assertEqual(len([n for n in self.names() if n.endswith(".tmp")]), 2)
        self.assertTrue(rlm.catch_up(self.view()))
        self.assertEqual([n for n in self.names() if n.endswith(".tmp")], [])

    def test_damage_that_times_and_sizes_do_not_show_is_found_by_verify(self) -> None:
        self.make()
        (name, *_) = self.names("segment")
        path = os.path.join(self.places.index, name)
        info, data = os.stat(path), rlm.read_file(path)
        with open(path, "r+b") as file:
            file.write(data[:-9] + bytes([data[-9] ^ 4]))
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
        self.assertEqual([p["file"] for p in self.problems()], [f"index/{name}"])


    def test_verify_does_not_stumble_over_an_index_file_that_was_just_merged_away(self) -> None:
        self.make()
        view = self.view()
        os.unlink(os.path.join(self.places.index, self.names("segment")[0]))
        self.assertEqual(rlm.verify(view, lambda *_: None), [])


class KnowledgeTest(LogCase):
    """Two processes with different knowledge of one store, as two stores objects that never share a view."""

    def test_each_sees_the_others_writes_on_its_next_call(self) -> None:
        a, b = rlm.Store(self.places), rlm.Store(self.places)

        def call(store: rlm.Store, name: str, **arguments: Any) -> rlm.Answer:
            return rlm.run_tool(rlm.Call(store), name, arguments)

        for i in range(70):  # past the length at which the tail goes into the index
            one, other = (a, b) if i % 2 else (b, a)
            chunk = call(one, "rlm_chunk", content=f"chunk {i} {HARD}").data["id"]
            insight = call(one, "rlm_remember", content=f"insight {i} {HARD}").data["id"]
            self.assertEqual(call(other, "rlm_peek", chunk_id=chunk).verbatim, f"chunk {i} {HARD}")
            self.assertEqual(call(other, "rlm_recall", limit=1).data["insights"][0]["id"], insight)
            self.assertIn(chunk, [h["id"] for h in call(other, "rlm_grep", pattern=f"chunk {i} ").data["hits"]])
            self.assertEqual(call(other, "rlm_chunk", content=f"chunk {i} {HARD}").data["id"], chunk)
            call(other, "rlm_forget", insight_id=insight)
            self.assertNotIn(insight, [h["id"] for h in call(one, "rlm_recall", limit=1).data["insights"]])
            if i % 20 == 10:
                rlm.keep_up(one)
            if i % 20 == 15:
                rlm.rewrite(rlm.View(self.places))
        self.assertEqual(len(call(a, "rlm_list_chunks", limit=200).data["chunks"]), 70)
        self.assertEqual(call(a, "rlm_list_chunks", limit=200).data["chunks"],
                         call(b, "rlm_list_chunks", limit=200).data["chunks"])

    def test_a_reader_that_saw_a_write_that_failed_forgets_it(self) -> None:
        self.chunk("first é")
        reader = self.view()
        seen = []

        def write_then_fail(fd: int, data: bytes) -> None:
            os.write(fd, data)
            seen.append(len(list(reader.refresh().alive())))  # a reader comes by before the writer cuts the file back
            raise OSError(28, "No space left on device")

        with mock.patch.object(rlm, "write_all", write_then_fail), self.assertRaises(rlm.StoreUnwritable):
            self.chunk("never acknowledged é")
        self.assertEqual(seen, [2])
        new = self.chunk("much longer than the one that failed é " * 50)
        self.assertEqual([doc.id for doc in reader.refresh().alive()], self.ids())
        self.assertIn(new, self.ids())


if __name__ == "__main__":
    unittest.main()
