"""What is remembered: ids are never given out twice, texts come back byte for byte, doubles are met, projects found."""
from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import tempfile
import unittest
from typing import Any
from unittest import mock

from tests.support import HARD, TempHome, days_ago, rlm

# Texts whose bytes a careless reader or writer changes.
TEXTS = (
    "plain", "no newline at the end\nhere", "one at the end\n", "three at the end\n\n\n", "\n\nbefore", "  indented\t",
    "CRLF\r\nand\r\n", "lone CR\rhere\r", "---\nid: forged\nsummary: forged\n---\n\nfront matter", "---\n", HARD,
    "nul \0 in it", "bell \x07 and escape \x1b[31m", "next line \x85 line \u2028 paragraph \u2029 feed \x0c tab \x0b.",
    "half of an emoji \ud83d here", "a byte that was no UTF-8: \udce9", "\ufeffbyte order mark", "e\u0301 is not é",
    "{\"k\":\"forget\",\"id\":\"x\"}\n{\"v\":1}", "\\u00e9 \\n \\", "x" * 100_000, "日本語" * 5000,
)
NASTY_NAMES = ("../../etc/passwd", "a/b", "a\\b", "..", ".", "/", "", " ", "a\0b", "a\nb", "-x", "_", "a_b", "é à",
               "日本語", "x" * 200, "%s%n", "$(id)", "`id`", "a:10-40", "i-", "🙂", "COM1", "a" * 39 + "é", "---")


class IdTest(TempHome):
    def test_an_id_is_made_of_date_project_number_ticket_and_domain(self) -> None:
        day = rlm.local_day(rlm.now())
        self.assertEqual(self.chunk("a " + HARD), f"{day}_test_001")
        self.assertEqual(self.chunk("b", ticket="JIRA-7", domain="api"), f"{day}_test_002_JIRA-7_api")
        self.assertEqual(self.chunk("c", domain="api"), f"{day}_test_003_api")
        self.assertEqual(self.chunk("d", project="Shop Été"), f"{day}_Shop-Été_001")

    def test_numbers_start_again_for_every_day_and_project(self) -> None:
        self.chunk("today")
        with days_ago(2):
            before = self.chunk("the day before yesterday")
        self.assertTrue(before.endswith("_test_001"), before)
        self.assertTrue(self.chunk("today again").endswith("_test_002"))
        self.assertTrue(self.chunk("elsewhere", project="other").endswith("_other_001"))

    def test_an_id_is_not_given_out_again_after_forget_archive_purge_or_compact(self) -> None:
        with days_ago(400):
            first, second = self.chunk("first é"), self.chunk("second")
        with days_ago(200):
            self.assertEqual(self.call("rlm_retention_run").data["n_archived"], 2)
        self.assertEqual(self.call("rlm_retention_run", purge=True).data["n_purged"], 2)
        with days_ago(400):
            third = self.chunk("third")
            self.call("rlm_forget", insight_id=third)
        rlm.rewrite(self.view())  # it was forgotten 400 days ago, so this purges it
        self.assertNotIn(b"third", self.log_bytes())
        with days_ago(400):
            fourth = self.chunk("fourth")
        self.assertEqual([i[-4:] for i in (first, second, third, fourth)], ["_001", "_002", "_003", "_004"])

    def test_more_than_a_thousand_numbers_a_day_go_on_with_four_digits(self) -> None:
        view = self.view()
        with rlm.Writer(view) as writer:
            ids = [rlm.save_chunk(writer, f"text {n}", summary="é", tags=[], project="p", ticket="", domain="",
                                  chunk_type="session", at_s=rlm.now())[0] for n in range(1005)]
        self.assertEqual(len(set(ids)), 1005)
        self.assertEqual((ids[998][-4:], ids[1004][-5:]), ("_999", "_1005"))
        next_id = self.chunk("one more", project="p")
        self.assertTrue(next_id.endswith("_1006"), next_id)
        # The id of the 100th is the beginning of the 1000th's, and still its own.
        self.assertEqual(self.call("rlm_peek", chunk_id=ids[99]).verbatim, "text 99")

    def test_no_name_reaches_a_path_and_every_id_is_accepted_again(self) -> None:
        before = set(os.listdir(self.home))
        for i, name in enumerate(NASTY_NAMES):
            with self.subTest(name=name):
                new_id = self.chunk(f"text {i}", project=name, ticket=name, domain=name)
                self.assertRegex(new_id, r"\A\d{4}-\d\d-\d\d_[\w.-]+\Z")
                self.assertNotIn("..", new_id)
                self.assertLess(len(new_id), 150)
                self.assertEqual(self.call("rlm_peek", chunk_id=new_id).verbatim, f"text {i}")
        self.assertEqual(set(os.listdir(self.home)), before | {".claude"})
        files = sorted(os.listdir(self.places.memory))
        known = re.compile(r"log-000001\.jsonl|lock|manifest\.json|index")
        self.assertEqual([name for name in files if not known.fullmatch(name)], [])

    def test_insights_get_ids_of_their_own(self) -> None:
        ids = {self.call("rlm_remember", content=f"statement {n} é").data["id"] for n in range(20)}
        self.assertEqual(len(ids), 20)
        for new_id in ids:
            self.assertRegex(new_id, r"\Ai-[0-9a-f]{8}\Z")

    def test_an_insight_id_that_is_taken_is_drawn_again(self) -> None:
        drawn = [b"\x01\x02\x03\x04", b"\x01\x02\x03\x04", b"\x05\x06\x07\x08", *[b"any number"] * 9]
        with mock.patch.object(rlm.os, "urandom", lambda n: drawn.pop(0)[:n]):
            with rlm.Writer(self.view()) as writer:
                ids = [writer.save("insight", text, project="p", at_s=1.0)[0] for text in ("one", "two")]
        self.assertEqual(ids, ["i-01020304", "i-05060708"])


class PrefixTest(TempHome):
    def setUp(self) -> None:
        super().setUp()
        items = [{"kind": "insight", "id": i, "text": f"text of {i} é"} for i in ("note-a1", "note-a2", "note-a22")]
        items.append({"kind": "chunk", "id": "old_001", "text": "an old chunk", "archived": True})
        rlm.import_items(self.view(), items, "test", lambda *_: None)

    def test_a_unique_beginning_is_accepted_everywhere(self) -> None:
        self.assertEqual(self.call("rlm_peek", chunk_id="note-a1").data["id"], "note-a1")
        self.assertEqual(self.call("rlm_peek", chunk_id="old").data["id"], "old_001")
        self.assertEqual(self.call("rlm_peek", chunk_id=" old_0:1-1").verbatim, "an old chunk")
        self.assertEqual(self.call("rlm_restore", chunk_id="ol").data, {"id": "old_001", "restored": True})
        self.assertEqual(self.call("rlm_forget", insight_id="old_").data["id"], "old_001")

    def test_an_ambiguous_beginning_lists_the_candidates(self) -> None:
        for tool, argument in (("rlm_peek", "chunk_id"), ("rlm_forget", "insight_id"), ("rlm_restore", "chunk_id")):
            with self.subTest(tool=tool), self.assertRaises(rlm.UsageError) as caught:
                self.call(tool, **{argument: "note-a"})
            for candidate in ("note-a1", "note-a2", "note-a22"):
                self.assertIn(candidate, str(caught.exception))

    def test_a_whole_id_wins_over_a_longer_one_that_begins_with_it(self) -> None:
        self.assertEqual(self.call("rlm_peek", chunk_id="note-a2").verbatim, "text of note-a2 é")

    def test_a_forgotten_memory_makes_no_beginning_ambiguous(self) -> None:
        self.call("rlm_forget", insight_id="note-a1")
        self.call("rlm_forget", insight_id="note-a2")
        self.assertEqual(self.call("rlm_peek", chunk_id="note-a").data["id"], "note-a22")

    def test_an_unknown_id_names_near_ones(self) -> None:
        with self.assertRaises(rlm.NotFound) as caught:
            self.call("rlm_peek", chunk_id="note-b1")
        self.assertIn("note-a1", str(caught.exception))

    def test_what_is_no_id_at_all_is_refused_with_an_example(self) -> None:
        for wrong in ("", "  ", "a\0b", "x" * 201, "\udcff"):
            with self.subTest(wrong=wrong), self.assertRaises(rlm.UsageError) as caught:
                self.call("rlm_peek", chunk_id=wrong)
            self.assertIn("i-3f9a1c20", str(caught.exception))
            self.assertLess(len(str(caught.exception)), 200)


class SameTextTest(TempHome):
    def test_the_same_text_in_the_same_project_answers_with_the_id_it_has(self) -> None:
        first = self.call("rlm_chunk", content=HARD, summary="one", tags="a")
        again = self.call("rlm_chunk", content=HARD, summary="another summary", tags="b", domain="d")
        self.assertEqual((first.data["new"], again.data["new"]), (True, False))
        self.assertEqual(again.data["id"], first.data["id"])
        self.assertIn("nothing was added", again.text)
        self.assertEqual(self.call("rlm_list_chunks").data["total"], 1)

    def test_a_text_that_differs_in_anything_is_another_chunk(self) -> None:
        texts = ["if x:\n    y", "if x:\n  y", "If X:\n    y", "if x:\n    y\n", "if x:\r\n    y", "if x:\n    y ",
                 "if x:\n\n    y"]
        self.assertEqual(len({self.chunk(text) for text in texts}), len(texts))
        self.assertNotEqual(self.chunk(texts[0], project="other"), self.chunk(texts[0]))

    def test_projects_that_differ_in_case_only_are_two(self) -> None:
        self.assertNotEqual(self.chunk("text", project="Shop"), self.chunk("text", project="shop"))

    def test_an_insight_and_a_chunk_of_one_text_are_two_memories(self) -> None:
        self.chunk("We deploy on Fridays")
        self.assertTrue(self.call("rlm_remember", content="We deploy on Fridays").data["new"])
        again = self.call("rlm_remember", content="We deploy on Fridays")
        self.assertEqual((again.data["new"], again.data["changed"]), (False, False))
        self.assertIn("says exactly that already", again.text)

    def test_the_same_statement_takes_on_what_is_said_of_it_the_next_time(self) -> None:
        first = self.call("rlm_remember", content="We deploy on Fridays", tags="a").data["id"]
        self.call("rlm_peek", chunk_id=first)
        self.assertTrue(rlm.catch_up(self.view()))
        again = self.call("rlm_remember", content="We deploy on Fridays", category="decision", importance="critical",
                          tags="b")
        self.assertEqual((again.data["id"], again.data["new"], again.data["changed"]), (first, False, True))
        self.assertIn("it is now decision, critical", again.text)
        for said in ({}, {"importance": "medium", "category": "general"}):  # the usual ones take nothing back
            self.assertFalse(self.call("rlm_remember", content="We deploy on Fridays", **said).data["changed"])
            (row,) = self.call("rlm_recall", query="Fridays").data["insights"]
            self.assertEqual((row["id"], row["category"], row["importance"], row["tags"]),
                             (first, "decision", "critical", ["a", "b"]))
        self.assertEqual(self.call("rlm_recall").data["total"], 1)

    def test_the_text_of_an_archived_chunk_is_still_known(self) -> None:
        with days_ago(31):
            old = self.chunk("an old text é")
        self.assertEqual(self.call("rlm_retention_run").data["archived"], [old])
        again = self.call("rlm_chunk", content="an old text é")
        self.assertEqual((again.data["id"], again.data["new"]), (old, False))

    def test_a_forgotten_text_can_be_saved_anew(self) -> None:
        old = self.chunk("a text é")
        self.call("rlm_forget", insight_id=old)
        new = self.chunk("a text é")
        self.assertNotEqual(new, old)
        self.assertEqual(self.call("rlm_peek", chunk_id=new).verbatim, "a text é")

    def test_doubles_are_met_after_the_index_was_built_and_within_one_commit(self) -> None:
        old = self.chunk("indexed é")
        rlm.index_now(self.view(), lambda *_: None)
        self.assertEqual(len(self.view().tail), 0, "the text is not in the index")
        self.assertEqual(self.chunk("indexed é"), old)
        items = [{"kind": "chunk", "text": "twice"}] * 2
        done = rlm.import_items(self.view(), items, "test", lambda *_: None)
        self.assertEqual((done.n_new, done.n_known), (1, 1))


class TextTest(TempHome):
    def assert_whole(self, ids: list[str]) -> None:
        """Every text is what went in, for peek and for its hash."""
        for text, chunk_id in zip(TEXTS, ids):
            with self.subTest(text=text[:30]):
                self.assertEqual(self.call("rlm_peek", chunk_id=chunk_id).verbatim, text)
        self.assertEqual(rlm.verify(self.view(), lambda *_: None), [])

    def test_texts_come_back_byte_for_byte_from_log_index_next_generation_and_archive(self) -> None:
        with days_ago(40):
            ids = [self.chunk(text) for text in TEXTS]
        self.assert_whole(ids)
        rlm.index_now(self.view(), lambda *_: None)
        self.assert_whole(ids)
        rlm.rewrite(self.view())
        self.assert_whole(ids)
        with mock.patch.object(rlm, "setting", lambda _, key: 0):  # whatever was used may be archived
            view = self.view()
            plan = rlm.Retention()
            plan.archive = [view.doc(view.ordinal_of(chunk_id)) for chunk_id in ids]
            self.assertEqual(rlm.carry_out(view, plan, rlm.now(), archive=True, purge=False), (len(TEXTS), 0))
        rlm.rewrite(self.view())
        self.assertNotIn(b'"text":', self.log_bytes(), "the texts are not in the archive alone")
        self.assert_whole(ids)
        for chunk_id in ids:
            self.assertTrue(self.call("rlm_restore", chunk_id=chunk_id).data["restored"])
        self.assert_whole(ids)

    def test_insights_come_back_as_they_were(self) -> None:
        for text in TEXTS[:20]:
            with self.subTest(text=text):
                new_id = self.call("rlm_remember", content=text).data["id"]
                found = self.call("rlm_recall", limit=100).data["insights"]
                self.assertEqual([row["text"] for row in found if row["id"] == new_id], [text])

    def test_random_texts_come_back(self) -> None:
        seed = random.randrange(1 << 32)
        letters = [*"ab \n\r\t\0\x1b\\\"'é日🙂\u2028\x85\udcff{}", "\ud800.", "\n---\n"]
        with self.subTest(seed=seed):
            source = random.Random(seed)
            for _ in range(40):
                text = "x" + "".join(source.choice(letters) for _ in range(source.randrange(60)))
                self.assertEqual(self.call("rlm_peek", chunk_id=self.chunk(text)).verbatim, text)

    def test_names_lose_control_characters_and_nothing_else(self) -> None:
        new_id = self.chunk("text", project=" a\tb \0 é\n", domain="x\x1by", ticket="日 本", tags=" t1 ,, t\n2,t1")
        row = self.call("rlm_list_chunks").data["chunks"][0]
        self.assertEqual((row["id"], row["project"], row["domain"]), (new_id, "a b é", "x y"))
        self.assertEqual((row["ticket"], row["tags"]), ("日 本", ["t1", "t 2"]))


    def test_a_secret_in_a_name_is_in_no_record_and_no_id(self) -> None:
        token = "ghp_" + "Zx8Kq2Lm5Np7Rt9Vw1By3Cd4Ef6Gh0Jk8sQ2"
        os.environ["CLAUDE_CODE_SESSION_ID"] = token
        self.addCleanup(os.environ.pop, "CLAUDE_CODE_SESSION_ID", None)
        self.chunk("text é", project=token, ticket=token, domain=token, tags=token)
        with mock.patch.dict(os.environ, {"RLM_PROJECT": token}):
            self.chunk("here")
            self.call("rlm_remember", content="a fact é")
        items = [{"kind": kind, "text": f"{kind} é", "id": f"{token}_{kind}", "project": token, "ticket": f"a {token}",
                  "domain": token, "session": token, "tags": [token]} for kind in ("chunk", "insight")]
        items += [{"kind": "chunk", "text": "no project", "id": "x" * 180 + "." + token}]
        done = rlm.Imported()
        rlm.import_batch(self.view(), [*items, items[0]], token, done)
        self.assertEqual((done.n_new, done.n_known, done.refused), (3, 1, []))
        ids = [doc.id for doc in self.view().alive()]
        self.assertNotIn(token[4:20].encode(), self.log_bytes())
        self.assertIn(b'"project":"[redacted:github-token]"', self.log_bytes())
        self.assertNotIn(token[4:20], "".join(ids))
        self.assertEqual(len(ids), 6)


class EntityTest(TempHome):
    TEXT = ("$ pytest -x tests/test_store.py\n"
            "ImportError: no module named flask in src/api/app.py (JIRA-42, Python 3.12.1)\n"
            "import numpy\ndef parse_header(x):\nsee https://example.org/docs/é?q=1\n")
    KINDS = {"files": "src/api/app.py", "versions": "Python 3.12.1", "modules": "numpy", "tickets": "JIRA-42",
             "functions": "parse_header", "urls": "https://example.org/docs/é?q=1", "errors": "ImportError",
             "commands": "pytest -x tests/test_store.py"}

    def test_all_eight_kinds_are_shown_with_the_chunk_but_not_stored_with_it(self) -> None:
        entities = self.call("rlm_peek", chunk_id=self.chunk(self.TEXT)).data["entities"]
        self.assertEqual([kind for kind, name in self.KINDS.items() if name not in entities.get(kind, ())], [])
        self.assertNotIn(b"entities", self.log_bytes())

    def test_the_names_are_those_of_the_lines_shown(self) -> None:
        entities = self.call("rlm_peek", chunk_id=self.chunk(self.TEXT) + ":2").data["entities"]
        self.assertEqual(entities["files"], ["src/api/app.py"])
        self.assertNotIn("functions", entities)

    def test_all_names_of_a_kind_are_given_and_very_many_are_cut_with_a_note(self) -> None:
        for n_names in (500, rlm.MAX_LIMIT, rlm.MAX_LIMIT + 1):
            text = "\n".join(f"f{n}.py" for n in range(n_names))
            data = self.call("rlm_peek", chunk_id=self.chunk(text)).data
            self.assertEqual(data["entities"]["files"], text.split("\n")[: rlm.MAX_LIMIT])
            self.assertEqual("10,001 files" in data.get("note", ""), n_names > rlm.MAX_LIMIT)

    def test_a_record_of_an_earlier_version_keeps_its_place_and_is_found_by_its_text(self) -> None:
        old = {"v": 1, "k": "chunk", "id": "old_é", "at": "2026-01-02T03:04:05Z", "project": "test", "type": "session",
               "entities": {"files": ["gone.py"]}, "sha": rlm.digest("see kept.py"), "text": "see kept.py"}
        with rlm.Writer(self.view()) as writer:
            writer.records.append(old)
        self.assertEqual([hit["id"] for hit in self.call("rlm_grep", pattern="see", entity="kept.py").data["hits"]], ["old_é"])
        self.assertEqual(self.call("rlm_grep", pattern="see", entity="gone.py").data["hits"], [])
        self.assertEqual(self.call("rlm_peek", chunk_id="old_é").data["entities"], {"files": ["kept.py"]})

    def test_each_entity_filters_search_and_grep_before_and_after_indexing(self) -> None:
        wanted = self.chunk(self.TEXT)
        self.chunk("the module flask and the docs, but nothing with a name")
        for indexed in (False, True):
            if indexed:
                rlm.index_now(self.view(), lambda *_: None)
            self.assertEqual(bool(self.view().tail), not indexed)
            for kind, name in self.KINDS.items():
                with self.subTest(kind=kind, indexed=indexed):
                    hits = self.call("rlm_search", query="module docs", entity=name.upper()).data["hits"]
                    self.assertEqual([hit["id"] for hit in hits], [wanted])
                    hits = self.call("rlm_grep", pattern="docs", entity=name[:-1]).data["hits"]
                    self.assertEqual([hit["id"] for hit in hits], [wanted])
            self.assertEqual(self.call("rlm_search", query="module", entity="no_such_file.py").data["hits"], [])
        self.assertEqual(len(self.call("rlm_search", query="module docs").data["hits"]), 2)

    def test_a_chunk_without_names_has_no_entities(self) -> None:
        self.assertEqual(self.call("rlm_peek", chunk_id=self.chunk("nothing here, é")).data["entities"], {})


class LimitTest(TempHome):
    def assert_refused(self, *parts: str, tool: str = "rlm_chunk", **arguments: Any) -> None:
        """The call is a usage error that says all of these, and the store stays as it was."""
        before = self.log_bytes()
        with self.assertRaises(rlm.UsageError) as caught:
            self.call(tool, **arguments)
        for part in parts:
            self.assertIn(part, str(caught.exception))
        self.assertLess(len(str(caught.exception)), 300)
        self.assertEqual(self.log_bytes(), before)

    def test_an_insight_may_have_64_kilobytes_of_utf_8_and_no_more(self) -> None:
        self.assertTrue(self.call("rlm_remember", content="é" * 32768).data["new"])
        self.assert_refused("65,537", "65,536", "rlm_chunk", tool="rlm_remember", content="é" * 32768 + "x")

    def test_a_chunk_may_have_2_megabytes_of_utf_8_and_no_more(self) -> None:
        text = "é" * (1 << 20)
        self.assertEqual(self.call("rlm_peek", chunk_id=self.chunk(text)).verbatim, text)
        self.assert_refused("2,097,153", "2,097,152", "split", content=text + "x")

    def test_a_text_without_anything_to_read_is_refused(self) -> None:
        for empty in ("", " ", "\n\t\r\n", "\u3000"):
            for tool in ("rlm_chunk", "rlm_remember"):
                with self.subTest(empty=empty, tool=tool):
                    self.assert_refused("empty", tool=tool, content=empty)

    def test_names_have_200_characters_at_most(self) -> None:
        self.chunk("fits", project="p" * 200, ticket="t" * 200, domain="d" * 200, tags="é" * 200)
        for name in ("project", "ticket", "domain", "tags"):
            with self.subTest(name=name):
                self.assert_refused("201", "200", content="too long", **{name: "é" * 201})

    def test_a_memory_has_32_tags_at_most(self) -> None:
        tags = ",".join(f"tag{n}" for n in range(32))
        self.chunk("fits", tags=tags)
        self.assertEqual(len(self.call("rlm_list_chunks").data["chunks"][0]["tags"]), 32)
        self.assert_refused("33 tags", "32", content="too many", tags=tags + ",one more")
        self.assert_refused("33 tags", "32", tool="rlm_remember", content="too many", tags=tags + ",one more")

    def test_a_summary_of_any_length_is_kept_on_one_line(self) -> None:
        self.chunk("text", summary="long\nsummary é " * 1000)
        summary = self.call("rlm_list_chunks").data["chunks"][0]["summary"]
        self.assertLessEqual(len(summary), 2000)
        self.assertTrue(summary.startswith("long summary é long"))

    def test_the_summary_is_made_from_the_first_line_that_says_something(self) -> None:
        cases = {"---\n\n# Réunion: le plan\nmore": "Réunion: le plan", "```\n> quoted 日本語": "quoted 日本語",
                 "?!\n": "?!", "1.\n***\nAn été": "An été", "word " * 100: ("word " * 100)[:119].rstrip() + "…"}
        for text, summary in cases.items():
            with self.subTest(text=text[:20]):
                self.assertEqual(rlm.auto_summary(text), summary)
                self.chunk(text)
                self.assertEqual(self.call("rlm_list_chunks", limit=1).data["chunks"][0]["summary"], summary)


class ProjectTest(TempHome):
    def setUp(self) -> None:
        super().setUp()
        del os.environ["RLM_PROJECT"]
        self.addCleanup(os.chdir, os.getcwd())

    def folder(self, *parts: str) -> str:
        """Makes a folder below the home and goes there."""
        path = os.path.join(self.home, *parts)
        os.makedirs(path, exist_ok=True)
        os.chdir(path)
        return path

    def git_file(self, folder: str, target: str) -> None:
        """Makes the folder what git makes of a worktree or submodule: a .git file that names the real one."""
        with open(os.path.join(self.folder(folder), ".git"), "w", encoding="utf-8") as file:
            file.write(f"gitdir: {target}\n")

    def name(self) -> str:
        return str(rlm.current_project(self.places).name)

    def test_rlm_project_wins_over_everything(self) -> None:
        self.folder("repo é", ".git")
        self.folder("repo é")
        for said, name in ((" my\tproject\n", "my project"), (" \n ", "repo é")):
            os.environ["RLM_PROJECT"] = said
            self.assertEqual(self.name(), name)

    def test_a_folder_has_the_name_of_the_innermost_repository_that_it_is_in_else_its_own(self) -> None:
        self.folder("repo é", ".git", "hooks")
        self.folder("outer", ".git")
        self.folder("outer", "inner", ".git")
        for folder, name in (("repo é", "repo é"), ("repo é/src/deep 日本", "repo é"), ("repo é/.git/hooks", "repo é"),
                             ("outer/inner/src", "inner"), ("notes 日本", "notes 日本")):
            self.folder(folder)
            self.assertEqual(self.name(), name, folder)

    def test_a_worktree_has_the_name_of_the_main_repository_and_a_submodule_its_own(self) -> None:
        self.folder("repo", ".git")
        for folder, target, name in (
                ("fix-branch", f"{self.home}/repo/.git/worktrees/fix", "repo"),
                ("fix-branch", "../repo/.git/worktrees/fix", "repo"),
                ("repo/inside", "../.git/worktrees/inside", "repo"),
                ("worktrees/fix", f"{self.home}/worktrees/repo/.git/worktrees/fix", "repo"),
                ("main", f"{self.home}/shop.git/worktrees/main", "shop"),  # of bare repositories
                ("main2", f"{self.home}/bare/worktrees/main2", "bare"),
                ("shop2/main", f"{self.home}/shop2/.bare/worktrees/main", "shop2"),
                ("repo/libs/parser", "../../.git/modules/libs/parser", "parser"),
                ("wt/parser", f"{self.home}/repo/.git/worktrees/wt/modules/parser", "parser"),
                ("odd", "", "odd"), ("odd", "nonsense", "odd"), ("odd", "\0\xff" * 100, "odd")):
            with self.subTest(folder=folder, target=target):
                self.git_file(folder, target)
                self.assertEqual(self.name(), name)
                self.folder(folder, "src")
                self.assertEqual(self.name(), name)

    def test_the_folder_that_claude_code_names_wins_over_the_present_one(self) -> None:
        self.folder("elsewhere")
        os.environ["CLAUDE_PROJECT_DIR"] = self.folder("repo", ".git")[: -len("/.git")]
        self.folder("elsewhere")
        self.assertEqual(self.name(), "repo")

    def test_a_folder_that_is_gone_and_the_root_are_called_default(self) -> None:
        gone = tempfile.mkdtemp(dir=self.home)
        os.chdir(gone)
        os.rmdir(gone)
        self.assertRaises(OSError, os.getcwd)  # it did land
        self.assertEqual(self.name(), "default")
        self.assertIn("_default_001", self.chunk("saved all the same é"))
        os.chdir("/")
        if not os.path.lexists("/.git"):
            self.assertEqual(self.name(), "default")

    @unittest.skipUnless(shutil.which("git"), "needs git")
    def test_it_is_the_same_with_everything_git_itself_makes(self) -> None:
        def git(*arguments: str) -> None:
            identity = ["-c", "user.name=é", "-c", "user.email=e@example.org", "-c", "protocol.file.allow=always"]
            subprocess.run(["git", *identity, *arguments], check=True, capture_output=True,
                           env={**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull})

        self.folder("shop")
        git("init", "-q")
        git("commit", "-q", "--allow-empty", "-m", "first")
        git("worktree", "add", "-q", "../shop-fix")
        git("clone", "-q", "--bare", ".", "../depot.git")
        git("submodule", "add", "-q", "../shop", "libs/parser")
        git("-C", "../depot.git", "worktree", "add", "-q", "../depot-fix", "HEAD")
        names = {"shop": "shop", "shop-fix": "shop", "depot-fix": "depot", "shop/libs/parser": "parser"}
        found = {}
        for folder in names:
            os.chdir(os.path.join(self.home, folder))
            found[folder] = self.name()
        self.assertEqual(found, names)


if __name__ == "__main__":
    unittest.main()
