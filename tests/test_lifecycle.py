"""Archive, restore, purge and compact: nothing that should stay is lost at any instant, nothing purged is left."""
from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from tests.support import HARD, ended, everything, forked, rlm
from tests.test_damage import DamageCase

DAY = rlm.DAY_S
START = 1.8e9  # the tests' own clock; no change to summer time is near
CUT = 77  # the exit code of a child that was made to stop in the middle


def run(store: rlm.Store, name: str, **arguments: Any) -> str:
    """What a tool answers on a store object that is kept, as a server does."""
    answer = rlm.run_tool(rlm.Call(store), name, arguments)
    return answer.text + (answer.verbatim or "")


class LifeCase(DamageCase):
    """Tests with a clock of their own, in self.now_s."""

    def setUp(self) -> None:
        super().setUp()
        self.now_s = START
        self.attic = tempfile.mkdtemp(prefix="rlm test é ")  # for copies: the home is rlm's alone
        self.addCleanup(shutil.rmtree, self.attic, ignore_errors=True)
        patch = mock.patch.object(rlm, "now", lambda: self.now_s)
        patch.start()
        self.addCleanup(patch.stop)

    def doc(self, doc_id: str) -> rlm.Doc:
        """The catalogue entry as a new process sees it."""
        view = self.view()
        return view.doc(view.ordinal_of(doc_id))

    def tiers(self) -> dict[str, str]:
        """id -> tier of everything."""
        return {doc_id: value[8] for doc_id, value in everything(self.places).items()}

    def compact(self, **options: Any) -> rlm.Rewrite:
        """Rewrites the store as a new process would."""
        return rlm.rewrite(self.view(), **options)

    def on_disk(self) -> bytes:
        """Every byte of every file below the home, packed ones also unpacked, names included."""
        parts = []
        for folder, _, names in os.walk(self.home):
            for name in names:
                data = rlm.read_file(os.path.join(folder, name))
                parts += [os.path.join(folder, name).encode(), data]
                if name.endswith(".gz"):
                    parts.append(subprocess.run(["gunzip", "-c"], input=data, capture_output=True, check=True).stdout)
        return b"\n".join(parts)

    def saved(self) -> str:
        """Copies the store; give it to put_back."""
        keep = os.path.join(self.attic, str(len(os.listdir(self.attic))))
        shutil.copytree(self.places.memory, keep)
        return keep

    def put_back(self, keep: str) -> None:
        """Makes the store that copy."""
        shutil.rmtree(self.places.memory)
        shutil.copytree(keep, self.places.memory)


class RuleTest(LifeCase):
    def preview(self) -> dict[str, Any]:
        """What a run would do."""
        return dict(self.call("rlm_retention_preview").data)

    def test_a_chunk_is_archived_at_thirty_days_and_not_before(self) -> None:
        old = self.chunk(HARD)
        self.now_s += 30 * DAY - 1
        self.assertEqual(self.preview()["archive"], [])
        self.now_s += 1
        self.assertEqual(self.preview()["archive"], [old])
        self.assertEqual(self.tiers(), {old: "session"})  # a preview changes nothing
        answer = self.call("rlm_retention_run")
        self.assertEqual((answer.data["archived"], answer.data["n_archived"], self.tiers()),
                         ([old], 1, {old: "archived"}))
        self.assertEqual(self.call("rlm_retention_run").data["n_archived"], 0)

    def test_a_dry_run_changes_nothing(self) -> None:
        self.chunk(HARD)
        self.now_s += 400 * DAY
        before = self.log_bytes()
        for command in (("retention-run", "--dry-run"), ("retention-run", "--dry-run", "--purge"),
                        ("compact", "--dry-run")):
            code, out = self.main(*command)
            self.assertEqual((code, self.log_bytes()), (0, before), out)

    def test_one_use_keeps_a_chunk_active_and_three_make_it_immune(self) -> None:
        used, often = self.chunk(HARD), self.chunk("used often é")
        for chunk_id in (used, often, often, often):
            self.call("rlm_peek", chunk_id=chunk_id)
        self.now_s += 400 * DAY
        plan = self.preview()
        self.assertEqual((plan["archive"], plan["n_used"], plan["immune"]), ([], 1, {often: "3 uses"}))

    def test_each_protecting_tag_word_and_importance_makes_a_chunk_immune(self) -> None:
        ids = {}
        for tag in ("critical", "decision", "keep", "important", "KEEP", "x, Décision ,y"):
            ids[self.chunk(f"tagged {tag} é", tags=tag)] = "tag"
        for word in ("DECISION:", "IMPORTANT:", "CRITICAL:", "A RETENIR:", "À RETENIR:", "重要:", "重要："):
            ids[self.chunk(f"é at first\nthen {word} the point")] = "keyword in the text"
        with rlm.Writer(self.view()) as writer:
            for importance in ("critical", "high"):
                new, _ = rlm.save_chunk(writer, f"{importance} é", summary="", tags=[], project="test", ticket="",
                                        domain="", chunk_type="session", at_s=self.now_s, importance=importance)
                ids[new] = "importance critical" if importance == "critical" else ""
        for text, tags in (("decision: é", ""), ("Important é", ""), ("DECISION é", ""), ("é", "keeper,criticality"),
                           ("重要 é", "")):
            ids[self.chunk(text, tags=tags)] = ""
        self.now_s += 31 * DAY
        for where in ("tail", "index"):
            with self.subTest(where):
                plan = self.preview()
                self.assertEqual(plan["immune"], {i: why for i, why in ids.items() if why})
                self.assertEqual(sorted(plan["archive"]), sorted(i for i, why in ids.items() if not why))
                self.assertTrue(rlm.catch_up(self.view()))

    def test_insights_are_never_archived(self) -> None:
        insight = self.call("rlm_remember", content=HARD).data["id"]
        self.now_s += 4000 * DAY
        self.call("rlm_retention_run", purge=True)
        self.assertEqual(self.tiers(), {insight: "longterm"})

    def test_an_archived_chunk_is_purged_after_180_unused_days_and_only_when_asked(self) -> None:
        first = self.chunk("never looked at é")
        looked_at = self.chunk("looked at once it was archived é")
        self.now_s += 31 * DAY
        self.assertEqual(self.call("rlm_retention_run").data["n_archived"], 2)
        self.call("rlm_peek", chunk_id=looked_at)
        self.now_s += 180 * DAY - 1
        self.assertEqual(self.preview()["purge"], [])
        self.now_s += 1
        self.assertEqual(self.preview()["purge"], [first])
        answer = self.call("rlm_retention_run")
        self.assertEqual((answer.data["n_purged"], self.tiers()), (0, {first: "archived", looked_at: "archived"}))
        self.assertIn("1 chunk could be purged", answer.text)
        self.assertEqual(self.call("rlm_retention_run", purge=True).data["purged"], [first])
        self.assertEqual(self.tiers(), {first: "purged", looked_at: "archived"})

    def test_settings_move_the_thresholds(self) -> None:
        old = self.chunk(HARD)
        for key, value in (("archive_after_days", "2"), ("purge_after_days", "3"), ("immune_uses", "1")):
            self.assertEqual(self.main("config", key, value)[0], 0)
        used = self.chunk("used é")
        self.call("rlm_peek", chunk_id=used)
        self.now_s += 2 * DAY
        self.assertEqual((self.preview()["archive"], self.preview()["immune"]), ([old], {used: "1 uses"}))
        self.call("rlm_retention_run")
        self.now_s += 3 * DAY
        self.assertEqual(self.preview()["purge"], [old])

    def test_a_plan_that_another_process_has_carried_out_already_does_nothing(self) -> None:
        for i in range(3):
            self.chunk(f"chunk {i} é")
        self.now_s += 31 * DAY
        views = [self.view(), self.view()]
        plans = [rlm.retention_plan(view, self.now_s) for view in views]
        done = [rlm.carry_out(view, plan, self.now_s, archive=True, purge=True) for view, plan in zip(views, plans)]
        self.assertEqual((done, self.places.numbered("archive")), ([(3, 0), (0, 0)], []))

    def test_what_was_used_after_the_plan_was_made_is_not_purged(self) -> None:
        ids = [self.chunk(f"chunk {i} é") for i in range(4)]
        self.archive(*ids)
        self.now_s += 200 * DAY
        view = self.view()
        plan = rlm.retention_plan(view, self.now_s)
        self.assertEqual(len(plan.purge), 4)
        self.call("rlm_peek", chunk_id=ids[0])
        self.call("rlm_restore", chunk_id=ids[1])
        self.compact()  # and the files are others now
        self.assertEqual(rlm.carry_out(view, plan, self.now_s, archive=True, purge=True), (0, 2))
        self.assertEqual(list(self.tiers().values()), ["archived", "session", "purged", "purged"])
        self.assertEqual(self.call("rlm_peek", chunk_id=ids[0]).verbatim, "chunk 0 é")


class ArchiveTest(LifeCase):
    def fill(self) -> dict[str, str]:
        """60 chunks, more than one archive member holds, archived; id -> text."""
        texts = {self.chunk(f"chunk {i} with unique{i:03d} {HARD}", tags="é"): f"chunk {i} with unique{i:03d} {HARD}"
                 for i in range(60)}
        self.archive(*texts)
        return texts

    def test_archived_chunks_are_still_found_by_every_reader(self) -> None:
        texts = self.fill()
        for step in ("archived", "compacted", "indexed"):
            with self.subTest(step):
                for doc_id, text in list(texts.items())[::7]:
                    self.assertEqual(self.call("rlm_peek", chunk_id=doc_id).verbatim, text)
                    word = re.findall("unique[0-9]+", text)[0]
                    for name, arguments in (("rlm_grep", {"pattern": word}), ("rlm_search", {"query": word}),
                                            ("rlm_grep", {"pattern": word.replace("unique", "unqiue"), "fuzzy": True,
                                                          "limit": 100})):
                        self.assertIn(doc_id, [h["id"] for h in self.call(name, **arguments).data["hits"]], name)
                self.assertEqual(len(self.call("rlm_list_chunks", limit=100).data["chunks"]), 60)
                self.assertEqual(set(self.tiers().values()), {"archived"})
                self.compact() if step == "archived" else rlm.catch_up(self.view())
        self.assertNotIn(b"unique000", self.log_bytes().replace(b'"summary":"chunk 0 with unique000', b""))

    def test_plain_tools_read_the_archive(self) -> None:
        texts = self.fill()
        self.compact()
        (number,) = self.places.numbered("archive")
        path = self.places.archive(number)
        self.assertEqual(subprocess.run(["gunzip", "-t", path], check=False).returncode, 0)
        lines = subprocess.run(["gunzip", "-c", path], capture_output=True, check=True).stdout.splitlines()
        self.assertEqual({json.loads(line)["id"]: json.loads(line)["text"] for line in lines}, texts)
        if shutil.which("zgrep"):
            found = subprocess.run(["zgrep", "-c", "unique007", path], capture_output=True, check=True).stdout
            self.assertEqual(found.strip(), b"1")
        self.assertEqual(rlm.read_file(path).count(b"\x1f\x8b\x08"), 2)  # members of 48 lines at most

    def test_peeking_at_an_archived_chunk_counts_as_a_use_and_leaves_it_there(self) -> None:
        (doc_id, *_) = self.fill()
        self.call("rlm_peek", chunk_id=doc_id)
        self.assertEqual((self.doc(doc_id).life.uses, self.doc(doc_id).tier()), (1, "archived"))

    def test_archiving_and_restoring_pack_nothing_and_write_a_small_line_each(self) -> None:
        ids = [self.chunk(f"chunk {i} " + "padding é " * 5000) for i in range(3)]
        before = len(self.log_bytes())
        with mock.patch.object(rlm, "gzip_member", side_effect=AssertionError):
            self.archive(*ids)
            self.call("rlm_restore", chunk_id=ids[1])
        self.assertLess(len(self.log_bytes()) - before, 5 * 130)
        self.assertEqual(list(self.tiers().values()), ["archived", "session", "archived"])
        self.compact()
        self.assertEqual(list(self.tiers().values()), ["archived", "session", "archived"])
        self.assertEqual([b'"text":' in line for line in self.log_bytes().splitlines() if b'"chunk"' in line],
                         [False, True, False])

    def test_restoring_is_lossless_before_and_after_a_compact(self) -> None:
        for compacted in (False, True):
            with self.subTest(compacted=compacted):
                doc_id = self.chunk(f"{compacted} {HARD}\0\ud800\r\n---\n", summary="a summary é", tags="a,b",
                                    ticket="T-1", domain="api")
                view = self.view()
                before = view.record(view.doc(view.ordinal_of(doc_id)))
                self.archive(doc_id)
                if compacted:
                    self.compact()
                self.assertTrue(self.call("rlm_restore", chunk_id=doc_id).data["restored"])
                self.assertFalse(self.call("rlm_restore", chunk_id=doc_id).data["restored"])
                for _ in range(2):
                    view = self.view()
                    doc = view.doc(view.ordinal_of(doc_id))
                    self.assertEqual((view.record(doc), doc.tier(), doc.life.uses), (before, "session", 1))
                    self.compact()
                self.now_s += 40 * DAY
                self.assertNotIn(doc_id, self.call("rlm_retention_run").data["archived"])

    def test_restore_takes_a_beginning_of_an_id_and_refuses_what_is_not_there(self) -> None:
        doc_id, insight = self.chunk(HARD), self.call("rlm_remember", content=HARD).data["id"]
        self.archive(doc_id)
        self.assertFalse(self.call("rlm_restore", chunk_id=insight).data["restored"])
        with self.assertRaises(rlm.NotFound):
            self.call("rlm_restore", chunk_id="2001-01-01_nothing")
        self.assertEqual(self.call("rlm_restore", chunk_id=doc_id[:-1]).data["id"], doc_id)

    def test_ids_are_never_given_out_again(self) -> None:
        given = []
        for i in range(4):
            given.append(self.chunk(f"chunk {i} é"))
            if i == 0:
                self.archive(given[0])
            elif i == 1:
                self.call("rlm_forget", insight_id=given[1])
            elif i == 2:
                self.archive(given[2])
                view = self.view()
                self.assertEqual(rlm.purge_docs(view, [view.doc(view.ordinal_of(given[2]))], self.now_s), 1)
            self.compact()
            rlm.catch_up(self.view())
        given += [self.chunk("chunk 2 é"), self.chunk("chunk 1 é")]  # the same text as one purged, one forgotten
        self.assertEqual([i[-3:] for i in given], ["001", "002", "003", "004", "005", "006"])
        self.now_s += 40 * DAY
        self.compact()  # purges what was forgotten
        self.now_s -= 40 * DAY
        ids = [self.chunk("chunk 7 é"), self.chunk("chunk 8 é", domain="api"), self.chunk("chunk 9 é"),
               self.chunk("chunk 10 é", ticket="T-1")]
        self.assertEqual([i.split("_")[2] for i in ids], ["007", "008", "009", "010"])

    def test_a_damaged_archive_is_reported_and_costs_only_what_it_held(self) -> None:
        texts = self.fill()
        self.compact()
        rlm.catch_up(self.view())
        (number,) = self.places.numbered("archive")
        path, data = self.places.archive(number), rlm.read_file(self.places.archive(number))
        second, keep = data.index(b"\x1f\x8b\x08", 1), self.saved()
        for name, damaged in (("first member", b"\0" * 40 + data[40:]), ("cut", data[: second + 30]), ("gone", None)):
            with self.subTest(name):
                self.put_back(keep)
                os.unlink(path)
                if damaged is not None:
                    rlm.append_bytes(path, damaged)
                readable = 0
                for doc_id, text in texts.items():
                    try:
                        readable += self.call("rlm_peek", chunk_id=doc_id).verbatim == text
                    except rlm.Damaged as error:
                        self.assertIn("archive", str(error))
                self.assertIn(readable, {"first member": [12], "cut": range(48, 60), "gone": [0]}[name])
                self.assertEqual(len(self.call("rlm_search", query="chunk with", limit=100).data["hits"]) > 0,
                                 readable > 0)
                self.call("rlm_grep", pattern="unique")
                self.assertIn(os.path.basename(path), [p["file"] for p in rlm.verify(self.view(), lambda *_: None)])
                self.assertEqual(self.main("verify")[0], 1)
                with self.assertRaisesRegex(rlm.Damaged, "nothing was changed: put a backup back"):
                    self.compact()
                self.assertEqual(rlm.read_file(path), damaged or b"")
                with open(path, "wb") as file:  # somebody finds a backup
                    file.write(data)
                self.assertEqual({i: v[1] for i, v in everything(self.places).items()}, texts)

    def test_a_bomb_in_the_archive_is_refused_and_the_rest_goes_on(self) -> None:
        doc_id, other = self.chunk("to become a bomb é"), self.chunk("another é")
        self.archive(doc_id)
        self.compact()
        (number,) = self.places.numbered("archive")
        deflate, block = zlib.compressobj(9, zlib.DEFLATED, 31), b"x" * (1 << 20)
        with open(self.places.archive(number), "wb") as file:
            file.write(b"".join([deflate.compress(block) for _ in range(9)] + [deflate.flush()]))
        with mock.patch.object(rlm, "MEMBER_MAX_BYTES", 8 << 20):
            with self.assertRaisesRegex(rlm.Damaged, "unpacks to over 8,388,608 bytes"):
                self.call("rlm_peek", chunk_id=doc_id)
            with self.assertRaises(rlm.Damaged):
                self.call("rlm_restore", chunk_id=doc_id)
            self.assertEqual([h["id"] for h in self.call("rlm_grep", pattern="an?other|bomb").data["hits"]], [other])
            self.assertEqual(rlm.verify(self.view(), lambda *_: None)[0]["file"],
                             os.path.basename(self.places.archive(number)))
            done = self.compact(repair=True)
            self.assertEqual((done.n_kept, done.lost, self.problems()), (2, [doc_id], []))


class PurgeTest(LifeCase):
    def test_a_purge_leaves_no_text_on_the_disk_and_a_line_without_it(self) -> None:
        text = "the confidentialword of Zanzibarsky\nline two é 日本語テスト"
        doc_id = self.chunk(text, summary="summaryword é", tags="tagword", ticket="TICKETWORD-1")
        kept = self.chunk("something else é")
        rlm.catch_up(self.view())
        self.call("rlm_remember", content="an insight é")
        self.now_s += 31 * DAY
        self.assertEqual(self.call("rlm_retention_run").data["n_archived"], 2)
        self.compact()
        self.call("rlm_peek", chunk_id=kept)
        self.now_s += 181 * DAY
        self.assertIn(b"confidentialword", self.on_disk())
        self.assertEqual(self.call("rlm_retention_run", purge=True).data["purged"], [doc_id])
        rlm.catch_up(self.view())
        left = self.on_disk()
        for word in ("confidentialword", "zanzibarsky", "Zanzibarsky", "summaryword", "tagword", "テスト", "confident"):
            self.assertNotIn(word.encode(), left, word)
        (line,) = [line for line in self.log_bytes().splitlines() if doc_id.encode() in line]
        record = json.loads(line)
        self.assertEqual((record["k"], record["id"], record["sha"], record["n_bytes"], "text" in record),
                         ("purge", doc_id, rlm.digest(text), len(text.encode()), False))
        self.assertTrue(record["purged_at"])
        with self.assertRaisesRegex(rlm.NotFound, "was purged; its text is gone"):
            self.call("rlm_peek", chunk_id=doc_id)
        for name, arguments in (("rlm_grep", {"pattern": "confidentialword"}),
                                ("rlm_search", {"query": "confidentialword"})):
            self.assertEqual(self.call(name, **arguments).data["hits"], [])
        self.assertEqual(self.call("rlm_peek", chunk_id=kept).verbatim, "something else é")
        self.assertEqual(self.problems(), [])

    def test_a_purge_during_another_rewrite_is_finished_by_the_next_run(self) -> None:
        doc_id = self.chunk("the confidentialword é")
        self.archive(doc_id)
        self.now_s += 181 * DAY
        with rlm.Lock(self.places.rewrite_lock()), mock.patch.object(rlm, "LOCK_WAIT_S",
                                                                     0.01), self.assertRaises(rlm.StoreBusy):
            self.call("rlm_retention_run", purge=True)
        self.assertIn(b"confidentialword", self.on_disk())
        self.call("rlm_retention_run", purge=True)
        self.assertNotIn(b"confidentialword", self.on_disk())


class CompactTest(LifeCase):
    def fill(self) -> None:
        """A store in which everything has happened to something, over two generations."""
        ids = [self.chunk(f"chunk {i} unique{i:03d} {HARD}", tags=f"tag{i}", domain="api", project="p é" if i % 3
                          else "") for i in range(16)]
        insights = [self.call("rlm_remember", content=f"insight {i} {HARD}", category="fact").data["id"]
                    for i in range(6)]
        self.archive(*ids[:6])
        self.call("rlm_restore", chunk_id=ids[1])
        self.call("rlm_forget", insight_id=insights[0])
        self.call("rlm_forget", insight_id=insights[1])
        self.main("forget", "--undo", insights[1])
        for i in (2, 8, 8, 8):
            self.call("rlm_peek", chunk_id=ids[i])
        view = self.view()
        rlm.purge_docs(view, [view.doc(view.ordinal_of(ids[5]))], self.now_s)
        self.compact()
        self.archive(*ids[8:11])
        self.call("rlm_restore", chunk_id=ids[3])
        self.call("rlm_restore", chunk_id=ids[9])
        self.call("rlm_forget", insight_id=ids[0])  # archived, its text in the archive only
        self.call("rlm_forget", insight_id=ids[10])  # archived, its text in the log still
        self.call("rlm_forget", insight_id=ids[15])
        self.call("rlm_peek", chunk_id=ids[2])
        with rlm.Writer(self.view()) as writer:
            writer.records += [{"v": 3, "k": "hologram", "id": "h1", "text": HARD, "new": {"deep": [1, None]}},
                               {"v": 1, "k": "chunk", "id": "odd", "text": "odd é", "unheard-of": {"x": [1]},
                                "at": START}]

    def test_what_a_store_holds_is_the_same_before_and_after(self) -> None:
        self.fill()
        for indexed in (False, True):
            with self.subTest(indexed=indexed):
                if indexed:
                    rlm.catch_up(self.view())
                before, size = everything(self.places), len(self.log_bytes())
                done = self.compact()
                self.assertEqual(everything(self.places), before)
                self.assertLessEqual(len(self.log_bytes()), size)
                self.assertEqual((self.view().index.n_docs, self.view().n_damaged, self.problems()),
                                 (len(before), 0, []))
        self.assertEqual((done.n_bytes_before, done.n_bytes_after), (rlm.store_bytes(self.view().log),) * 2)

    def test_every_answer_is_the_same_before_and_after(self) -> None:
        self.fill()
        rlm.catch_up(self.view())

        def answers() -> list[Any]:
            found = []
            for name, arguments in (("rlm_list_chunks", {"limit": 99}), ("rlm_recall", {"limit": 99}),
                                    ("rlm_sessions", {}),
                                    ("rlm_grep", {"pattern": "unique", "limit": 99}), ("rlm_domains", {}),
                                    ("rlm_retention_preview", {}),
                                    ("rlm_search", {"query": "unique007 chunk", "limit": 99}),
                                    ("rlm_search", {"query": "fact insight"})):
                data = rlm.run_tool(rlm.Call(rlm.Store(self.places)), name, arguments).data
                for hit in data.get("hits", ()):  # frequencies count what is dead until it is compacted
                    hit.pop("score", None)
                found.append({**data, "hits": sorted(data.get("hits", ()), key=lambda hit: str(hit["id"]))})
            return found

        before = answers()
        self.assertGreater(len(before[3]["hits"]), 10)
        self.compact()
        self.assertEqual(answers(), before)

    def test_superseded_records_are_dropped_and_unknown_ones_kept(self) -> None:
        doc_id = self.chunk(HARD)
        for _ in range(50):
            self.call("rlm_peek", chunk_id=doc_id)
        with rlm.Writer(self.view()) as writer:
            writer.records += [{"v": 3, "k": "hologram", "id": "h1", "text": HARD, "new": {"deep": [1, None]}},
                               {"v": 1, "k": "chunk", "id": "odd", "text": "first é"},
                               {"v": 1, "k": "chunk", "id": "odd", "text": "second é", "unheard-of": {"x": [1]}}]
        done = self.compact()
        records = [json.loads(line) for line in self.log_bytes().splitlines()]
        self.assertEqual([r["k"] for r in records], ["chunk", "use", "hologram", "chunk"])
        self.assertEqual((records[1]["n"], records[2]["new"], records[3]["unheard-of"]),
                         (50, {"deep": [1, None]}, {"x": [1]}))
        self.assertEqual((done.n_kept, done.n_dropped), (2, 51))

    def test_unknown_keys_of_archived_chunks_survive_too(self) -> None:
        with rlm.Writer(self.view()) as writer:
            writer.records.append({"v": 1, "k": "chunk", "id": "odd", "at": START, "unheard-of": {"x": [1]},
                                   "text": HARD})
        self.archive("odd")
        for _ in range(2):
            self.compact()
            view = self.view()
            self.assertEqual(view.record(view.doc(view.ordinal_of("odd")))["unheard-of"], {"x": [1]})
            self.assertEqual(json.loads(self.log_bytes().splitlines()[0])["unheard-of"], {"x": [1]})
        self.call("rlm_restore", chunk_id="odd")
        view = self.view()
        self.assertEqual(view.record(view.doc(view.ordinal_of("odd")))["unheard-of"], {"x": [1]})

    def test_what_was_forgotten_can_come_back_for_thirty_days_wherever_its_text_is(self) -> None:
        plain, insight = self.chunk("plain é"), self.call("rlm_remember", content="insight é").data["id"]
        in_archive, in_both = self.chunk("in the archive é"), self.chunk("in both é")
        self.archive(in_archive)
        self.compact()
        self.archive(in_both)
        texts = {plain: "plain é", insight: "insight é", in_archive: "in the archive é", in_both: "in both é"}
        for doc_id in texts:
            self.call("rlm_forget", insight_id=doc_id)
        keep = self.saved()
        self.now_s += 29 * DAY
        for _ in range(2):
            self.compact()
        for doc_id, text in texts.items():
            self.assertEqual(self.main("forget", "--undo", doc_id)[0], 0)
            self.assertEqual(self.call("rlm_peek", chunk_id=doc_id).verbatim, text)
        self.assertEqual((self.doc(in_archive).tier(), self.doc(in_both).tier()), ("archived", "archived"))
        self.put_back(keep)
        self.now_s += 2 * DAY
        self.compact()
        for doc_id, text in texts.items():
            self.assertEqual(self.main("forget", "--undo", doc_id)[0], 1)
            self.assertNotIn(text.encode(), self.on_disk())

    def test_what_happens_during_a_compact_is_kept(self) -> None:
        ids = [self.chunk(f"chunk {i} {HARD}") for i in range(12)]
        insights = [self.call("rlm_remember", content=f"insight {i} {HARD}").data["id"] for i in range(4)]
        self.archive(*ids[:6])
        steps: list[Callable[[], object]] = [
            lambda: self.chunk("written meanwhile é"), lambda: self.call("rlm_forget", insight_id=insights[0]),
            lambda: self.call("rlm_peek", chunk_id=ids[7]), lambda: self.call("rlm_restore", chunk_id=ids[2]),
            lambda: self.archive(ids[8]), lambda: self.call("rlm_remember", content="remembered meanwhile é")]
        left = list(steps)
        self.compact(check=lambda: left.pop(0)() if left else None)
        self.assertEqual(left, [])
        for _ in range(3):  # what the first left in an odd state, the next must not lose
            found = everything(self.places)
            texts = {value[1] for value in found.values()}
            self.assertLessEqual({"written meanwhile é", "remembered meanwhile é"} | {f"chunk {i} {HARD}"
                                                                                      for i in range(12)}, texts)
            self.assertEqual({found[i][8] for i in ids[3:6] + [ids[0], ids[1], ids[8]]}, {"archived"})
            self.assertEqual((found[ids[2]][8], found[ids[2]][10], found[ids[7]][10]), ("session", 1, 1))
            self.assertEqual(found[insights[0]][9], rlm.FORGOTTEN)
            self.assertEqual(self.problems(), [])
            self.compact()

    def test_a_read_that_is_overtaken_by_a_compact_starts_again(self) -> None:
        with mock.patch.object(rlm, "LOG_ROLL_BYTES", 1500):
            ids = [self.chunk(f"chunk {i} marker{i}x {HARD}") for i in range(12)]
        self.archive(ids[1])
        self.compact()
        self.archive(ids[2])
        rlm.catch_up(self.view())  # so that the readers need not open every file at first
        record, overtaken = rlm.View.record, []

        def slow_record(view: rlm.View, doc: rlm.Doc) -> rlm.Record:
            if not overtaken:
                overtaken.append(doc.id)
                self.compact()
            return record(view, doc)

        for i in (0, 1, 2, 11):
            for name, arguments in (("rlm_peek", {"chunk_id": ids[i]}), ("rlm_grep", {"pattern": f"marker{i}x"}),
                                    ("rlm_search", {"query": f"marker{i}x"})):
                overtaken.clear()
                store = rlm.Store(self.places)
                with self.subTest(name, i=i), mock.patch.object(rlm, "LOG_ROLL_BYTES", 1500), \
                        mock.patch.object(rlm.View, "record", slow_record):
                    self.assertIn(f"marker{i}x", run(store, name, **arguments))
                self.assertTrue(overtaken)

    def test_verify_does_not_call_what_a_running_compact_writes_left_over(self) -> None:
        self.fill()
        found: list[list[Any]] = []

        def look() -> None:
            if not found:
                self.assertTrue(rlm.rubbish(self.view().log))
                found.append(self.problems())

        self.compact(check=look)
        self.assertEqual(found, [[]])

    def test_a_compact_that_is_overtaken_by_a_repair_of_the_manifest_gives_up(self) -> None:
        self.chunk("before é")
        self.archive(self.chunk("archived é"))
        before, done = everything(self.places), []

        def repair() -> None:
            if not done:
                os.unlink(self.places.manifest())
                done.append(self.chunk("written meanwhile é"))

        with self.assertRaisesRegex(rlm.StoreBusy, "nothing was changed: run it again"):
            self.compact(check=repair)
        after = everything(self.places)
        self.assertEqual({i: v for i, v in after.items() if i not in done}, before)
        self.compact()
        self.assertEqual((everything(self.places), self.problems()), (after, []))

    def test_a_compact_that_began_with_a_write_that_was_taken_back_gives_up(self) -> None:
        self.archive(self.chunk("archived é"))
        write_all, rewriting, text = rlm.write_all, [], "acknowledged, and longer than the one before é " * 9

        def write(fd: int, data: bytes) -> None:
            write_all(fd, data)
            rewriting.append(self.view())  # the rewrite looks at the log before the writer cuts it back
            raise OSError(28, "No space left on device")

        with mock.patch.object(rlm, "write_all", write), self.assertRaises(rlm.StoreUnwritable):
            self.chunk("never acknowledged é")
        self.assertEqual([view.n_docs() for view in rewriting], [2])
        new = self.chunk(text)
        with mock.patch.object(rlm.View, "refresh", lambda view, *_: view), self.assertRaises(rlm.StoreBusy):
            rlm.next_generation(rlm.Rewrite(rewriting[0], False, False, lambda: None, lambda line: line))
        self.assertEqual(everything(self.places)[new][1], text)

    def test_a_second_compact_at_the_same_time_is_refused_and_changes_nothing(self) -> None:
        self.fill()
        before, refused = everything(self.places), []

        def again() -> None:
            if not refused:
                with self.assertRaises(rlm.StoreBusy) as caught:
                    self.compact()
                refused.append(str(caught.exception))

        self.compact(check=again)
        self.assertEqual(len(refused), 1)
        self.assertEqual(everything(self.places), before)
        self.assertEqual(self.view().log.generation(), 3)

    def test_everything_a_new_generation_consists_of_is_on_the_disk_before_it_counts(self) -> None:
        self.fill()
        dirty: set[int] = set()
        write_all, replace, left = rlm.write_all, os.replace, []

        def write(fd: int, data: bytes) -> None:
            dirty.update([os.fstat(fd).st_ino] * bool(data))
            write_all(fd, data)

        def swap(source: str, target: str) -> None:
            if target == self.places.manifest():
                listed = json.loads(rlm.read_file(source))
                paths = [source, *map(self.places.archive, listed["archives"])]
                paths += [self.places.log(number) for number, _ in listed["logs"]]
                left.append([path for path in paths if os.stat(path).st_ino in dirty])
            replace(source, target)

        with mock.patch.object(rlm, "write_all", write), mock.patch.object(os, "replace", swap), \
                mock.patch.object(rlm, "sync", lambda fd: dirty.discard(os.fstat(fd).st_ino)), \
                mock.patch.object(rlm, "LOG_ROLL_BYTES", 2500):
            self.compact(check=lambda: self.chunk(f"meanwhile {self.now_s} é {os.urandom(4).hex()}"))
            self.archive(self.chunk("one more é"))
        self.assertGreater(len(left), 2)
        self.assertEqual([each for each in left if each], [])

    def test_a_store_without_a_log_is_left_alone(self) -> None:
        self.assertEqual(self.main("compact")[0], 0)
        self.assertFalse(os.path.exists(self.places.memory))

    def test_a_compact_rolls_its_own_files(self) -> None:
        self.fill()
        before = everything(self.places)
        with mock.patch.object(rlm, "LOG_ROLL_BYTES", 2000):
            self.compact()
            self.assertGreater(len(self.view().log.manifest["logs"]), 2)
            self.assertEqual(everything(self.places), before)
            self.compact()
        self.assertEqual(everything(self.places), before)
        self.assertEqual(rlm.rubbish(self.view().log), [])


class InterruptionTest(LifeCase):
    """Stops at every single step, by the end of the process and by a disk that says no."""

    def fill(self) -> None:
        """A small store with something in each state."""
        ids = [self.chunk(f"chunk {i} confidential{i:03d} {HARD}") for i in range(9)]
        self.archive(*ids[:4])
        self.compact()
        self.archive(*ids[4:6])
        self.call("rlm_restore", chunk_id=ids[1])
        self.call("rlm_peek", chunk_id=ids[7])
        insight = self.call("rlm_remember", content=HARD).data["id"]
        self.call("rlm_forget", insight_id=insight)
        self.call("rlm_forget", insight_id=ids[8])

    @contextlib.contextmanager
    def stopping(self, n_steps: int, stop: Callable[[], object], half: bool) -> Iterator[list[int]]:
        """Calls *stop* before the step after *n_steps* that change the disk; with *half*, half a write goes first."""
        left = [n_steps]

        def counted(change: Callable[..., Any]) -> Callable[..., Any]:
            def step(*arguments: Any, **more: Any) -> Any:
                left[0] -= 1
                if left[0] == -1:
                    if half and change is write_all:
                        os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                    stop()
                return change(*arguments, **more)
            return step

        write_all = rlm.write_all
        with mock.patch.object(rlm, "write_all", counted(write_all)), mock.patch.object(os, "replace",
                                                                                        counted(os.replace)), \
                mock.patch.object(rlm, "remove_file", counted(rlm.remove_file)), mock.patch.object(rlm, "sync",
                                                                                                   counted(rlm.sync)):
            yield left

    def each_stop(self, action: Callable[[], object], at_least: int = 8) -> Iterator[str]:
        """Runs *action* on copies of the store in a process that ends at step 0, 1, 2 ... until one gets through."""
        keep = self.saved()
        for half in (False, True):
            for n_steps in range(400):
                self.put_back(keep)

                def job(n_steps: int = n_steps, half: bool = half) -> None:
                    with self.stopping(n_steps, lambda: os._exit(CUT), half):
                        action()

                code = ended(forked(job))
                self.assertIn(code, (0, CUT))
                if code == 0:
                    self.assertGreater(n_steps, at_least)
                    break
                yield f"step {n_steps}{' half done' * half}"

    def test_a_compact_that_ends_anywhere_leaves_the_old_or_the_new_state_whole(self) -> None:
        self.fill()
        expected = everything(self.places)
        for at in self.each_stop(self.compact):
            with self.subTest(at):
                self.assertEqual(everything(self.places), expected)
                new = self.chunk("goes on é")
                self.call("rlm_peek", chunk_id=next(i for i, v in expected.items() if v[10] == 0 and not v[9]))
                self.compact()
                found = everything(self.places)
                self.assertEqual({i: v[:10] for i, v in found.items() if i != new},
                                 {i: v[:10] for i, v in expected.items()})
                self.assertEqual(self.problems(), [])
                self.check_leftovers()

    def test_a_first_use_that_ends_anywhere_leaves_a_store_that_works(self) -> None:
        os.makedirs(self.places.memory)
        for at in self.each_stop(lambda: self.chunk(f"first {HARD}"), 4):
            with self.subTest(at):
                texts = [value[1] for value in everything(self.places).values()]
                self.assertIn(texts, ([], [f"first {HARD}"]))
                self.chunk(f"second {HARD}")
                self.assertEqual([value[1] for value in everything(self.places).values()], [*texts, f"second {HARD}"])
                self.compact()
                self.assertEqual([p for p in self.problems() if p != "damaged: no record"], [])

    def test_an_indexing_that_ends_anywhere_changes_no_answer(self) -> None:
        for i in range(4):  # the next makes it merge
            self.chunk(f"chunk {i} marker{i}x {HARD}")
            if i < 3:
                self.assertTrue(rlm.catch_up(self.view()))
        expected = everything(self.places)
        for at in self.each_stop(lambda: self.assertTrue(rlm.catch_up(self.view()))):
            with self.subTest(at):
                for _ in range(2):
                    self.assertEqual(everything(self.places), expected)
                    for i in range(4):
                        hit = self.call("rlm_search", query=f"marker{i}x").data["hits"][0]
                        self.assertEqual(expected[hit["id"]][1], f"chunk {i} marker{i}x {HARD}")
                    self.assertTrue(rlm.catch_up(self.view()))
                self.assertEqual((self.view().index.n_docs, self.problems()), (4, []))
                self.check_leftovers()

    def check_leftovers(self) -> None:
        """Nothing is there that does not belong to the store as it is."""
        generation = self.view().log.generation()
        self.assertEqual(rlm.rubbish(self.view().log), [])
        for name in os.listdir(self.places.memory):
            self.assertRegex(name, r"^((log|archive)-[0-9]{6}.jsonl(.gz)?|manifest.json|(compact-)?lock|index)$")
        for name in os.listdir(self.places.index):
            self.assertRegex(name, rf"^(lock|(current|segment|state)-{generation:06d}[-0-9]*\.(json|idx|bin))$")

    def test_an_archiving_that_ends_anywhere_leaves_every_text_readable(self) -> None:
        self.fill()
        expected = everything(self.places)
        self.now_s += 31 * DAY
        keep = self.saved()
        self.call("rlm_retention_run")
        final = everything(self.places)
        self.assertNotEqual(final, expected)
        self.put_back(keep)
        for at in self.each_stop(lambda: self.call("rlm_retention_run"), 1):
            with self.subTest(at):
                self.assertEqual({i: v[1] for i, v in everything(self.places).items()},
                                 {i: v[1] for i, v in expected.items()})
                self.call("rlm_retention_run")
                self.assertEqual(everything(self.places), final)
                self.compact()
                self.check_leftovers()

    def test_a_purge_that_ends_anywhere_is_finished_by_the_next(self) -> None:
        self.fill()
        self.now_s += 29 * DAY  # what was forgotten can still come back
        self.assertEqual(self.main("config", "archive_after_days", "20")[0], 0)
        self.assertEqual(self.main("config", "purge_after_days", "20")[0], 0)
        expected = everything(self.places)
        keep = self.saved()
        self.call("rlm_retention_run", purge=True)
        final = everything(self.places)
        purged = [i for i, v in final.items() if v[8] == "purged"]
        self.assertEqual(len(purged), 5)
        words = [re.findall("confidential[0-9]+", expected[i][1])[0].encode() for i in purged]
        self.put_back(keep)
        for at in self.each_stop(lambda: self.call("rlm_retention_run", purge=True)):
            with self.subTest(at):
                for doc_id, value in everything(self.places).items():
                    self.assertIn(value[1], (expected[doc_id][1], None if doc_id in purged else expected[doc_id][1]))
                self.call("rlm_retention_run", purge=True)
                self.assertEqual(everything(self.places), final)
                left = self.on_disk()
                self.assertEqual([word for word in words if word in left], [])
                self.check_leftovers()

    def test_a_disk_that_is_full_at_any_step_of_a_compact_changes_nothing_and_keeps_no_scraps(self) -> None:
        self.fill()
        expected, keep = everything(self.places), self.saved()

        def full() -> None:
            raise OSError(28, "No space left on device")

        stopping = mock.patch.object(rlm, "remove_file", rlm.remove_file)  # removing needs no room

        for n_steps in range(400):
            self.put_back(keep)
            with self.subTest(n_steps=n_steps):
                try:
                    with self.stopping(n_steps, full, True) as left, stopping:
                        self.compact()
                except rlm.StoreUnwritable as error:
                    self.assertIn("the disk is full", str(error))
                if left[0] >= 0:
                    break
                self.assertEqual(everything(self.places), expected)
                self.assertEqual(rlm.rubbish(self.view().log), [])
                self.chunk("goes on é")
        self.assertGreater(n_steps, 12)


if __name__ == "__main__":
    unittest.main()
