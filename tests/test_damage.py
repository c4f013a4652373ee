"""Damage of any kind costs what was damaged: nothing that can still be read is lost by a rewrite, and nobody is told
that all is well."""
from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import shutil
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

from tests import old_store
from tests.support import HARD, InProcess, everything, rlm
from tests.test_faults import small_disk


class DamageCase(InProcess):
    """Tests in one process; nobody waits for the disk."""

    def problems(self) -> list[str]:
        """What verify finds, in words."""
        return [problem["problem"] for problem in rlm.verify(self.view(), lambda *_: None)]

    def archive(self, *doc_ids: str) -> None:
        """Archives these chunks whatever their age."""
        view = self.view()
        rlm.archive_docs(view, [view.doc(view.ordinal_of(i)) for i in doc_ids], rlm.now())

    def archived_store(self, n_chunks: int = 6) -> dict[str, str]:
        """Chunks whose texts are in the archive only, and one whose text is in the log; id -> text."""
        texts = {self.chunk(f"text {i} {HARD}", tags="é"): f"text {i} {HARD}" for i in range(n_chunks)}
        self.archive(*texts)
        texts[self.chunk(f"active {HARD}")] = f"active {HARD}"
        rlm.rewrite(self.view())
        return texts

    def log_path(self) -> str:
        """The last log file."""
        return self.places.log(self.places.numbered("log")[-1])

    def archive_path(self) -> str:
        """The only archive."""
        (number,) = self.places.numbered("archive")
        return self.places.archive(number)

    def edit(self, path: str, old: bytes, new: bytes) -> None:
        """Replaces bytes in a file, in place."""
        data = rlm.read_file(path)
        self.assertIn(old, data)
        with open(path, "r+b") as file:
            file.truncate(0)
            file.write(data.replace(old, new, 1))

    def texts(self) -> dict[str, str]:
        """The texts that can be read and are as they were saved, by id."""
        view, found = self.view(), {}
        for doc in view.alive():
            with contextlib.suppress(rlm.Damaged):
                record = view.record(doc)
                if not rlm.is_altered(rlm.without_keys(record, "c")):
                    found[doc.id] = record["text"]
        return found


class AdoptTest(DamageCase):
    def test_a_damaged_stub_costs_no_archived_text(self) -> None:
        texts = self.archived_store()
        keep = os.path.join(self.home, "keep")
        shutil.copytree(self.places.memory, keep)
        ids = list(texts)
        lines = rlm.read_file(self.log_path()).split(b"\n")
        stub = next(line for line in lines if ids[2].encode() in line)
        damages = {"no JSON": stub.replace(b'"v":1', b'"v"\xff1'), "zeros": bytes(len(stub)),
                   "another kind": stub.replace(b'"chunk"', b'"chunj"'),
                   "another id": stub.replace(ids[2].encode(), ids[2][:-1].encode() + b"9"),
                   "another place": stub.replace(b'"place":[', b'"place":[9')[:-1] + b"}"}
        for indexed in (False, True):
            for name, damaged in damages.items():
                for command in (("verify", "--repair"), ("compact",)):
                    with self.subTest(name, command=command, indexed=indexed):
                        shutil.rmtree(self.places.memory)
                        shutil.copytree(keep, self.places.memory)
                        if not indexed:
                            shutil.rmtree(self.places.index)
                        self.edit(self.log_path(), stub, damaged)
                        self.assertEqual(self.main("verify")[0], 1)
                        code, out = self.main(*command)
                        if code == 0:
                            self.assertLessEqual(texts.items(), self.texts().items(), out)
                        else:
                            self.assertIn("nothing was changed", out)
                            self.assertEqual(self.main("verify", "--accept")[0] < 2, True)
                            self.assertEqual(self.main("verify", "--repair")[0], 0)
                            self.assertLessEqual(texts.items(), self.texts().items(), out)
                        self.assertEqual(self.main("verify", "--repair")[0], 0)
                        self.assertEqual((self.problems(), self.texts().items() >= texts.items()), ([], True))

    def test_ordinary_retention_keeps_what_a_damaged_stub_named(self) -> None:
        texts = self.archived_store()
        self.edit(self.log_path(), list(texts)[1].encode() + b'","at"', list(texts)[1].encode() + b'"\0"at"')
        for n_round in range(2):
            with mock.patch.object(rlm, "now", lambda: rlm.time.time() + 90 * rlm.DAY_S), \
                    mock.patch.object(rlm, "idle_bytes", lambda view: view.log.size()):
                for i in range(20):
                    self.chunk(f"filler {n_round} {i} " + "padding é " * 9000)
            with mock.patch.object(rlm, "now", lambda: rlm.time.time() + 180 * rlm.DAY_S):
                before = self.view().log.generation()
                self.call("rlm_retention_run")
                self.assertEqual(self.view().log.generation(), before + 1)
        self.assertLessEqual(texts.items(), self.texts().items())

    def test_two_stubs_on_one_line_are_both_kept(self) -> None:
        for is_indexed in (True, False):
            with self.subTest(is_indexed):
                shutil.rmtree(self.places.memory, ignore_errors=True)
                texts = self.archived_store()
                if not is_indexed:
                    shutil.rmtree(self.places.index)
                self.edit(self.log_path(), b"\n", b" ")
                self.assertEqual(self.main("verify", "--repair")[0], 0)
                self.assertEqual((self.texts(), self.problems()), (texts, []))

    def test_what_the_log_says_of_an_adopted_memory_still_counts(self) -> None:
        texts = self.archived_store()
        first, second = list(texts)[:2]
        self.call("rlm_peek", chunk_id=second)
        self.call("rlm_forget", insight_id=first)
        before = everything(self.places)
        shutil.rmtree(self.places.index, ignore_errors=True)
        for doc_id in (first, second):
            self.edit(self.log_path(), doc_id.encode() + b'","at"', doc_id.encode() + b'"\0"at"')
        self.assertEqual(self.main("verify", "--repair")[0], 0)
        self.assertEqual(everything(self.places), before)

    def test_a_lost_cut_or_emptied_log_stops_rewrites_and_its_archived_texts_are_taken_back(self) -> None:
        texts = self.archived_store()
        keep = os.path.join(self.home, "keep")
        shutil.copytree(self.places.memory, keep)
        archived = dict(list(texts.items())[:-1])
        for name, size in (("emptied", 0), ("cut", 500), ("deleted", -1)):
            with self.subTest(name):
                shutil.rmtree(self.places.memory)
                shutil.copytree(keep, self.places.memory)
                if size < 0:
                    os.unlink(self.log_path())
                else:
                    os.truncate(self.log_path(), size)
                before = {n: rlm.read_file(os.path.join(self.places.memory, n)) for n in os.listdir(self.places.memory)
                          if n.startswith("archive")}
                for command in (("compact",), ("verify", "--repair")):
                    code, out = self.main(*command)
                    self.assertEqual(code, 1)
                    self.assertRegex(out, "(missing|cut short).*verify --accept" if command[0] == "compact" else "cut short by|mis")
                with mock.patch.object(rlm, "now", lambda: rlm.time.time() + 400 * rlm.DAY_S):
                    self.main("retention-run")
                self.assertEqual({n: rlm.read_file(os.path.join(self.places.memory, n)) for n in before}, before)
                code, out = self.main("verify", "--accept")
                self.assertEqual(self.main("verify", "--repair")[0], 0, out)
                self.assertLessEqual(archived.items(), self.texts().items())
                self.assertEqual(self.problems(), [])

    def test_a_sound_copy_in_the_archive_stands_for_a_damaged_text_in_the_log(self) -> None:
        OldStoreTest.put(self)
        for damage in (b"the y\xffw text", b"the yaw text"):
            with self.subTest(damage), mock.patch.object(rlm, "now", lambda: OldStoreTest.NOW_S):
                OldStoreTest.put(self)
                self.edit(self.places.log(2), b"the yew text", damage)
                self.assertEqual(self.main("verify")[0], 1)
                self.assertIn(self.main("compact")[0], (0, 1))
                self.assertEqual(self.main("verify", "--repair")[0], 0)
                self.assertEqual(self.texts()["2026-09-21_shop_005_wood"], "the yew text é\nline two 日本")


class LengthTest(DamageCase):
    def test_a_log_that_lost_its_end_is_told_by_everyone_until_it_is_accepted(self) -> None:
        ids = [self.chunk(f"chunk {i} {HARD}") for i in range(8)]
        log = rlm.read_file(self.log_path())
        os.truncate(self.log_path(), len(log) * 2 // 5)
        n_lost = len(log) - len(log) * 2 // 5

        def assert_told() -> None:
            self.assertIn(f"cut short by {n_lost:,} byte", " ".join(self.problems()))
            self.assertEqual(self.main("verify")[0], 1)
            self.assertEqual(self.call("rlm_status").data["lost_bytes"], n_lost)
            self.assertIn(f"{n_lost:,} bytes of the log lost", self.main("status")[1])
            (store,) = [check for check in rlm.store_checks(self.places) if check[0] == "store"]
            self.assertEqual(store[1], "fail")
            self.assertIn(f"{n_lost:,} bytes", store[2])

        assert_told()
        for i in range(8):  # also when the file has become longer than it was, by writes of both sorts
            self.call("rlm_peek", chunk_id=ids[0])
            ids.append(self.chunk(f"later {i} {HARD}"))
        self.assertGreater(os.path.getsize(self.log_path()), len(log))
        assert_told()
        with mock.patch.object(rlm, "LOG_ROLL_BYTES", 100):
            self.chunk("in the next file é")
        assert_told()
        self.assertEqual(self.main("compact")[0], 1)
        before = self.texts()
        self.assertEqual(self.main("verify", "--accept", "--dry-run")[0], 1)
        assert_told()
        self.assertIn(self.main("verify", "--accept", "--repair")[0], (0,))
        self.assertEqual((self.problems(), self.texts()), ([], before))
        self.assertEqual(self.call("rlm_status").data["lost_bytes"], 0)

    def test_a_killed_writer_and_a_failed_write_are_no_loss(self) -> None:
        self.chunk(HARD)
        rlm.append_bytes(self.log_path(), b'{"c":"0123')
        self.assertEqual(self.view().log.acknowledged()[1], 0)
        self.chunk("after it é")
        with mock.patch.object(rlm, "sync", side_effect=OSError(5, "Input/output error")), \
                self.assertRaises(rlm.StoreUnwritable):
            self.chunk("never acknowledged é")
        self.assertEqual((self.view().log.acknowledged()[1], self.problems()), (0, ["damaged: no record"]))

    def test_uses_that_were_not_waited_for_may_be_lost(self) -> None:
        doc_id = self.chunk(HARD)
        size = os.path.getsize(self.log_path())
        self.call("rlm_peek", chunk_id=doc_id)
        os.truncate(self.log_path(), size)  # as a power loss may leave it
        self.assertEqual(self.problems(), [])

    def test_one_commit_waits_for_the_disk_once_and_replaces_no_file(self) -> None:
        self.chunk("first é")
        view = self.view()
        with mock.patch.object(rlm, "sync") as sync, mock.patch.object(os, "replace", wraps=os.replace) as replace, \
                rlm.Writer(view) as writer:
            rlm.save_chunk(writer, HARD, summary="", tags=[], project="p", ticket="", domain="", chunk_type="session",
                           at_s=1.0)
        self.assertEqual((sync.call_count, replace.call_count), (1, 0))

    def test_what_the_lock_file_holds_is_believed_only_with_its_checksum(self) -> None:
        self.chunk(HARD)
        good = rlm.read_file(self.places.lock())
        self.assertEqual(json.loads(good)["n_bytes"], os.path.getsize(self.log_path()))
        for data in (b"", b"\0" * 99, good[:40], good.replace(b'"n_bytes":', b'"n_bytes":9'), b"{}\n", b'{"k":"ack"}'):
            with open(self.places.lock(), "wb") as file:
                file.write(data)
            self.assertEqual((self.view().log.acknowledged()[1], self.problems()), (0, []), data)
        self.chunk("once more é")
        self.assertEqual(rlm.decode_line(rlm.read_file(self.places.lock()).split(b"\n")[0])["n_bytes"],  # type: ignore
                         os.path.getsize(self.log_path()))


class ChecksumTest(DamageCase):
    def test_every_flipped_bit_of_a_log_is_noticed(self) -> None:
        self.chunk(HARD, tags="é", summary="a summary é")
        self.call("rlm_remember", content=HARD)
        self.call("rlm_forget", insight_id=self.chunk("forgotten é"))
        log = rlm.read_file(self.log_path())
        for i in range(len(log)):
            for bit in range(8):
                data = log[:i] + bytes([log[i] ^ (1 << bit)]) + log[i + 1:]
                records = [rlm.decode_line(line) for line in data.split(b"\n") if line]
                self.assertTrue(any(r is None or "c" in r for r in records), (i, bit, data[i - 20:i + 20]))

    def test_an_altered_line_is_counted_shown_and_stops_rewrites_until_it_is_accepted(self) -> None:
        doc_id, other = self.chunk("the words é", domain="api"), self.chunk("another é")
        insight = self.call("rlm_remember", content="a statement é").data["id"]
        self.edit(self.log_path(), b'"domain":"api"', b'"domain":"apj"')
        self.edit(self.log_path(), b"a statement", b"a stitement")
        self.assertEqual(self.call("rlm_status").data["damaged_lines"], 2)
        for name, given in (("rlm_peek", {"chunk_id": doc_id}), ("rlm_grep", {"pattern": "the words"}),
                            ("rlm_search", {"query": "words"}), ("rlm_recall", {}),
                            ("rlm_search", {"query": "stitement"})):
            self.assertIn("altered on disk", self.call(name, **given).text, name)
        self.assertNotIn("altered", self.call("rlm_peek", chunk_id=other).text)
        self.assertEqual(len(self.problems()), 2)
        before = self.log_bytes()
        for command in (("compact",), ("verify", "--repair"), ("scrub",)):
            self.main(*command)
            self.assertEqual(self.log_bytes(), before, command)
        code, out = self.main("compact")
        self.assertEqual((code, "verify --accept" in out), (1, True))
        code, out = self.main("verify", "--accept")
        self.assertEqual((code, out.count("-> accepted"), self.problems()), (0, 2, []))
        self.assertNotIn("altered", self.call("rlm_peek", chunk_id=doc_id).text)
        self.assertEqual(self.texts()[insight], "a stitement é")
        self.assertEqual(self.main("compact")[0], 0)

    def test_a_line_altered_after_it_was_indexed_is_told(self) -> None:
        doc_id = self.chunk("the words é", domain="api")
        self.assertTrue(rlm.catch_up(self.view()))
        self.edit(self.log_path(), b'"domain":"api"', b'"domain":"apj"')
        self.assertIn("altered on disk", self.call("rlm_peek", chunk_id=doc_id).text)
        self.assertEqual(self.main("verify")[0], 1)
        (store,) = [check for check in rlm.store_checks(self.places) if check[0] == "store"]
        self.assertEqual(store[1], "fail")

    def test_a_purge_that_altered_lines_stop_is_finished_later(self) -> None:
        old, other = self.chunk("to be purged é"), self.chunk("altered é")
        self.archive(old)
        self.edit(self.log_path(), b"altered \xc3", b"altared \xc3")
        with mock.patch.object(rlm, "now", lambda: rlm.time.time() + 400 * rlm.DAY_S):
            code, out = self.main("retention-run", "--purge")
            self.assertEqual((code, "verify --accept" in out), (1, True))
            self.assertEqual(self.main("verify", "--accept")[0], 0)
            self.main("retention-run", "--purge")
        self.assertNotIn(b"to be purged", b"".join(rlm.read_file(e.path) for e in os.scandir(self.places.memory)
                                                   if e.is_file()))
        self.assertIn(other, self.texts())


class RepairTest(DamageCase):
    def test_a_damaged_manifest_is_mended_by_doctor_too(self) -> None:
        texts = self.archived_store()
        self.assertEqual(self.main("install", "--no-hooks")[0] in (0, 1), True)
        data = rlm.read_file(self.places.manifest())
        with open(self.places.manifest(), "wb") as file:
            file.write(data.replace(b'"generation": 2', b'"generation": 3'))
        self.assertEqual(self.texts(), texts)
        self.assertIn("active", self.call("rlm_search", query="active").text)
        (store,) = [check for check in rlm.store_checks(self.places) if check[0] == "store"]
        self.assertEqual((store[1], "manifest.json is damaged" in store[2]), ("fail", True))
        rlm.repair(self.places)
        self.assertEqual((self.problems(), self.texts()), ([], texts))

    def test_what_a_lost_archive_held_is_accepted_as_lost(self) -> None:
        ids = [self.chunk(f"text {i} é") for i in range(5)]
        self.archive(*ids)
        rlm.rewrite(self.view())
        os.unlink(self.archive_path())
        self.assertIn("missing or cut short", self.call("rlm_search", query="text").text)
        code, out = self.main("verify", "--accept")
        self.assertEqual(code, 0, out)
        self.assertIn(" 0 left", out)
        self.assertIn(ids[0], out)
        self.assertEqual((self.main("verify")[0], self.problems()), (0, []))

    def test_of_a_damaged_archive_member_the_rest_is_kept_and_the_lost_are_named(self) -> None:
        texts = {self.chunk(f"text {i} {os.urandom(300).hex()} é"): "" for i in range(30)}
        texts = {doc_id: self.texts()[doc_id] for doc_id in texts}
        self.archive(*texts)
        rlm.rewrite(self.view())
        data = bytearray(rlm.read_file(self.archive_path()))
        data[len(data) // 2] ^= 4
        with open(self.archive_path(), "wb") as file:
            file.write(data)
        readable = {i: t for i, t in self.texts().items() if t == texts[i]}
        self.assertGreater(len(readable), 8)
        code, out = self.main("verify")
        self.assertEqual(code, 1)
        self.assertIn("verify --repair", out)
        self.assertIn("--repair", self.main("compact")[1])
        code, out = self.main("verify", "--repair")
        self.assertEqual((code, self.problems()), (0, []), out)
        after = self.texts()
        self.assertLessEqual(readable.items(), after.items())
        lost = texts.keys() - after.keys()
        (line,) = [line for line in out.splitlines() if "texts that are lost" in line]
        self.assertEqual([doc_id in line for doc_id in lost], [True] * len(lost))
        (aside,) = self.places.found("damaged-", ".txt")
        self.assertIn(base64.b64encode(data), rlm.read_file(aside))
        self.assertEqual(self.main("compact")[0], 0)
        with self.assertRaises(rlm.NotFound):
            self.call("rlm_peek", chunk_id=min(lost))

    def test_an_archive_cut_to_nothing_is_told_by_a_search_and_stops_a_rewrite(self) -> None:
        self.archived_store()
        os.truncate(self.archive_path(), 0)
        self.assertIn("missing or cut short", self.main("search", "text")[1] + self.main("search", "xylophone")[1])
        self.assertIn("empty", self.problems())
        self.assertIn("nothing was changed", self.main("compact")[1])

    def test_thousands_of_lost_texts_are_told_in_ten_lines_and_a_number(self) -> None:
        texts = self.archived_store(40)
        os.truncate(self.archive_path(), 30)
        code, out = self.main("verify")
        self.assertEqual((code, out.count("lost: the text of"), "30 more of this kind" in out), (1, 10, True), out)
        self.assertIn("41 problems, 41 left", out)
        self.assertEqual(len(json.loads(self.main("verify", "--json")[1])["problems"]), len(texts))

    def test_the_temporary_file_of_a_killed_first_write_goes(self) -> None:
        for mend in (("remember", "é"), ("verify", "--repair")):
            with self.subTest(mend):
                shutil.rmtree(self.places.memory, ignore_errors=True)
                os.makedirs(self.places.memory)
                draft = self.places.manifest() + ".4711-abcdef.tmp"
                with open(draft, "wb") as file:
                    file.write(b"{")
                self.assertEqual(self.main("verify")[0], 1)
                self.assertEqual(self.main(*mend)[0], 0)
                self.assertEqual((os.path.exists(draft), self.problems()), (False, []))

    def test_bit_rot_in_the_index_loses_nothing_and_is_mended(self) -> None:
        texts = self.archived_store(12)
        keep = os.path.join(self.home, "keep")
        shutil.copytree(self.places.memory, keep, copy_function=shutil.copy2)
        for mend in (("verify", "--repair"), ("compact",), ("doctor",)):
            for beginning in ("state", "segment"):
                with self.subTest(mend, file=beginning):
                    shutil.rmtree(self.places.memory)
                    shutil.copytree(keep, self.places.memory, copy_function=shutil.copy2)
                    (name,) = [n for n in os.listdir(self.places.index) if n.startswith(beginning)]
                    path = os.path.join(self.places.index, name)
                    info, data = os.stat(path), bytearray(rlm.read_file(path))
                    if beginning == "state":
                        data[-26:-13] = b"\1" * 13  # every memory looks forgotten
                    else:
                        data[-9] ^= 4
                    with open(path, "r+b") as file:
                        file.write(data)
                    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
                    self.assertEqual(self.main("verify")[0], 1)
                    if mend == ("doctor",):
                        rlm.repair(self.places)
                    else:
                        self.assertEqual(self.main(*mend)[0], 0)
                    self.assertEqual((self.texts(), self.problems()), (texts, []))

    def test_retention_on_a_nearly_full_disk_leaves_nothing_behind(self) -> None:
        with small_disk(self, "4m") as folder:
            self.places = rlm.Places(memory=os.path.join(folder, "memory é"))
            os.environ["RLM_CONTEXT_DIR"] = self.places.memory  # TempHome puts it back
            with mock.patch.object(rlm, "now", lambda: rlm.time.time() - 90 * rlm.DAY_S):
                for i in range(13):
                    self.chunk(f"{i} " + os.urandom(70_000).hex())
            shutil.rmtree(self.places.index, ignore_errors=True)
            with open(os.path.join(folder, "filler"), "wb") as file:
                free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
                file.write(bytes(free - 800_000))
            before = sorted(os.listdir(self.places.memory))
            self.assertEqual(len(self.call("rlm_retention_run").data["archived"]), 13)
            self.assertEqual([n for n in sorted(os.listdir(self.places.memory)) if n.startswith(("log", "arch"))],
                             [n for n in before if n.startswith(("log", "arch"))])
            self.assertTrue(self.chunk("there is room for this é"))
            code, out = self.main("compact")
            self.assertEqual((code, "free some space" in out), (1, True), out)
            self.assertEqual(rlm.rubbish(self.view().log), [])

    def test_what_a_killed_run_left_is_swept_by_the_next_retention_run(self) -> None:
        self.archived_store()
        for path in (self.places.archive(77), self.places.log(78)):
            rlm.append_bytes(path, b"half of it")
        self.call("rlm_retention_run")
        self.assertEqual(rlm.rubbish(self.view().log), [])


class PrivacyTest(DamageCase):
    SECRET = b"ghp_" + b"a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"

    def raw(self) -> int:
        """How many files hold the secret, packed ones unpacked."""
        n_files = 0
        for entry in os.scandir(self.places.memory):
            if entry.is_file():
                data = rlm.read_file(entry.path)
                if entry.name.endswith(".gz"):
                    data = b"".join(part for _, _, part, _ in rlm.members(entry.path, 1 << 20))
                n_files += self.SECRET in data
        return n_files

    def fill(self) -> None:
        """A store with secrets in log and archive."""
        with mock.patch.multiple(rlm, redact=lambda text: text, redact_value=lambda value: value):
            old = self.chunk(f"archived {self.SECRET.decode()} é")
            self.archive(old)
            rlm.rewrite(self.view())
            self.chunk(f"active {self.SECRET.decode()} é")
        self.assertEqual(self.raw(), 2)

    def test_a_scrub_that_was_killed_after_the_swap_is_finished_by_the_next(self) -> None:
        self.fill()
        with mock.patch.object(rlm, "sweep", side_effect=KeyboardInterrupt):
            self.main("scrub")
        self.assertEqual(self.raw(), 2)
        code, out = self.main("scrub", "--dry-run")
        self.assertNotIn("No secrets found", out)
        code, out = self.main("scrub")
        self.assertEqual((code, self.raw()), (0, 0), out)
        self.assertEqual(self.main("scrub"), (0, "No secrets found.\n"))

    def test_a_file_that_cannot_be_removed_is_a_failure_that_names_it(self) -> None:
        for command in ("scrub", "compact", "purge"):
            with self.subTest(command):
                shutil.rmtree(self.places.memory, ignore_errors=True)
                self.fill()
                stays = self.log_path()
                unlink = os.unlink

                def fail(path: Any, *more: Any, stays: str = stays, unlink: Any = unlink, **options: Any) -> None:
                    if path == stays:
                        raise OSError(5, "Input/output error")
                    unlink(path, *more, **options)

                with mock.patch.object(os, "unlink", fail), \
                        mock.patch.object(rlm, "now", lambda: rlm.time.time() + 400 * rlm.DAY_S):
                    code, out = self.main(*(("retention-run", "--purge") if command == "purge" else (command,)))
                self.assertEqual((code, os.path.basename(stays) in out), (1, True), out)
                self.assertIn(self.main(command if command != "purge" else "compact")[0], (0,))
                self.assertFalse(os.path.exists(stays))

    def test_no_planted_link_is_written_through(self) -> None:
        victim = os.path.join(self.home, "victim")
        for name in ("log-000001.jsonl", "lock", "log-000002.jsonl"):
            with self.subTest(name):
                shutil.rmtree(self.places.memory, ignore_errors=True)
                if name == "log-000002.jsonl":
                    self.chunk(HARD)
                os.makedirs(self.places.memory, exist_ok=True)
                with open(victim, "wb") as file:
                    file.write(b"theirs")
                os.symlink(victim, os.path.join(self.places.memory, name))
                code, out = self.main("compact") if name == "log-000002.jsonl" else self.main("remember", "é")
                self.assertEqual(rlm.read_file(victim), b"theirs")
                if name != "log-000002.jsonl":
                    self.assertEqual((code, "a link is in the way" in out), (1, True), out)


class OldStoreTest(DamageCase):
    """A store that the first versions wrote."""

    NOW_S = 1.79e9 + 3600

    def put(self: Any) -> None:
        """Puts it into place."""
        shutil.rmtree(self.places.memory, ignore_errors=True)
        os.makedirs(self.places.memory)
        files = {name: text.encode() for name, text in old_store.FILES.items()}
        files.update({name: base64.b64decode(text) for name, text in old_store.ARCHIVES.items()})
        for name, data in files.items():
            with open(os.path.join(self.places.memory, name), "wb") as file:
                file.write(data)

    def found(self) -> dict[str, Any]:
        """What it holds, in the form of EXPECTED."""
        return {i: (v[0], v[1], v[8], v[9], v[10]) for i, v in everything(self.places).items()}

    def test_every_memory_of_it_is_found_whatever_is_done_to_it(self) -> None:
        self.put()
        with mock.patch.object(rlm, "now", lambda: self.NOW_S):
            self.assertEqual((self.found(), self.problems()), (old_store.EXPECTED, []))
            self.assertTrue(rlm.catch_up(self.view()))
            self.assertEqual((self.found(), self.problems()), (old_store.EXPECTED, []))
            for _ in range(2):
                self.assertEqual(self.main("compact")[0], 0)
                self.assertEqual((self.found(), self.problems()), (old_store.EXPECTED, []))
            self.assertTrue(all(line.startswith(b'{"c":"') for line in self.log_bytes().splitlines()))
        self.put()
        with mock.patch.object(rlm, "now", lambda: self.NOW_S + 29 * rlm.DAY_S):
            self.assertEqual(self.main("config", "archive_after_days", "20")[0], 0)
            self.call("rlm_retention_run")
            found = self.found()
            self.assertEqual({i: (v[1], v[3]) for i, v in found.items()},
                             {i: (v[1], v[3]) for i, v in old_store.EXPECTED.items()})
            self.assertEqual(found["2026-09-21_shop_007"][2], "archived")
            self.assertEqual(self.main("compact")[0], 0)
            self.assertEqual((self.found(), self.problems()), (found, []))


class FuzzTest(DamageCase):
    def damages(self, dice: random.Random) -> Iterator[str]:
        """Damages one to three places of log, archive or manifest; says what it did."""
        for _ in range(dice.randrange(1, 4)):
            names = [n for n in sorted(os.listdir(self.places.memory)) if n.startswith(("log-", "archive-", "manif"))]
            name = dice.choice(names)
            path = os.path.join(self.places.memory, name)
            data = bytearray(rlm.read_file(path))
            at, kind = dice.randrange(len(data) or 1), dice.choice(("flip", "flip", "zero", "cut", "join"))
            if not data:
                continue
            if kind == "flip":
                data[at] ^= 1 << dice.randrange(8)
            elif kind == "zero":
                data[at : at + 300] = bytes(len(data[at : at + 300]))
            elif kind == "cut":
                del data[at:]
            else:
                data[at : at + 1] = b""
            with open(path, "wb") as file:
                file.write(data)
            yield f"{kind} {name} {at}"

    def raw_texts(self) -> set[str]:
        """The texts of sound records that can be read from logs and archives, whoever names them."""
        found = set()
        for number in self.places.numbered("log"):
            found |= {r["text"] for line in rlm.read_file(self.places.log(number)).split(b"\n")
                      if (r := rlm.decode_line(line)) and "text" in r and not rlm.is_altered(r)}
        for number in self.places.numbered("archive"):
            for _, _, data, _ in rlm.members(self.places.archive(number), 1 << 20):
                found |= {r["text"] for line in data.split(b"\n")
                          if (r := rlm.decode_line(line)) and "text" in r and not rlm.is_altered(r)}
        return found

    def test_no_readable_text_is_lost_by_any_rewrite(self) -> None:
        dice = random.Random(0)  # the same store each time
        for thing, name, value in ((rlm, "now", lambda: 1.8e9), (os, "urandom", lambda n: dice.randrange(1 << 8 * n)
                                                                .to_bytes(n, "big"))):
            patch = mock.patch.object(thing, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        with mock.patch.object(rlm, "MEMBER_MAX_LINES", 3):
            self.archived_store(8)
        self.chunk("another é")
        self.call("rlm_remember", content="insight é")
        archived = self.chunk("archived, in the log still é")
        self.archive(archived)
        keep = os.path.join(self.home, "keep")
        shutil.copytree(self.places.memory, keep)
        for seed in range(int(os.environ.get('SEEDS', 60))):
            dice = random.Random(seed)
            shutil.rmtree(self.places.memory)
            shutil.copytree(keep, self.places.memory)
            if dice.random() < 0.5:
                shutil.rmtree(self.places.index, ignore_errors=True)
            done = list(self.damages(dice))
            with self.subTest(seed=seed, done=done):
                raw, shown = self.raw_texts(), set(self.texts().values())
                for command in dice.choice(((["compact"],), (["verify", "--repair"],))) + (
                        ["verify", "--accept"], ["verify", "--repair"], ["verify", "--accept", "--repair"]):
                    out = self.main(*command)[1]
                    self.assertNotIn("a bug of rlm", out)
                    self.assertLessEqual(raw | shown, set(self.texts().values()) | self.raw_texts())
                self.assertLessEqual(raw, set(self.texts().values()))
                self.assertEqual(self.problems(), [])


if __name__ == "__main__":
    unittest.main()
