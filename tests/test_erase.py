"""What is erased is gone from the disk, wherever it stood, and nothing that is read later brings it back."""
from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import time
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from tests.support import PROGRAM, bytecode, ended, everything, forked, rlm
from tests.test_scrub import SESSION, StoreCase

WORD = "quokkaburn"  # stands in all that is to be erased, and nowhere else
OTHER = SESSION.replace("3c", "4d")


def line(number: int, text: str, session: str = SESSION, said_by: str = "user", **more: Any) -> bytes:
    """A line of a transcript."""
    message: Any = {"role": said_by, "content": text if said_by == "user" else [{"type": "text", "text": text}]}
    row = {"type": said_by, "uuid": f"{session[:8]}-uuid-{number:04d}", "sessionId": session, "cwd": "/home/dev/shop",
           "timestamp": f"2026-11-21T07:{number:02d}:49.789Z", "message": message, **more}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def noise(text: str, **fields: Any) -> bytes:
    """A line of the client's own that quotes the conversation."""
    return json.dumps({"sessionId": SESSION, **fields, "content": text}).encode() + b"\n"


def call_of(number: int, name: str, session: str = SESSION, **given: Any) -> bytes:
    """A line in which Claude calls a tool."""
    block = {"type": "tool_use", "id": f"toolu_{session[:4]}{number}", "name": name, "input": given}
    return line(number, "", session, "assistant", message={"role": "assistant", "content": [block]})


PADDING = [f"padding {i} é 日本 " * 200 for i in range(4)]  # so that each turn is a chunk
TURNS = [
    json.dumps({"type": "summary", "summary": f"the {WORD} plan", "leafUuid": "x"}).encode() + b"\n",
    line(1, f"first question é {PADDING[0]}"), line(2, "first answer", said_by="assistant"),
    noise(f"the {WORD} plan", type="queue-operation", operation="enqueue"),
    line(3, f"what of the {WORD} plan \"quoted\" é?\n{PADDING[1]}"),
    line(4, "", said_by="assistant", message={"role": "assistant", "content": [
        {"type": "thinking", "thinking": f"they ask about {WORD}"}]}),
    call_of(5, "Bash", command=f"grep {WORD} notes"),
    line(6, "", message={"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": f"toolu_{SESSION[:4]}5", "content": f"{WORD}: found\n" * 40}]}),
    line(7, f"the {WORD} plan is in notes", said_by="assistant"),
    line(8, f"last question é {PADDING[2]}"), line(9, "last answer", said_by="assistant"),
    noise(f"the {WORD} plan", type="last-prompt"),
]
SUMMARY = line(20, f"This session is being continued. Summary:\n1. They spoke of the {WORD} plan.", isCompactSummary=True)


class EraseCase(StoreCase):
    def setUp(self) -> None:
        super().setUp()
        os.environ.pop("RLM_PROJECT")
        self.other_path = self.transcript(line(1, f"another session é {PADDING[3]}", OTHER), session=OTHER)
        self.path = self.transcript(*TURNS)
        self.ok("import")

    def ok(self, *arguments: str, **options: Any) -> str:
        """Runs a command that must succeed; what it prints."""
        done = self.cli(*arguments, **options)
        self.assertEqual((done.returncode, done.stderr), (0, b""), arguments)
        return done.stdout.decode()

    def run_here(self, *arguments: str) -> int:
        """Runs a command in this process; the exit code."""
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as said:
            code = rlm.main(list(arguments))
        self.printed, self.said = out.buffer.getvalue().decode(), said.getvalue()  # type: ignore[attr-defined]
        return code

    def ids(self, word: str = WORD) -> list[str]:
        """The ids of the memories that hold the word, as grep and search find them."""
        code = self.run_here("grep", "--json", "--limit", "50", word)
        found = [hit["id"] for hit in json.loads(self.printed)["hits"]]
        self.assertEqual(code, 0 if found else 1)
        return found

    def hook(self, name: str, **payload: Any) -> None:
        """Runs a hook as the client does."""
        payload = {"hook_event_name": name, "session_id": SESSION, "transcript_path": self.path, "cwd": "/home/dev/shop",
                   **payload}
        code = f"import rlm; rlm.run_hook({name!r})"
        done = subprocess.run([PROGRAM[0], "-S", "-c", code], input=json.dumps(payload).encode(), cwd=self.home,
                              capture_output=True, env={**os.environ, **bytecode()}, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b""))

    def assert_gone(self, word: str = WORD) -> None:
        """No command finds it, no byte of it is in the store, and nothing is damaged."""
        self.assertFalse(word.encode() in self.bytes_at_home())
        self.assertEqual(self.ids(word), [])
        self.run_here("search", "--json", word)
        self.assertNotIn(word, json.dumps(json.loads(self.printed)["hits"]))
        self.assertEqual(self.run_here("verify"), 0, self.printed)

    def assert_others_stay(self) -> None:
        """What was not erased is all there."""
        for text in ("first question", "last question", "another session"):
            self.assertEqual(len(self.ids(text)), 1, text)

    def forget_readings(self) -> None:
        """Makes every transcript one that was never read, as when the folder was lost."""
        for stem in rlm.stems(self.places.transcripts(), ".json"):
            os.unlink(self.places.reading(stem))

    def touch(self, path: str) -> None:
        """Makes a transcript one that was written to, but not just now."""
        os.utime(path, (time.time() - 5000,) * 2)


class EverywhereTest(EraseCase):
    def test_an_erased_turn_is_nowhere_and_the_rest_of_the_conversation_stays(self) -> None:
        (doc_id,) = self.ids()
        self.assertTrue(WORD.encode() in self.bytes_at_home())
        text = self.ok("forget", "--erase", "--yes", doc_id)
        self.assertIn(f"{doc_id} · 2026-11-21", text)
        self.assertIn(self.path, text)  # the client's own file, which holds it still
        self.assertIn(WORD.encode(), rlm.read_file(self.path))
        self.assert_gone()
        self.assert_others_stay()
        copy = b"".join(b"".join(lines) for lines in rlm.kept_slices(self.places, SESSION))
        self.assertIn(b"first answer", copy)
        self.assertIn(b"last answer", copy)
        peeked = self.cli("peek", doc_id)
        self.assertEqual(peeked.returncode, 1)
        self.assertIn(f"{doc_id} was erased", peeked.stderr.decode())

    def test_what_could_not_be_cleaned_is_not_called_erased(self) -> None:
        (doc_id,) = self.ids()
        with mock.patch.dict(rlm.ERASED_FROM, log=mock.Mock(side_effect=rlm.StoreUnwritable("the disk is full"))):
            for _ in range(2):
                self.assertEqual(self.run_here("forget", "--erase", "--yes", doc_id), 1)
                self.assertIn("Not yet erased for good", self.printed)
        self.assertIn("Erased already.", self.ok("forget", "--erase", "--yes", doc_id))
        self.assertEqual(self.run_here("compact", "--json"), 0)
        self.assertEqual(json.loads(self.printed)["n_kept"], self.view().alive_mask().count(255))

    def test_the_record_of_it_says_where_it_was_and_holds_no_word_and_no_digest(self) -> None:
        (doc_id,) = self.ids()
        sha = self.view().record(rlm.find_id(self.view(), doc_id))["sha"]
        self.ok("forget", "--erase", "--yes", doc_id)
        (record,) = [r for r in map(json.loads, self.log_bytes().splitlines()) if r["k"] == "erase"]
        self.assertLessEqual(set(record), {"v", "c", "k", "id", "at", "session", "place"})
        self.assertEqual((record["id"], record["session"]), (doc_id, SESSION))
        self.assertEqual(set(record["place"]), {"lines"})
        self.assertNotIn(sha.encode(), self.bytes_at_home())

    def test_nothing_brings_it_back(self) -> None:
        (doc_id,) = self.ids()
        backup, moved = os.path.join(self.home, "backup é.jsonl"), os.path.join(self.home, "moved é")
        self.ok("export", backup)
        renamed = os.path.join(self.home, "renamed é.jsonl")  # from another machine, which gave it another id
        with open(backup, encoding="utf-8") as file, open(renamed, "w", encoding="utf-8") as other:
            other.writelines(each.replace(doc_id, "2026-11-21_shop_099") for each in file)
        old_log = self.log_bytes()
        self.ok("forget", "--erase", "--yes", doc_id)
        os.mkdir(moved)
        copied = shutil.copy(self.path, os.path.join(moved, SESSION + ".jsonl"))

        def spool() -> None:
            rlm.ensure_folder(self.places.spool())
            os.link(self.path, self.places.spooled(SESSION, 0))
            self.hook("SessionStart", source="startup")
            self.assertEqual(rlm.spooled_files(self.places), [])

        def append_old_log() -> None:
            with open(self.places.log(self.places.numbered("log")[-1]), "ab") as file:
                file.write(old_log)
            self.assertEqual(self.ids(), [])
            self.assertEqual(self.run_here("verify"), 1)
            self.assertIn("holds what was erased", self.printed)
            self.assertIn("Erased already.", self.ok("forget", "--erase", "--yes", doc_id))

        def resume() -> None:  # an older client copies the lines into the new session's file
            copied = os.path.join(os.path.dirname(self.path), OTHER.replace("4d", "5e") + ".jsonl")
            with open(copied, "wb") as file:
                file.write(b"".join(TURNS).replace(b'"sessionId":"3c', b'"sessionId":"5e'))
            self.touch(copied)
            self.ok("import")

        ways: list[Callable[[], object]] = [
            lambda: self.ok("import"), lambda: self.ok("import", backup), lambda: self.ok("import", renamed),
            lambda: self.ok("import", moved), lambda: self.hook("PreCompact"), lambda: self.hook("SessionEnd"), spool,
            append_old_log, resume]
        for way in ways:
            self.forget_readings()
            self.touch(self.path)
            way()
            self.assert_gone()
        self.assert_others_stay()
        self.assertIn(WORD.encode(), rlm.read_file(copied))

    def test_all_lines_of_it_are_known_whatever_is_left_of_its_transcript(self) -> None:
        kept, backup = os.path.join(self.home, "kept"), os.path.join(self.home, "backup")
        shutil.copytree(self.places.home, kept)
        shutil.copy2(self.path, backup)
        (doc_id,) = self.ids()
        for ways in (("state",), ("copy",), ("original",)):  # only that is left
            shutil.rmtree(self.places.home)
            shutil.copytree(kept, self.places.home)
            for way, path in (("state", self.places.reading(SESSION)), ("copy", self.places.transcript(SESSION)),
                              ("original", self.path)):
                if way not in ways:
                    os.unlink(path)
            self.ok("forget", "--erase", "--yes", doc_id)
            shutil.copy2(backup, self.path)
            self.forget_readings()
            self.ok("import")
            with self.subTest(ways):
                self.assert_gone()

    def test_of_a_turn_in_parts_all_parts_go(self) -> None:
        session = SESSION.replace("3c", "6f")
        self.transcript(line(1, f"tell me {WORD}parts", session),
                        line(2, "\n".join(f"{i} long {WORD}parts" for i in range(900)), session, "assistant"),
                        line(3, f"and then? {PADDING[0]}", session), session=session)
        self.ok("import")
        ids = self.ids(f"{WORD}parts")
        self.assertGreater(len(ids), 1)
        self.assertIn(ids[0], self.ok("forget", "--erase", "--dry-run", ",".join(ids)))
        self.ok("forget", "--erase", "--yes", ids[1])
        self.assert_gone(f"{WORD}parts")
        self.assertEqual(len(self.ids("and then")), 1)

    def test_what_lies_behind_the_end_of_a_copy_goes(self) -> None:
        (doc_id,) = self.ids()
        with open(self.places.transcript(SESSION), "ab") as file:  # left by a writer that was killed
            file.write(rlm.gzip_member([TURNS[4]]))
        self.ok("forget", "--erase", "--yes", doc_id)
        self.assert_gone()

    def test_a_repair_does_not_save_it_from_a_damaged_line(self) -> None:
        (doc_id,) = self.ids()
        (old,) = [each for each in self.log_bytes().splitlines() if f'"id":"{doc_id}"'.encode() in each]
        self.ok("forget", "--erase", "--yes", doc_id)
        with open(self.places.log(self.places.numbered("log")[-1]), "ab") as file:
            file.write(b'{"v":1,"k":"us' + old + b"\n")
        self.cli("verify", "--repair")
        self.assertNotIn(WORD.encode(), self.log_bytes())
        self.ok("forget", "--erase", "--yes", doc_id)  # it was set aside
        self.assert_gone()

    def test_its_id_is_never_given_out_again(self) -> None:
        (doc_id,) = self.ids()
        self.ok("forget", "--erase", "--yes", doc_id)
        item = {"id": doc_id, "text": "another text é", "project": "shop", "created_at": "2026-11-21T07:03:49Z"}
        self.ok("import", "-", stdin=json.dumps(item).encode())
        del item["id"]
        self.ok("import", "-", stdin=json.dumps({**item, "text": "a third text é"}).encode())
        self.assertEqual(self.ids("another text"), [])
        self.assertEqual(len(self.ids("a third text")), 1)
        self.assertNotIn(doc_id, everything(self.places).keys() & set(self.ids("text")))

    def test_who_stores_the_same_text_again_by_hand_may(self) -> None:
        text = f"a note of {WORD} é".encode()
        self.ok("chunk", "-", stdin=text)
        (doc_id,) = self.ids(f"note of {WORD}")
        self.ok("forget", "--erase", "--yes", doc_id)
        self.ok("chunk", "-", stdin=text)
        self.assertNotIn(doc_id, self.ids(f"note of {WORD}"))
        self.assertEqual(len(self.ids(f"note of {WORD}")), 1)

    def test_when_no_memory_of_a_conversation_is_left_its_copy_goes_whole(self) -> None:
        session = SESSION.replace("3c", "6f")
        self.transcript(line(1, f"/deploy {WORD}alone", session), line(2, f"so {WORD}alone it is é", session),
                        line(3, "it is", session, "assistant"), session=session)
        self.ok("import")
        self.assertIn(f"{WORD}alone".encode(), self.bytes_at_home())
        self.ok("forget", "--erase", "--yes", "--query", f"so {WORD}alone")
        self.assertFalse(os.path.exists(self.places.transcript(session)))
        with open(os.path.join(os.path.dirname(self.path), session + ".jsonl"), "ab") as file:
            file.write(line(9, f"what was not saved yet {PADDING[0]}", session))
        self.touch(file.name)
        self.forget_readings()
        self.ok("import")
        self.assert_gone(f"{WORD}alone")
        self.assertEqual(len(self.ids("not saved yet")), 1)

    def test_other_forms_of_an_erased_session_stay_out(self) -> None:
        part = {"text": f"a part of the {WORD} plan", "session": OTHER, "created_at": "2026-11-21T07:01:00Z",
                "uuids": ["cut", "otherwise"], "id": "2026-11-21_shop_077"}
        summary = {"text": f"a summary of {WORD}", "session": SESSION, "type": "snapshot", "id": "2026-11-21_shop_078"}
        self.ok("forget", "--erase", "--yes", *self.ids())
        self.ok("forget", "--erase", "--yes", "--session", OTHER)
        items = "".join(json.dumps(item) + "\n" for item in (part, summary))
        self.assertIn("2 left out", self.ok("import", "-", stdin=items.encode()))
        self.assert_gone()

    def test_what_a_killed_hook_left_half_copied_goes(self) -> None:
        rlm.ensure_folder(self.places.spool())
        draft = f"{self.places.spooled(OTHER, 0)}.1234-abcdef.tmp"
        for seconds, is_left in ((0, True), (120, False)):
            with open(draft, "wb") as file:
                file.write(b"half a transcript")
            with mock.patch.object(rlm, "now", mock.Mock(return_value=rlm.now() + seconds)):
                self.assertEqual(self.run_here("forget", "--erase", "--yes", "--query", "nothing at all"), 1)
            self.assertEqual(os.path.exists(draft), is_left)

    def test_summaries_made_of_it_go_too_and_later_ones_are_not_kept(self) -> None:
        self.hook("PostCompact", compact_summary=f"<summary>They spoke of the {WORD} plan é.</summary>")
        with open(self.path, "ab") as file:
            file.write(SUMMARY)
        self.assertEqual(len(self.ids()), 2)
        self.ok("forget", "--erase", "--yes", "2026-11-21_shop_002")
        self.assert_gone()
        self.touch(self.path)
        self.ok("import")
        self.hook("PostCompact", compact_summary=f"<summary>Again the {WORD} plan é.</summary>")
        self.hook("SessionEnd")
        self.assert_gone()
        self.assert_others_stay()

    def test_it_goes_from_archives_from_what_is_forgotten_and_from_our_other_files(self) -> None:
        (doc_id,) = self.ids()
        for text in (f"archived {WORD}", f"forgotten {WORD}"):
            self.ok("chunk", "-", stdin=text.encode())
        archived, forgotten = self.ids(f"archived {WORD}")[0], self.ids(f"forgotten {WORD}")[0]
        self.ok("forget", forgotten)
        view = self.view()
        rlm.archive_docs(view, [rlm.find_id(view, i) for i in (doc_id, archived)], rlm.now())
        self.ok("compact")
        turn = self.view().record(rlm.find_id(self.view(), doc_id))["text"].split("\n")[1]
        for path in (self.places.hooks_log(), self.places.damaged(rlm.now())):
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"2026-11-21 an error\n2026-11-21 about {turn}\n")
        for shown in ("other", doc_id):
            rlm.note_injected(self.places, session="s", project="shop", ids=[shown], n_bytes=9, score=1.0, reason="é")
        with open(self.places.log(self.places.numbered("log")[-1]), "ab") as log:  # a line that lost its end
            log.write(rlm.encode_record(view.record(rlm.find_id(view, doc_id)))[:-40] + b"\n")
        done = self.cli("forget", "--erase", "--yes", doc_id, archived, forgotten)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assert_gone()
        self.assertIn(b"an error", rlm.read_file(self.places.hooks_log()))
        self.assertEqual([record["ids"] for record in rlm.injected(self.places)], [["other"]])
        self.assertEqual(len(json.loads(self.cli("forget", "--undo", forgotten, "--json").stdout or b"{}")), 0)

    def test_what_is_erased_is_not_brought_back_and_a_question_for_it_erases_nothing(self) -> None:
        doc_id = self.ids()[0]
        done = self.cli("forget", "--erase", "--undo", "--yes", doc_id)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"never comes back", done.stderr)
        self.assertIn(doc_id, self.ids())

    def test_what_a_tool_was_told_goes_from_the_copy_of_the_conversation_too(self) -> None:
        fact, text = f"We call it {WORD} now, never é", f"the notes of {WORD} é\nin two lines"
        self.ok("forget", "--erase", "--yes", *self.ids())
        third = OTHER.replace("4d", "5e")
        self.transcript(line(1, "please note", third), call_of(2, "mcp__rlm__rlm_remember", third, content=fact),
                        call_of(3, "mcp__rlm__rlm_chunk", third, content=text),
                        line(4, "done", third, "assistant"), session=third)
        self.ok("import")
        self.ok("remember", fact)
        self.ok("chunk", "-", stdin=text.encode())
        insight = json.loads(self.ok("recall", "--json", WORD))["insights"][0]["id"]
        chunk = self.ids(f"notes of {WORD}")[0]
        said = json.loads(self.ok("forget", "--erase", "--dry-run", "--json", insight, chunk))
        self.ok("forget", "--erase", "--yes", insight, chunk)
        copy = b"".join(b"".join(lines) for lines in rlm.kept_slices(self.places, third))
        self.assertNotIn(WORD.encode(), copy)
        self.assertIn(b"done", copy)
        rest = self.ids()  # the conversation has a line for each call; that is told, and is another memory
        self.assertLessEqual(set(rest), set(said["quoted_in"]))
        self.ok("forget", "--erase", "--yes", *rest)
        self.assert_gone()

    def test_an_imported_file_stays_out_and_the_others_of_its_folder_come(self) -> None:
        folder = os.path.join(self.home, "notes é")
        os.mkdir(folder)
        for name, text in (("a.md", f"about {WORD} é"), ("b.md", "about bread é")):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        with open(os.path.join(folder, "lines.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": f"{text} of a line"}) + "\n" for text in (WORD, "bicycle"))
        lines = os.path.join(folder, "lines.jsonl")
        self.ok("import", lines)
        os.rename(lines, lines + ".kept")
        self.ok("import", folder)
        self.ok("forget", "--erase", "--yes", "--query", f"about {WORD}")
        self.ok("forget", "--erase", "--yes", "--query", f'"{WORD} of a line"')
        self.assertEqual(len(self.ids()), 1)  # the conversation
        os.unlink(lines + ".kept")
        self.assertIn("1 left out", self.ok("import", folder))
        with open(lines, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": f"{text} of a line"}) + "\n" for text in (WORD, "bicycle", "new"))
        self.assertIn("Imported 1, known already 1", self.ok("import", lines))
        self.assertEqual((len(self.ids()), len(self.ids("bread")), len(self.ids("new of a line"))), (1, 1, 1))


class WhatIsNamedTest(EraseCase):
    def test_a_session_goes_whole_with_its_copy_and_goes_on_later(self) -> None:
        self.assertIn("all else of session", self.ok("forget", "--erase", "--yes", "--session", SESSION[:8]))
        for word in (WORD, "first question", "last answer"):
            self.assert_gone(word)
        self.assertFalse(os.path.exists(self.places.transcript(SESSION)))
        self.forget_readings()
        later = time.strftime("%Y-%m-%dT%H:%M:%S.999Z", time.gmtime(time.time() + 3600))
        with open(self.path, "ab") as file:
            file.write(line(30, "what we spoke of later é", timestamp=later))
        self.touch(self.path)
        self.ok("import")
        self.assert_gone("first question")
        self.assertEqual(len(self.ids("spoke of later")), 1)
        self.assertEqual(len(self.ids("another session")), 1)

    def test_a_session_that_waits_in_the_spool_goes_unread(self) -> None:
        session = SESSION.replace("3c", "6f")
        path = self.transcript(line(1, f"unread {WORD}fresh é", session), session=session)
        rlm.put_aside(self.places, path)
        self.ok("forget", "--erase", "--yes", "--session", session)
        self.assertEqual(rlm.spooled_files(self.places), [])
        self.assertFalse(f"{WORD}fresh".encode() in self.bytes_at_home())
        self.ok("import")
        self.assertFalse(f"{WORD}fresh".encode() in self.bytes_at_home())

    def test_a_project_goes_with_what_was_forgotten_of_it(self) -> None:
        self.ok("chunk", "-", "--project", "kitchen", stdin="bread of another project é".encode())
        self.ok("forget", *self.ids())
        self.ok("forget", "--erase", "--yes", "--project", "SHOP")
        for word in (WORD, "first question", "another session"):
            self.assert_gone(word)
        self.assertEqual(len(self.ids("bread")), 1)

    def test_words_and_passages_name_only_what_holds_all_of_them(self) -> None:
        for text in ("bread with butter é", "Butter on Bread É", "bread alone"):
            self.ok("chunk", "-", stdin=text.encode())
        for query, n in (("BUTTER bread", 2), ('"butter on bread"', 1), ("butter jam", 0), ('"with butter" É', 1)):
            done = self.cli("forget", "--erase", "--dry-run", "--json", "--query", query)
            data = json.loads(done.stdout)
            self.assertEqual((len(data["erased"]), data["done"], done.returncode), (n, False, not n), query)
        self.assertEqual(self.cli("forget", "--erase", "--yes", "--query", '" " ""').returncode, 2)
        self.assertEqual(len(self.ids("bread")), 3)

    def test_words_go_from_contexts_repls_runs_and_answers_also_where_no_memory_has_them(self) -> None:
        self.ok("load", "-", "--name", "notes", stdin=b"Marmalade on toast\nmarmalade alone\ntoast alone\n")
        self.ok("load", "-", "--name", "marmalade-toast", stdin=b"x\n")
        row = {"code": 'print("toast\nmarmalade")', "contexts": [], "answers": {}}
        kept = {self.places.repl("r"): row, self.places.answer("a"): {"text": "Toast, marmalade"},
                os.path.join(self.places.runs(), "r-1.jsonl"): {"question": "marmalade or toast?"}}
        for path in kept:
            rlm.ensure_folder(os.path.dirname(path))
            rlm.replace_file(path, b"".join(map(rlm.kept_line, (kept[path],))))
        counts = {"context": 1, "context line": 1, "REPL cell": 1, "run": 1, "answer": 1}
        for options in (["--dry-run"], ["--yes"]):
            data = json.loads(self.ok("forget", "--erase", "--json", *options, "--query", "toast marmalade"))
            self.assertEqual((data["derived"], data["erased"]), (counts, []))
        self.assertEqual(self.cli("peek", "notes").stdout.decode(), "marmalade alone\ntoast alone\n")
        self.assertEqual(self.cli("forget", "--erase", "--yes", "--query", "toast marmalade").returncode, 1)
        self.assertEqual(self.cli("forget", "--erase", "--yes", "--query", "text question code").returncode, 1)

    def test_nothing_is_erased_unless_that_is_said(self) -> None:
        (doc_id,) = self.ids()
        before = self.bytes_at_home()
        self.assertIn(doc_id, self.ok("forget", "--erase", "--dry-run", doc_id))
        for arguments in (("--erase", doc_id), ("--erase",), ("--yes", doc_id), ("--session", SESSION),
                          ("--erase", "--yes", "--session", "nobody"), ("--erase", "--session", "4", "--yes", "x" * 300)):
            done = self.cli("forget", *arguments)
            self.assertEqual(done.returncode, 2, arguments)
        self.assertIn(b"--yes", self.cli("forget", "--erase", doc_id).stderr)
        self.assertIn(doc_id.encode(), self.cli("forget", "--erase", doc_id).stderr)
        self.assertEqual(self.cli("forget", "--erase", "--yes", "2026-11-21_nothing_001").returncode, 1)
        self.assertEqual(self.bytes_at_home(), before)

    def test_a_person_at_a_terminal_is_asked(self) -> None:
        (doc_id,) = self.ids()
        for answer, code, left in ((b"n\n", 1, [doc_id]), (b"y\n", 0, [])):
            ours, theirs = pty.openpty()
            with subprocess.Popen([*PROGRAM, "forget", "--erase", doc_id], stdin=theirs, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, cwd=self.home, env={**os.environ, **bytecode()}) as process:
                os.write(ours, answer)
                _, said = process.communicate(timeout=60)
            os.close(ours)
            os.close(theirs)
            self.assertIn(b"[y/N]", said)
            self.assertEqual((process.returncode, self.ids()), (code, left))
        self.assert_gone()

    def test_it_is_a_command_with_an_example_and_no_tool(self) -> None:
        self.assertIn("forget --erase", self.ok("forget", "--help"))
        client = self.client()
        client.initialize()
        self.assertNotIn("erase", json.dumps(client.request("tools/list")["result"]))

    def test_excluding_a_project_offers_it_for_what_is_stored(self) -> None:
        for entry in ("shop", "sh*", "/home/dev/shop"):
            done = self.cli("config", "exclude", entry)
            self.assertIn(b"4 memories of shop stored already; `rlm forget --erase --project shop`", done.stderr, entry)
        self.assertEqual(self.cli("config", "exclude", "elsewhere").stderr, b"")
        self.assertEqual(self.cli("config", "exclude").stderr, b"")

    def test_other_memories_that_quote_it_are_named(self) -> None:
        (doc_id,) = self.ids()
        said = f"the {WORD} plan is in notes"
        self.ok("chunk", "-", stdin=f"they said: {said}!".encode())
        (quoting,) = [i for i in self.ids() if i != doc_id]
        data = json.loads(self.ok("forget", "--erase", "--dry-run", "--json", doc_id))
        self.assertEqual((data["erased"], data["quoted_in"]), ([doc_id], [quoting]))
        self.assertIn(self.path, data["client_files"])
        self.assertNotIn(self.other_path, data["client_files"])


class FaultTest(EraseCase):
    def killed_at(self, n: int, *arguments: str) -> bool:
        """Runs a command in a process that is killed before its n-th change of the disk; whether it came so far."""
        def run() -> None:
            left = n

            def counted(change: Callable[..., Any]) -> Callable[..., Any]:
                def changing(*args: Any, **options: Any) -> Any:
                    nonlocal left
                    left -= 1
                    if left < 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return change(*args, **options)
                return changing

            names = ("write_all", "remove_file")
            with mock.patch.multiple(rlm, **{name: counted(getattr(rlm, name)) for name in names}), \
                    mock.patch.object(os, "replace", counted(os.replace)):
                assert self.run_here(*arguments) == 0
        return ended(forked(run)) == -signal.SIGKILL

    def test_killed_at_any_instant_it_is_done_or_not_and_finished_by_the_next_run(self) -> None:
        (doc_id,) = self.ids()
        self.ok("chunk", "-", stdin=f"archived {WORD}".encode())
        view = self.view()
        archived = self.ids(f"archived {WORD}")[0]
        rlm.archive_docs(view, [rlm.find_id(view, archived)], rlm.now())
        self.ok("compact")
        kept = os.path.join(self.home, "kept")
        shutil.copytree(self.places.home, kept, copy_function=shutil.copy2)
        n, n_erased = 0, 0
        while True:
            was_killed = self.killed_at(n, "forget", "--erase", "--yes", doc_id, archived)
            found = [doc_id in everything(self.places) and everything(self.places)[doc_id][0] == "chunk"
                     for doc_id in (doc_id, archived)]
            self.assertIn(found, ([True, True], [False, False]), n)
            n_erased += not found[0]
            if not found[0] and WORD.encode() in self.log_bytes() and not rlm.rubbish(self.view().log):
                self.assertEqual(self.run_here("verify"), 1, n)
            self.assertEqual(self.run_here("forget", "--erase", "--yes", doc_id, archived), 0, self.said)
            self.assertFalse(WORD.encode() in self.bytes_at_home(), n)
            self.assertEqual(rlm.rubbish(self.view().log), [], n)
            if not was_killed:
                break
            shutil.rmtree(self.places.home)
            shutil.copytree(kept, self.places.home, copy_function=shutil.copy2)
            n += 1
        self.assertGreater(n, 12)
        self.assertGreater(n_erased, 8)
        shutil.rmtree(kept)
        self.assert_gone()
        self.assert_others_stay()

    def test_a_file_that_cannot_be_removed_is_told_and_the_next_run_removes_it(self) -> None:
        (doc_id,) = self.ids()
        really = rlm.remove_file
        with mock.patch.object(rlm, "remove_file", lambda path: "/log-" not in path and really(path)):
            self.assertEqual(self.run_here("forget", "--erase", "--yes", doc_id), 1)
        self.assertIn("log-000001.jsonl", self.said)
        self.assertTrue(WORD.encode() in self.bytes_at_home())
        self.assertEqual(self.run_here("forget", "--erase", "--yes", doc_id), 0)
        self.assert_gone()

    def test_a_copy_that_cannot_be_read_is_told_and_the_rest_is_erased(self) -> None:
        (doc_id,) = self.ids()
        copy = self.places.transcript(OTHER)
        with open(copy, "r+b") as file:
            file.write(b"damage")
        done = self.cli("forget", "--erase", "--yes", doc_id)
        self.assertEqual(done.returncode, 1)
        self.assertIn(OTHER.encode(), done.stderr)
        os.unlink(copy)
        self.assertFalse(WORD.encode() in self.bytes_at_home())

    def test_an_archive_that_stays_because_it_is_damaged_is_told(self) -> None:
        ids = []
        for text in (f"archived {WORD} é", "archived bread é"):
            self.ok("chunk", "-", stdin=text.encode())
            ids += self.ids(text)
            view = self.view()
            rlm.archive_docs(view, [rlm.find_id(view, ids[-1])], rlm.now())
        self.ok("compact")
        path = self.places.archive(self.places.numbered("archive")[-1])
        with open(path, "r+b") as file:
            file.seek(20)
            file.write(b"damage")
        done = self.cli("forget", "--erase", "--yes", ids[0])
        self.assertEqual(done.returncode, 1)
        self.assertIn(os.path.basename(path).encode(), done.stderr)

    def test_who_reads_a_transcript_meanwhile_does_not_bring_it_back(self) -> None:
        (doc_id,) = self.ids()
        store, read = rlm.Keeper.store, []

        def erase() -> None:
            view = self.view()
            rlm.erase(view, rlm.memories_to_erase(view, [doc_id], "", "", ""), "", [self.path])

        def store_later(keeper: rlm.Keeper, items: Any, *others: Any) -> Any:
            """Lets another process erase between the reading of a transcript and the storing of it."""
            read.append([item["text"] for item in items if WORD in item["text"]])
            if len(read) == 1:
                self.assertEqual(ended(forked(erase)), 0)
            return store(keeper, items, *others)

        self.forget_readings()
        self.touch(self.path)
        with mock.patch.object(rlm.Keeper, "store", store_later):
            rlm.Keeper(self.view()).save(self.path)
        self.assertEqual(([len(texts) for texts in read], self.ids()), ([1, 0], []))
        self.ok("forget", "--erase", "--yes", doc_id)
        self.assert_gone()

    def test_a_server_that_has_read_it_answers_and_writes_without_it(self) -> None:
        (doc_id,) = self.ids()
        client = self.client()
        client.initialize()
        self.assertIn(doc_id, client.text("rlm_grep", pattern=WORD))
        self.assertIn(WORD, client.text("rlm_peek", chunk_id=doc_id))
        self.ok("forget", "--erase", "--yes", doc_id)
        self.assertNotIn(doc_id, client.text("rlm_grep", pattern=WORD))
        self.assertIn("was erased", client.text("rlm_peek", chunk_id=doc_id))
        client.text("rlm_remember", content="written afterwards é")
        client.close()
        self.assert_gone()

    def test_of_lines_without_a_name_only_those_that_are_named_go(self) -> None:
        session = SESSION.replace("3c", "6f")
        turns = [line(i, f"nameless {i} {WORD if i == 2 else ''} {PADDING[i]}", session, uuid="") for i in (1, 2, 3)]
        self.transcript(*turns, session=session)
        self.ok("import")
        self.ok("forget", "--erase", "--yes", *self.ids())
        self.assertEqual((len(self.ids("nameless")), self.ids()), (2, []))
        self.transcript(*turns, line(4, f"nameless 4 {PADDING[0]}", session, uuid=""), session=session)
        self.ok("import")
        self.assertEqual(len(self.ids("nameless 4")), 1)

    def test_two_who_import_all_the_time_do_not_bring_it_back(self) -> None:
        (doc_id,) = self.ids()

        def importing(number: int) -> None:
            """Reads the transcript as new, again and again, under names of its own."""
            folder = os.path.join(self.home, f"importer {number}")
            os.mkdir(folder)
            path = shutil.copy(self.path, os.path.join(folder, SESSION + ".jsonl"))
            while True:
                with contextlib.suppress(rlm.StoreBusy):
                    keeper = rlm.Keeper(rlm.View(self.places).refresh())
                    keeper.save(path, spooled=f"{SESSION}~{number}{rlm.os.urandom(2).hex()}")

        children = [forked(lambda number=number: importing(number)) for number in (1, 2)]
        try:
            time.sleep(0.3)
            self.assertEqual(self.run_here("forget", "--erase", "--yes", doc_id), 0, self.said)
            time.sleep(0.3)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                ended(child)
        self.ok("forget", "--erase", "--yes", doc_id)
        self.assert_gone()


if __name__ == "__main__":
    unittest.main()
