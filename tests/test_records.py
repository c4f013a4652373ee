"""Records: every text survives the way to the disk and back, any line can be read or refused, events add up."""
from __future__ import annotations

import json
import os
import random
import unittest
from typing import Any
from unittest import mock

from tests.support import HARD, TempHome, rlm

# Texts that have broken line-based, JSON-based or UTF-8-based stores before.
TEXTS = {
    "hard": HARD,
    "crlf": "one\r\ntwo\r\nthree é\r\n",
    "old mac": "one\rtwo\r",
    "front matter": "---\ntitle: é\n---\n\nbody",
    "no newline at the end": "a\nb",
    "newlines at the end": "a\n\n\n",
    "spaces around": "  \t a \t  ",
    "line and paragraph separators": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei",
    "nul and controls": "a\0b\x01\x02\x1b[31m\x7f\x80\x9f",
    "lone high surrogate": "a\ud83dé",
    "lone low surrogate": "\udc80a日本",
    "surrogates the wrong way round": "\ude00\ud83d",
    "bytes that were no UTF-8": b"caf\xe9 \xff\xfe".decode("utf-8", "surrogateescape"),
    "beyond the base plane": "\U0001f600\U00010000\U0010ffff",
    "byte order mark": "\ufeffa\ufffe\uffff",
    "combining": "e\u0301 \u1e9b\u0323 ﬁ İ ı ß",
    "json": '{"v":1,"k":"chunk","id":"x","text":"\\"}\n',
    "backslashes": "C:\\new\\table\\u0041 \\ud83d \\",
    "marks of a regex": "^(a|b)*$ [x]",
}
STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2, 1 << 31, 1 << 32, 1 << 63, 1 << 64, -(1 << 70), 0.5, 1e308, float("inf"),
    float("nan"), "", " ", "x", "é", "日本", "\ud800", "a\tb\nc\0", "x" * 5000, "2026-01-02T03:04:05Z", "0001-01-01",
    "critical", [], [[]], {}, [1, 0, 0], [1, 2], [-1, 0, 0], [1 << 60, 1 << 60, 1 << 60], ["a", 1, None, "é"],
    {"files": ["a.py", 3], "x": 5, "urls": {}}, {"k": "chunk"}]
KEYS = ("v", "k", "id", "at", "project", "domain", "ticket", "session", "type", "category", "tags", "summary",
        "entities",
        "importance", "sha", "n_bytes", "text", "place", "archived_at", "n", "undo", "purged_at", "unheard-of")
KINDS = ("chunk", "insight", "purge", "use", "forget", "archive", "restore", "episode", "")


def strange_record(dice: random.Random) -> dict[str, Any]:
    """A record that is valid JSON and holds anything anywhere."""
    record: dict[str, Any] = {"v": 1, "k": dice.choice(KINDS), "id": dice.choice(("a", "b", "c", "2026-01-02_p_001"))}
    for key in dice.sample(KEYS[3:], dice.randrange(len(KEYS) - 3)):
        record[key] = dice.choice(STRANGE)
    if dice.random() < 0.7:
        record["text"] = "a text of é " + dice.choice(list(TEXTS.values()))
    if dice.random() < 0.1:
        record[dice.choice(KEYS)] = dice.choice(STRANGE)
    return record


class LineTest(unittest.TestCase):
    def assert_round_trip(self, record: dict[str, Any]) -> None:
        line = rlm.encode_record(record)
        self.assertEqual(line.count(b"\n"), 1)
        self.assertTrue(line.endswith(b"\n"))
        self.assertEqual(rlm.decode_line(line[:-1]), record)
        read = json.loads(line.decode("utf-8"))  # what jq and any other reader do
        self.assertRegex(read.pop("c"), "^[0-9a-f]{8}$")
        self.assertEqual(read, record)

    def test_every_text_comes_back_as_it_was_from_one_line_of_valid_json(self) -> None:
        for name, text in TEXTS.items():
            with self.subTest(name):
                self.assert_round_trip({"v": 1, "k": "chunk", "id": "é", "tags": [text], "entities": {"files": [text]},
                                        "text": text})

    def test_random_texts_come_back_as_they_were(self) -> None:
        seed = random.randrange(1 << 32)
        dice = random.Random(seed)
        with self.subTest(seed=seed):
            for _ in range(300):
                tops = [dice.choice((0x20, 0x80, 0x3000, 0xE000, 0x110000)) for _ in range(dice.randrange(40))]
                text = "".join(chr(dice.randrange(top)) for top in tops)
                # A high surrogate before a low one is the JSON form of one character; no str from UTF-8 holds the pair.
                text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass") \
                    if "\ud800" <= max(text, default="") else text
                self.assert_round_trip({"k": "insight", "text": text})

    def test_text_without_surrogates_is_stored_readable_not_escaped(self) -> None:
        self.assertIn("é \\\"quoted\\\"\\r\\n日本語 \U0001f600".encode(), rlm.encode_record({"k": "x", "text": HARD}))

    def test_unknown_keys_and_kinds_survive(self) -> None:
        self.assert_round_trip({"v": 7, "k": "hologram", "new": {"deep": [1, 2.5, None, True, "é"]}, "text": HARD})

    def test_every_line_that_was_cut_is_refused(self) -> None:
        line = rlm.encode_record({"v": 1, "k": "chunk", "id": "a", "n": 12, "text": HARD})[:-1]
        for n_bytes in range(len(line)):
            self.assertIsNone(rlm.decode_line(line[:n_bytes]), n_bytes)
            self.assertIsNone(rlm.decode_line(line[n_bytes + 1:]), n_bytes)

    def test_what_is_no_record_is_refused_without_an_exception(self) -> None:
        for line in (b"", b" ", b"\0" * 512, b"\xff\xfe", b"null", b"1", b'"k"', b"[]", b'["k"]', b"{}", b'{"k":1}',
                     b'{"k":null}',
                     b'{"k":"chunk"} {"k":"chunk"}', b'{"k":"chunk"', b"[" * 200_000, b'{"k":' * 200_000,
                     b'{"k":"use","n":' + b"9" * 10_000 + b"}", b'{"k":"caf\xe9"}', "{'k':'é'}".encode()):
            with self.subTest(line[:40]):
                record = rlm.decode_line(line)
                self.assertTrue(record is None or line.endswith(b"9}"), record)

    def test_random_bytes_never_raise(self) -> None:
        seed = random.randrange(1 << 32)
        dice = random.Random(seed)
        line = bytearray(rlm.encode_record({"v": 1, "k": "chunk", "id": "a", "at": "2026-01-02T03:04:05Z",
                                            "text": HARD})[:-1])
        with self.subTest(seed=seed):
            for _ in range(3000):
                broken = bytearray(line)
                for _ in range(dice.randrange(1, 4)):
                    broken[dice.randrange(len(broken))] = dice.randrange(256)
                record = rlm.decode_line(bytes(broken))
                self.assertTrue(record is None or isinstance(record["k"], str))

    def test_digests_of_different_texts_differ(self) -> None:
        self.assertEqual(len({rlm.digest(text) for text in TEXTS.values()}), len(TEXTS))
        self.assertEqual(rlm.digest(HARD), rlm.digest(str(HARD)))
        self.assertRegex(rlm.digest("\ud800"), "^[0-9a-f]{32}$")


class PlaceTest(unittest.TestCase):
    def test_a_place_comes_back_as_it_was(self) -> None:
        for parts in ([1, 0, 0], [1, 0, 47], [65535, (1 << 36) - 1, 4095], [3, 12345678901, 7]):
            place = rlm.place_of(parts)
            self.assertEqual([place >> 48, place >> 12 & (1 << 36) - 1, place & 4095], parts)

    def test_what_is_no_place_is_zero(self) -> None:
        for value in (None, 5, "1,0,0", [], [1, 0], [1, 0, 0, 0], [1, 0, "0"], [1, -1, 0], [True, 0, 0], [1.0, 0, 0],
                      [1 << 16, 0, 0], [1, 1 << 36, 0], [1, 0, 4096], {"0": 1}):
            self.assertEqual(rlm.place_of(value), 0, value)


class EventTest(unittest.TestCase):
    def test_events_add_up_to_the_state(self) -> None:
        life = rlm.Life(tier=1)
        for record, expected in (
            ({"k": "use", "at": 100}, (0, 1, 100, 0, 0, 1)),
            ({"k": "use", "at": 90, "n": 3}, (0, 4, 100, 0, 0, 1)),
            ({"k": "archive", "at": 200, "place": [1, 5, 2]}, (rlm.place_of([1, 5, 2]), 4, 100, 200, 0, 3)),
            ({"k": "forget", "at": 300}, (rlm.place_of([1, 5, 2]), 4, 100, 300, rlm.FORGOTTEN, 3)),
            ({"k": "forget", "at": 400, "undo": True}, (rlm.place_of([1, 5, 2]), 4, 100, 300, 0, 3)),
            ({"k": "restore", "at": 500}, (rlm.place_of([1, 5, 2]), 4, 100, 500, 0, 1)),
            ({"k": "restore", "at": 600}, (rlm.place_of([1, 5, 2]), 4, 100, 500, 0, 1)),
            ({"k": "archive", "at": 700}, (rlm.place_of([1, 5, 2]), 4, 100, 700, 0, 3)),
        ):
            rlm.fold_event(life, record, 1)
            self.assertEqual(tuple(getattr(life, name) for name in list(rlm.STATE)[:6]), expected, record)

    def test_a_malformed_event_changes_as_little_as_it_can(self) -> None:
        for record, expected in (
            ({"k": "use", "n": "many", "at": "never"}, (0, 1, 0, 0, 0, 1)),
            ({"k": "use", "n": -5, "at": -5}, (0, 1, 0, 0, 0, 1)),
            ({"k": "use", "n": 1 << 80, "at": 1 << 80}, (0, 0xFFFFFFFF, 0, 0, 0, 1)),
            ({"k": "archive", "at": 5}, (0, 0, 0, 5, 0, 3)),
            ({"k": "archive", "at": 5, "place": "there"}, (0, 0, 0, 5, 0, 3)),
            ({"k": "restore", "at": 5}, (0, 0, 0, 0, 0, 1)),
            ({"k": "forget", "undo": "yes"}, (0, 0, 0, 0, rlm.FORGOTTEN, 1)),
        ):
            life = rlm.Life(tier=1)
            rlm.fold_event(life, record, 1)
            self.assertEqual(tuple(getattr(life, name) for name in list(rlm.STATE)[:6]), expected, record)

    def test_every_kind_of_document_has_its_first_tier(self) -> None:
        for record, tier in (({"k": "chunk"}, "session"), ({"k": "chunk", "type": "debug"}, "task"),
                             ({"k": "insight"}, "longterm"),
                             ({"k": "chunk", "place": [1, 0, 0]}, "archived"), ({"k": "purge"}, "purged")):
            doc = rlm.doc_of({**record, "id": "a"}, 0, 0, 0)
            self.assertEqual(doc and doc.tier(), tier, record)


class FoldTest(TempHome):
    """Lines in a log, and what a reader makes of them."""

    def log(self, *records: dict[str, Any]) -> None:
        """Appends records as they are."""
        with rlm.Lock(self.places.lock()):
            rlm.Log(self.places).append(records)

    def test_every_text_comes_back_from_the_tail_the_index_and_the_archive(self) -> None:
        ids = {name: self.chunk(text) for name, text in TEXTS.items()}
        self.assertEqual(len(set(ids.values())), len(TEXTS))

        def assert_all_there(where: str) -> None:
            for name, text in TEXTS.items():
                with self.subTest(name, where=where):
                    self.assertEqual(self.call("rlm_peek", chunk_id=ids[name]).verbatim, text)

        self.assertEqual(self.view().index.n_docs, 0)
        assert_all_there("tail")
        self.assertTrue(rlm.catch_up(self.view()))
        self.assertEqual(self.view().index.n_docs, len(TEXTS))
        assert_all_there("index")
        view = self.view()
        rlm.archive_docs(view, [view.doc(view.ordinal_of(i)) for i in ids.values()], rlm.now())
        rlm.rewrite(view)
        self.assertNotIn(b"one\\rtwo", self.log_bytes())
        assert_all_there("archive")
        for doc_id in ids.values():
            self.call("rlm_restore", chunk_id=doc_id)
        assert_all_there("restored")

    def test_every_statement_comes_back_from_recall(self) -> None:
        for name, text in TEXTS.items():
            with self.subTest(name):
                self.call("rlm_remember", content=text)
                self.assertEqual(self.call("rlm_recall", limit=1).data["insights"][0]["text"], text)

    def test_a_text_stands_at_the_end_of_its_line_behind_the_small_fields(self) -> None:
        self.chunk(HARD, summary="é", tags="a,b", ticket="T-1", domain="api")
        self.call("rlm_remember", content=HARD)
        for line in self.log_bytes().splitlines():
            record = json.loads(line)
            self.assertEqual(list(record)[:3] + list(record)[-1:], ["c", "v", "k", "text"])

    def test_a_later_record_with_the_same_id_replaces_the_earlier_and_keeps_its_uses(self) -> None:
        self.log({"v": 1, "k": "chunk", "id": "a", "text": "first é"}, {"v": 1, "k": "use", "id": "a", "n": 4, "at": 7},
                 {"v": 1, "k": "chunk", "id": "a", "text": "second 日本"})
        view = self.view()
        doc = view.doc(view.ordinal_of("a"))
        self.assertEqual((view.record(doc)["text"], doc.life.uses, [d.id for d in view.alive()]),
                         ("second 日本", 4, ["a"]))

    def test_an_event_for_nothing_and_a_kind_from_the_future_change_nothing(self) -> None:
        self.chunk(HARD)
        before = self.view()
        self.log({"v": 1, "k": "use", "id": "nobody"}, {"v": 9, "k": "hologram", "id": "h", "text": HARD},
                 {"v": 1, "k": "chunk"})
        after = self.view()
        self.assertEqual((after.n_docs(), after.n_damaged, after.changed), (before.n_docs(), 0, {}))

    def test_a_log_of_strange_records_never_ends_in_a_traceback(self) -> None:
        seed = random.randrange(1 << 32)
        dice = random.Random(seed)
        with self.subTest(seed=seed), mock.patch.object(rlm, "sync", lambda fd: None):
            for n_round in range(12):
                self.log(*(strange_record(dice) for _ in range(30)))
                self.use_everything(n_round)
            self.assertGreater(len(list(self.view().alive())), 12)

    def use_everything(self, n_round: int) -> None:
        """Every reader and every writer over whatever the store holds."""
        calls: list[tuple[str, dict[str, Any]]] = [
            ("rlm_status", {}), ("rlm_list_chunks", {}), ("rlm_sessions", {}), ("rlm_domains", {}), ("rlm_recall", {}),
            ("rlm_recall", {"query": "text"}), ("rlm_search", {"query": "a text of é"}),
            ("rlm_grep", {"pattern": "te.t"}),
            ("rlm_search", {"query": "text", "entity": "a.py", "project": "é", "date_from": "2000-01-01"}),
            ("rlm_grep", {"pattern": "txet", "fuzzy": True}), ("rlm_retention_preview", {}),
            ("rlm_chunk", {"content": f"{n_round} é"}),
            ("rlm_remember", {"content": f"{n_round} é"}), ("rlm_retention_run", {"purge": True})]
        calls += [(name, {key: doc_id}) for doc_id in ("a", "b", "c", "2026-01-02_p_001")
                  for name, key in (("rlm_peek", "chunk_id"), ("rlm_restore", "chunk_id"),
                                    ("rlm_forget", "insight_id"))]
        for name, arguments in calls:
            try:
                self.call(name, **arguments)
            except rlm.RlmError:
                pass  # said in words
        view = self.view()
        if n_round % 3 == 0:
            self.assertTrue(rlm.catch_up(view))
        rlm.verify(view, lambda *_: None)
        with open(os.devnull, "wb") as sink:
            sink.writelines(rlm.exported_lines(view, ""))
        if n_round % 3 == 1:
            try:
                rlm.rewrite(view)
            except rlm.Damaged:  # a record says that an archive has its text, and none has: said in words, and mended
                rlm.rewrite(view, repair=True)


if __name__ == "__main__":
    unittest.main()
