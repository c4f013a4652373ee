"""Grep, fuzzy grep and search find what a reader of all the texts would find, and show where."""
from __future__ import annotations

import random
import re
import time
import unicodedata
import unittest
from collections.abc import Iterable, Sequence
from typing import Any
from unittest import mock

from tests.support import HARD, TempHome, days_ago, rlm
from tests.test_fuzzy import textbook_distance
from tests.test_patterns import LETTERS, random_pattern

NOW = 1_780_000_000.0
# Words in all the spellings that could be told apart by one floor and taken for the same by another.
PIECES = (
    "deploy Deployment DEPLOY connection ConnectionResetError parse_config_file _private __init__ x86_64 v2 2026-11-21 "
    "été Été ÉTÉ e\u0301te\u0301 cafe\u0301s cafés naïve garçon œuvre Œuvre æther Łódź Straße STRASSE straẞe Maße "
    "ſupport Support Kelvin \u212aelvin kelvin İstanbul istanbul ısı ISI Iſt σίγμας ΣΊΓΜΑΣ \u1fb3 αι "
    "日本語 日本 設定ファイル 接続エラー メモリ ﾒﾓﾘ 中文 検索:全文 日本語でPythonを書く 한국어 ไทย עברית "
    "foo.bar foo-bar foo_bar a.b.c C++ #42 $HOME 100% [x] (y) a\\b \"quoted\" 'single' tab\there ﬁne ﬀ ℌ ² ① Ａｂｃ "
    "\U0001f600 \U0001d4d0\U0001d4d1 \U00020000\U00020001 z\u0323\u0307 \u0130 \u0131 \u017f \u00df"
).split(" ")
LONG_WORDS = ("q" * 127 + "z", "Q" * 128 + "z", "needle" + "x9" * 100 + "haystack", "é" * 200 + "fin")
PATTERNS = (
    "deploy", "DEPLOY", "deploy(ment)?", r"\bdeploy\b", "connection|parse", "[Cc]onnection.*Error", r"def \w+", "été",
    "ÉTÉ", "e\u0301te\u0301", "cafés", "cafe\u0301s", "cafe", "straße", "strasse", "STRAẞE", "ss", "maße", "support",
    "ſupport", "kelvin", "\u212aelvin", "istanbul", "İstanbul", "ISI", "ısı", "i", "ist", "σίγμασ", "ς", "αι", "\u1fb3",
    "日本", "本語", "日本語", "語", "設定", "ファイル", "メモリ", "ﾒﾓﾘ", "python", "でPython", "한국", "ไทย", "עבר",
    "_", "__", "_private", "parse_", "_config_", "o_b", "foo.bar", r"foo\.bar", "foo_bar|foo-bar", "86_6", "x86",
    "11-21", "2026", "^deploy", "deploy$", "^$", "^", "$", r"^\S+$", r"error\s*$", ".", "", "[", "(", "*a", "a{2",
    "(?<=x", "\\", "[x]", r"\[x\]", "c++", "C+", r"\$HOME", "100%", '"quoted"', "'", r"a\\b", r"\t", r"\r", r"\n",
    "z\u0323", "\u0307", "qqqq", "q{127}z", "needle", "haystack", "x9x9", "ééé", "fin", r"\d{4}-\d\d",
    r"[^\x00-\x7f]{3}", "ﬁ", "fi", "ff", "²", "①", "Ａ", "abc", "ℌ",
    "\U0001f600", r"(?<!\s)deploy", r"\A\w+\Z", r"deploy(?!\s)", r"(?-m:^été)", r"\bfoo.bar$",
    "\U0001d4d0", "\U00020001",
    "(?i)DEPLOY", "(?s)a.b", "(?x) foo", "(?:foo|été).bar", "a|", "(été)?x", "(é|e\u0301)t", "[éè]t", "[ſs]upp",
    "k(?=elvin)", "(?!x)deploy", r"(\w)\1", "\ud800", "\0", "x" * 200, "日" * 100,
)


class FindCase(TempHome):
    """A store whose texts are known: `texts` by id."""

    def setUp(self) -> None:
        super().setUp()
        lending = mock.patch.object(rlm, "LEND_TOKENS", -1)  # else chunks without any word of the query may be answers
        lending.start()
        self.addCleanup(lending.stop)
        self.texts: dict[str, str] = {}
        self.at_s: dict[str, float] = {}

    def add(self, texts: Iterable[str], *, at_s: Sequence[float] = (), **fields: Any) -> list[str]:
        """Stores the texts as chunks; their ids."""
        ids = []
        with rlm.Writer(self.view(), durable=False) as writer:
            for n, text in enumerate(texts):
                facts = {"summary": "zusammen", "tags": [], "project": "test", "ticket": "", "domain": "",
                         "chunk_type": "session", **fields}
                new_id, is_new = rlm.save_chunk(writer, text, at_s=at_s[n] if at_s else NOW + len(self.texts), **facts)
                self.assertTrue(is_new)
                self.texts[new_id], self.at_s[new_id] = text, at_s[n] if at_s else NOW + len(self.texts)
                ids.append(new_id)
        return ids

    def index(self, max_docs: int = 1) -> None:
        """Brings the index up to date, with a segment of its own for what is new."""
        self.assertTrue(rlm.catch_up(self.view(), max_docs=max_docs))

    def grep(self, pattern: str, limit: int = 10_000, **filters: Any) -> list[rlm.Hit]:
        """The hits, with a view of its own."""
        return rlm.grep(self.view(), pattern, rlm.Scope(**filters), limit, lambda: None)[0]

    def fuzzy(self, pattern: str, threshold: int = 80, limit: int = 10_000, **filters: Any) -> list[rlm.Hit]:
        """The fuzzy hits, with a view of its own."""
        return rlm.fuzzy_grep(self.view(), pattern, rlm.Scope(**filters), limit, threshold, lambda: None)[0]

    def ids(self, hits: Iterable[rlm.Hit]) -> list[str]:
        """The ids of the hits."""
        return [hit.doc.id for hit in hits]


def lines_of(text: str) -> list[str]:
    """The text's lines, whichever way they end."""
    return re.split("\r?\n", text)


def random_text(rng: random.Random) -> str:
    """Some lines of pieces, in which words touch now and then."""
    n_words = rng.choice((1, 2, 4, 8, 20))
    joints = [rng.choice((" ", " ", "", "-", "\n", "\r\n", ", ", "_", ".", "\n\n")) for _ in range(n_words)]
    words = [rng.choice(PIECES) if rng.random() < 0.95 else rng.choice(LONG_WORDS) for _ in range(n_words)]
    return "".join(word + joint for word, joint in zip(words, joints)) or "x"


class GrepTest(FindCase):
    def fill(self, rng: random.Random, n_docs: int) -> None:
        """Random texts in several segments and the tail, some archived, some forgotten."""
        texts = list(dict.fromkeys(random_text(rng) for _ in range(n_docs)))
        texts = [t for t in texts if t.strip()]
        texts += ["".join(rng.choice(LETTERS) for _ in range(9)) + f" {n}" for n in range(n_docs // 3)]
        rng.shuffle(texts)
        size = len(texts) // 4
        for n in range(0, len(texts), size):
            self.add(texts[n : n + size], at_s=[NOW - rng.randrange(10_000) for _ in texts[n : n + size]])
            if n < 3 * size:
                self.index()
        view = self.view()
        rlm.archive_docs(view, [view.doc(o) for o in rng.sample(range(view.n_docs()), 20)], NOW)
        with rlm.Writer(self.view()) as writer:
            for i in rng.sample(sorted(self.texts), 10):
                rlm.forget(writer, i, undo=False)
                del self.texts[i]

    def assert_greps(self, view: rlm.View, pattern: str, order: Sequence[str]) -> int:
        """Compares with a search of every line, in either normal form; how many chunks match."""
        composed = unicodedata.normalize("NFC", pattern)
        try:
            regex, is_literal = re.compile(composed, re.IGNORECASE), False
        except re.error:
            regex, is_literal = re.compile(re.escape(composed), re.IGNORECASE), True
        found = {i: [n + 1 for n, line in enumerate(lines_of(self.texts[i]))
                     if regex.search(line) or regex.search(unicodedata.normalize("NFC", line))] for i in order}
        expected = [(i, numbers[: rlm.GREP_LINES_PER_CHUNK], len(numbers)) for i, numbers in found.items() if numbers]
        hits, more, note = rlm.grep(view, pattern, rlm.Scope(), 10_000, lambda: None)
        self.assertEqual((more, "plain text" in note), (False, is_literal), pattern)
        found_by_grep = [(hit.doc.id, [n for n, _ in hit.lines], hit.n_lines) for hit in hits]
        self.assertEqual(found_by_grep, expected, repr(pattern))
        return len(hits)

    def test_grep_finds_what_a_search_of_every_line_finds(self) -> None:
        seed, n_hits, n_narrowed = random.randrange(1 << 32), 0, 0
        rng = random.Random(seed)
        with self.subTest(seed=seed), mock.patch.object(rlm, "FEW_DOCS", 0):
            self.fill(rng, 160)
            view = self.view()
            self.assertGreater(len(view.index.segments), 2)
            self.assertGreater(len(view.tail), 20)
            ordinals = {doc.id: doc.ordinal for doc in view.alive()}
            order = sorted(ordinals, key=lambda i: (self.at_s[i], ordinals[i]), reverse=True)
            self.assertEqual(set(order), set(self.texts))
            words = [re.escape(word[a : a + rng.randint(2, 6)]) for word in [*PIECES, *LONG_WORDS] for a in (0, 1)]
            for pattern in [p for p in PATTERNS if p] + words + [random_pattern(rng) for _ in range(80)]:
                if not pattern:
                    continue
                with mock.patch.object(rlm, "PASSAGE_CHARS", rng.choice((1, 20, rlm.PASSAGE_CHARS))):
                    n_hits += self.assert_greps(view, pattern, order)
                read = list(rlm.candidates(view, rlm.Scope(), rlm.required_words(pattern, re.IGNORECASE)))
                n_narrowed += len(read) < len(order) // 2
            self.assertGreater(n_hits, 400)
            self.assertGreater(n_narrowed, 30)

    def test_every_letter_passes_the_vocabulary_in_any_case(self) -> None:
        lost = []
        for code in [*range(1, 0x3400), *range(0x3400, 0xA000, 61), *range(0xA000, 0xAC00), *range(0xAC00, 0xD7A4, 61),
                     *range(0xF900, 0x10000), *range(0x10400, 0x10600), *range(0x1D400, 0x1D500),
                     *range(0x1E900, 0x1E960), *range(0x1F100, 0x1F200), *range(0x20000, 0x20010)]:
            letter = chr(code)
            if letter in "\n\r":
                continue
            terms = " ".join(rlm.count_terms(f"see xa{letter}bx."))
            for other in {letter, letter.lower(), letter.upper(), letter.swapcase()}:
                if len(other) > 1 or (other != letter and not re.match(re.escape(other), letter, re.IGNORECASE)):
                    continue
                lost += [(hex(code), other) for part in rlm.fragments(f"a{other}b") if part not in terms]
        self.assertEqual(lost, [])

    def test_the_rarest_words_decide_which_chunks_are_read(self) -> None:
        self.add(f"common words é number{n} and more" for n in range(300))
        self.index()
        view = self.view()
        for pattern, n_read in (("number123", 1), ("number12", 11), (r"common .* number7\d", 11),
                                ("number1|number2", 300), ("number1.*|.*number2", 222), ("common|zzzz", 300), (r"n.m.e.\d\d\b", 300),
                                ("é NUMBER123 and", 1), ("zzzz.*common", 0)):
            with mock.patch.object(rlm.View, "record", autospec=True, side_effect=rlm.View.record) as record:
                rlm.grep(view, pattern, rlm.Scope(), 1000, lambda: None)
            self.assertEqual(record.call_count, n_read, pattern)

    def test_a_fragment_in_too_many_words_narrows_nothing_and_loses_nothing(self) -> None:
        self.add(" ".join(f"word{n}é" for n in range(10 * k, 10 * k + 10)) for k in range(20))
        self.index()
        for limit in (0, 5, 199, 200, 10_000):
            with mock.patch.object(rlm, "MAX_TERMS_PER_FRAGMENT", limit):
                self.assertEqual(len(self.grep("word")), 20)
                self.assertEqual(len(self.grep("word1\\d\\dé.*word")), 10)

    def test_the_newest_come_first_and_more_says_whether_there_are_others(self) -> None:
        old, new = self.add(["needle é old\n", "needle é new"], at_s=[NOW - 9e6, NOW])
        self.index()
        middle = self.add(["needle é written last"], at_s=[NOW - 5e6])[0]
        for limit, more in ((1, True), (2, True), (3, False), (4, False)):
            hits, has_more, _ = rlm.grep(self.view(), "needle", rlm.Scope(), limit, lambda: None)
            self.assertEqual((self.ids(hits), has_more), ([new, middle, old][:limit], more))
        answer = self.call("rlm_grep", pattern="needle", limit=2)
        self.assertTrue(answer.data["more"])
        self.assertIn("More than 2 match", answer.text)
        self.assertNotIn("More than", self.call("rlm_grep", pattern="needle", limit=3).text)

    def test_matching_lines_are_shown_with_one_line_of_context(self) -> None:
        self.chunk("\r\n".join(["zero é", "one", 'two "HIT"', "three", "four", "five hit", "six hit", "seven", "eight",
                                "nine hit", "last hit"]))
        answer = self.call("rlm_grep", pattern="hit")
        self.assertEqual(answer.text.split("\n")[1:], [
            "    2: one", '  > 3: two "HIT"', "    4: three", "    5: four", "  > 6: five hit", "  > 7: six hit",
            "    8: seven", "    +2 more lines in it"])
        hit = answer.data["hits"][0]
        self.assertEqual([line["line"] for line in hit["lines"]], [3, 6, 7])
        self.assertEqual(hit["n_matching_lines"], 5)
        for pattern, shown in (("zero", ["  > 1: zero é", "    2: one"]),
                               ("last", ["    10: nine hit", "  > 11: last hit"])):
            self.assertEqual(self.call("rlm_grep", pattern=pattern).text.split("\n")[1:], shown)

    def test_anchors_hold_at_either_kind_of_line_end(self) -> None:
        for name, end in (("unix", "\n"), ("dos", "\r\n")):
            self.add([f"first é {name}{end}middle {name}{end}{end}{name} last"])
        for pattern, numbers in (("^first", [1]), (r"(unix|dos)$", [1, 2]), ("^$", [3]), (r"^(unix|dos) last$", [4]),
                                 (r"^middle \w+$", [2]), (r"\s$", []), (r"\Aunix|\Ados", [4])):
            for hit in self.grep(pattern):
                self.assertEqual([n for n, _ in hit.lines], numbers, pattern)
            self.assertEqual(len(self.grep(pattern)), 2 if numbers else 0, pattern)

    def test_a_long_line_is_cut_around_the_match_itself(self) -> None:
        long = "needles " + "é x " * 500 + "the needle! " + "y日 " * 500
        self.add([long, "İ" * 1000 + " needle!", "z" * 5000])
        for hit in self.grep(r"\bneedle\b"):
            ((number, shown),) = hit.lines
            self.assertEqual(number, 1)
            self.assertIn("needle!", shown)
            self.assertTrue(shown.startswith("…"))
            self.assertLess(len(shown), rlm.SNIPPET_CHARS + 3)
        self.assertEqual(len(self.grep("z$")[0].lines[0][1]), rlm.SNIPPET_CHARS + 1)
        self.assertEqual(len(self.grep(r"\bneedle\b")), 2)

    def test_what_is_no_regex_is_searched_as_plain_text_and_says_so(self) -> None:
        wanted = self.chunk('call foo(bar[é] "x" *')
        self.chunk("call foobar")
        for pattern, is_regex in (("foo(bar", False), ("[é", False), ("*", False), ("foo(bar[É]", False),
                                  ('"x" *', True)):
            answer = self.call("rlm_grep", pattern=pattern)
            self.assertEqual("no valid regex" in answer.text, not is_regex, pattern)
            self.assertEqual([hit["id"] for hit in answer.data["hits"]], [wanted], pattern)

    def test_patterns_that_cannot_be_used_are_errors_that_say_so(self) -> None:
        self.chunk("x")
        for pattern, message in (("", "empty"), ("a" * 2001, "2,001")):
            with self.assertRaisesRegex(rlm.UsageError, message):
                self.call("rlm_grep", pattern=pattern)
        self.assertEqual(self.call("rlm_grep", pattern="a" * 2000).data["hits"], [])

    def test_either_normal_form_of_a_pattern_finds_either_form_of_a_text(self) -> None:
        words = ["décision", "naïve", "Ångström", "ẓ̌x"]
        for word in ("한국어", "デプロイ"):  # where the terms of both forms are the same
            parts = {form: rlm.fragments(unicodedata.normalize(form, word)) for form in ("NFC", "NFD")}
            words += [word] if parts["NFC"] == parts["NFD"] else []
        forms = [unicodedata.normalize(form, f"une {word} fut prise") for word in words for form in ("NFC", "NFD")]
        ids = self.add(forms)
        for is_indexed in (False, True):
            for n, word in enumerate(words):
                for form in ("NFC", "NFD"):
                    pattern = unicodedata.normalize(form, word)
                    found = self.grep(pattern) + self.grep(f"^une {pattern}.*(fut|est)")
                    self.assertEqual(self.ids(found), ids[2 * n : 2 * n + 2][::-1] * 2, (word, form, is_indexed))
                    self.assertEqual(self.ids(self.grep(pattern.upper())), ids[2 * n : 2 * n + 2][::-1], word)
            self.index()
        self.assertEqual([hit.lines for hit in self.grep("décision")], [[(1, forms[0])]] * 2)  # as it looks
        self.assertEqual(self.grep("decision"), [])

    def test_a_long_decomposed_line_is_cut_around_the_match(self) -> None:
        self.add(["e" * 5000 + " the de\u0301cision! " + "e\u0301" * 5000])
        self.assertIn("décision!", self.grep("décision")[0].lines[0][1])

    def test_invisible_characters_hide_nothing(self) -> None:
        ids = self.add(["the data\u200bbase was moved", "Ge\u00adsamt\u00adkon\u00adzept", "\ufeffimport os",
                        "l'e\u00ad\u0301te\u0301 ❤\ufe0f", "left\u200e-to-right"])
        for is_indexed in (False, True)[: 1 + (rlm.fragments("da\u200bta") == ["data"])]:
            for n, pattern in enumerate(("database", "gesamtkonzept", "^import os$", "été ❤", "left-to")):
                self.assertEqual(self.ids(self.grep(pattern)), [ids[n]], (pattern, is_indexed))
            self.assertEqual(self.ids(self.grep("data\u200bbase")), [ids[0]])
            self.assertEqual(self.ids(self.grep(r"data\u200bbase")), [ids[0]])  # whoever looks for it finds it
            self.index()

    def test_patterns_of_the_shell_s_grep_are_understood_or_named(self) -> None:
        wanted = self.chunk("alpha  beta; ERROR: timeout; the pool is big; aaa")
        for pattern in ("alpha[[:space:]]+beta", r"\<pool\>", "^[[:alpha:]]+[[:space:]]", "[[:upper:]]{5}:"):
            answer = self.call("rlm_grep", pattern=pattern)
            self.assertEqual(([hit["id"] for hit in answer.data["hits"]], "note" in answer.data), ([wanted], False), pattern)
        for pattern, signs in ((r"timeout\|nothing", r"\|"), (r"\(nothing\|big\)", r"\( \| \)"), (r"a\{3\}$", r"\{ \}"),
                               (r"nothing\+", r"\+"), (r"really\?", r"\?")):
            answer = self.call("rlm_grep", pattern=pattern)
            self.assertEqual(answer.data["hits"], [])
            self.assertIn(f"Python regex, in which {signs} are plain characters", answer.data["note"])
            self.assertIn(answer.data["note"], answer.text)

    def test_an_escaped_sign_is_that_character_where_a_text_has_it(self) -> None:
        ids = self.add(["cat x | grep y", "cat x", "grep y", "f(x) {2}", "a+b?"])
        for pattern, n in ((r"x \| grep", 0), (r"f\(x\)", 3), (r"\{2\}", 3), (r"a\+b\?", 4)):
            hits, _, note = rlm.grep(self.view(), pattern, rlm.Scope(), 9, lambda: None)
            self.assertEqual((self.ids(hits), note), ([ids[n]], ""), pattern)

    def test_who_has_enough_does_not_ask_the_older_parts_of_the_store(self) -> None:
        for month in (3, 1, 2):
            self.add((f"needle é {month} {n}" for n in range(70)), at_s=[NOW + 1e6 * month + n for n in range(70)])
            self.index(1)
        self.add(["needle in the tail"], at_s=[NOW + 3.00001e6])
        asked = rlm.Segment.numbers_holding
        for limit, n_asked in ((3, 1), (80, 2), (150, 3), (500, 3)):
            with mock.patch.object(rlm.Segment, "numbers_holding", autospec=True, side_effect=asked) as counted:
                hits, more, _ = rlm.grep(self.view(), "needle", rlm.Scope(), limit, lambda: None)
            self.assertEqual((len(hits), more), (min(limit, 211), limit < 211))
            self.assertLessEqual(counted.call_count, n_asked)
            times = [hit.doc.at_s for hit in hits]
            self.assertEqual(times, sorted(times, reverse=True))

    def test_archived_chunks_are_found_and_forgotten_ones_are_not(self) -> None:
        ids = self.add([f"needle {n} {HARD}" for n in range(4)])
        view = self.view()
        rlm.archive_docs(view, [view.doc(0), view.doc(1)], NOW)
        with rlm.Writer(self.view()) as writer:
            rlm.forget(writer, ids[1], undo=False)
            rlm.forget(writer, ids[2], undo=False)
        with mock.patch.object(rlm, "sync", lambda _: None):
            for n_round in range(3):
                self.assertEqual(self.ids(self.grep("needle")), [ids[3], ids[0]])
                self.assertEqual(self.ids(self.fuzzy("neddle")), [ids[3], ids[0]])
                self.assertEqual({hit["id"] for hit in self.call("rlm_search", query="needle").data["hits"]},
                                 {ids[0], ids[3]})
                self.assertIn("archived", self.call("rlm_grep", pattern="needle 0").text)
                (lambda: self.index(), lambda: rlm.rewrite(self.view()), lambda: None)[n_round]()

    def test_a_search_can_be_stopped_between_two_chunks(self) -> None:
        self.add([f"é {n}" for n in range(5)])
        checks = iter([None, None, rlm.RlmError("stop")])

        def check() -> None:
            error = next(checks)
            if error:
                raise error

        with self.assertRaises(rlm.RlmError):
            rlm.grep(self.view(), "é", rlm.Scope(), 10, check)
        self.assertEqual(list(checks), [])


class FuzzyTest(FindCase):
    TEXTS = ("the connection was reset by été", "conection lost", "une conecttion perdue", "connections", "connector",
             "timeout in the connection pool", "a pool with a timeuot", 'ConnectionResetError "x"',
             "データベース接続エラー", "déploiement terminé", "xonnection", "connectioh")

    def test_one_and_two_typos_per_word_are_found_in_every_part_of_the_store(self) -> None:
        self.add(self.TEXTS[:4])
        self.index()
        self.add(self.TEXTS[4:8])
        self.index()
        self.add(self.TEXTS[8:])
        self.assertEqual((len(self.view().index.segments), len(self.view().tail)), (2, 4))
        for _ in range(2):
            by_text = {text: i for i, text in self.texts.items()}
            for typo in ("connection", "conection", "connectoin", "xconnection", "cnnnection", "connecion",
                         "cobmection"):
                found = set(self.ids(self.fuzzy(typo)))
                for n in (0, 5, 7):
                    self.assertIn(by_text[self.TEXTS[n]], found, typo)
                self.assertNotIn(by_text[self.TEXTS[9]], found, typo)
            for typo in ("connection", "xonnectioh"):  # those in the tail, wherever their typo is
                for n in (10, 11):
                    self.assertIn(by_text[self.TEXTS[n]], self.ids(self.fuzzy(typo)), (typo, n))
            for pattern, n in (("deploiment termine", 9), ("DÉPLOIMENT", 9), ("timout conection", 5),
                               ("接続エラー", 8)):
                self.assertEqual(self.ids(self.fuzzy(pattern)), [by_text[self.TEXTS[n]]], pattern)
            self.index(1 << 20)
            self.assertEqual(len(self.view().tail), 0)

    def test_it_finds_what_a_comparison_with_every_word_finds(self) -> None:
        seed, n_hits = random.randrange(1 << 32), 0
        rng = random.Random(seed)
        words = ["connection", "conexion", "réseau", "reseaux", "timeout", "time", "memory", "mémoire", "cache",
                 "caches"]
        with self.subTest(seed=seed):
            for _ in range(4):
                self.add(list(dict.fromkeys(" ".join(rng.choices(words, k=3)) + f"\n{rng.choice(words)} {rng.random()}"
                                            for _ in range(6))))
                if rng.random() < 0.6:
                    self.index()
            for _ in range(60):
                asked = [w[: rng.randrange(1, len(w))] + rng.choice("xe") + w[rng.randrange(1, len(w)) :]
                         for w in rng.sample(words, rng.choice((1, 2)))]
                threshold = rng.choice((60, 80, 90, 100))
                expected: dict[str, float] = {}
                for i, text in self.texts.items():
                    distances = [self.distance(asked, line, threshold) for line in text.split("\n")]
                    known = [d for d in distances if d is not None]
                    if known:
                        n_letters = len("".join(dict.fromkeys(map(rlm.fold, asked))))
                        expected[i] = round(100 * (1 - min(known) / n_letters), 1)
                hits = self.fuzzy(" ".join(asked), threshold)
                self.assertEqual({hit.doc.id: hit.score for hit in hits}, expected, (asked, threshold))
                self.assertEqual([hit.score for hit in hits], sorted((hit.score for hit in hits), reverse=True))
                n_hits += len(hits)
            self.assertGreater(n_hits, 5)

    def distance(self, asked: Sequence[str], line: str, threshold: int) -> int | None:
        """Typos between the words asked for and the line's closest words; None when one of them is not near any."""
        total = 0
        for word in dict.fromkeys(map(rlm.fold, asked)):
            granted = rlm.allowed_edits(word, threshold)
            near = [textbook_distance(word, rlm.fold(other)) for other in re.findall(r"\w+", line)]
            if not near or min(near) > granted:
                return None
            total += min(near)
        return total

    def test_closer_matches_come_first_and_of_equals_the_newer(self) -> None:
        ids = self.add(["one typpo: connnectoin é", "connection", "conection\nconnection", "connection again"])
        hits = self.fuzzy("connection")
        self.assertEqual(self.ids(hits), [ids[3], ids[2], ids[1], ids[0]])
        self.assertEqual([hit.score for hit in hits], [100.0, 100.0, 100.0, 80.0])
        self.assertEqual([hit.score for hit in self.fuzzy("conection")], [100.0, 88.9, 88.9])

    def test_the_threshold_is_respected(self) -> None:
        ids = self.add(["connection", "connectio", "connecti", "connect", "été"])
        for threshold, n_found in ((100, 1), (90, 2), (80, 3), (70, 4), (0, 4)):
            self.assertEqual(self.ids(self.fuzzy("connection", threshold)), ids[:n_found], threshold)
        for threshold in (-1, 101):
            with self.assertRaisesRegex(rlm.UsageError, "0 to 100"):
                self.call("rlm_grep", pattern="x", fuzzy=True, fuzzy_threshold=threshold)

    def test_every_word_has_to_be_on_the_line(self) -> None:
        ids = self.add(["the conection pool\nis full é", "the conection\npool", "only a pool"])
        self.assertEqual(self.ids(self.fuzzy("connection pool")), ids[:1])
        self.assertEqual(self.fuzzy("connection zzzzzz"), [])
        hit = self.fuzzy("ful connection")
        self.assertEqual(hit, [])

    def test_limit_more_lines_and_filters_are_those_of_grep(self) -> None:
        self.add([f"x\nconection {n}\ny\nconnection é\nconecttion\nconnectoin" for n in range(3)])
        other = self.add(["connnection"], project="Elsewhere")[0]
        hits, more = rlm.fuzzy_grep(self.view(), "connection", rlm.Scope(), 2, 80, lambda: None)
        self.assertEqual((len(hits), more, [n for n, _ in hits[0].lines], hits[0].n_lines), (2, True, [2, 4, 6], 4))
        self.assertFalse(rlm.fuzzy_grep(self.view(), "connection", rlm.Scope(), 4, 80, lambda: None)[1])
        self.assertEqual(self.ids(self.fuzzy("connection", limit=1, project="ELSEWHERE")), [other])
        text = self.call("rlm_grep", pattern="connection", fuzzy=True, project="elsewhere").text
        self.assertIn("90% alike", text)

    def test_the_word_with_the_typo_is_shown_of_a_long_line(self) -> None:
        self.add(["é word " * 300 + "conecttion " + "more 日本 " * 300])
        self.assertIn("conecttion", self.fuzzy("connection")[0].lines[0][1])

    def test_a_pattern_without_a_word_is_an_error(self) -> None:
        self.chunk("é")
        with self.assertRaisesRegex(rlm.UsageError, "one word"):
            self.call("rlm_grep", pattern="?!", fuzzy=True)


class LinesTest(unittest.TestCase):
    def test_passages_have_every_line_once_with_its_number(self) -> None:
        rng = random.Random(7)
        for _ in range(300):
            text = "".join(rng.choice(("a", "é\r", "\n", "\r\n", "word ")) for _ in range(rng.randrange(40)))
            with mock.patch.object(rlm, "PASSAGE_CHARS", rng.randrange(30)):
                found = [pair for first, passage in rlm.passages(text)
                         for pair in enumerate(passage.split("\n"), first)]
            self.assertEqual(found, list(enumerate(text.replace("\r\n", "\n").split("\n"), 1)))

    @staticmethod
    def best(text: str, query: str, n_wanted: int = 1) -> list[str]:
        """The lines that are shown for a query."""
        needles = rlm.Needles(rlm.query_terms(query))
        near = rlm.TextLines(text, needles)
        return [line.text for line in rlm.best_lines(near.lines, near.weights, n_wanted)]

    def test_a_rare_word_at_the_end_of_a_huge_text_is_shown_before_common_ones(self) -> None:
        text = "\n".join(f"the pool {n} is full" for n in range(30_000)) + "\nthe deadlock é of a pool\ndeadlock"
        self.assertEqual(self.best(text, "pool deadlock"), ["the deadlock é of a pool"])

    def test_of_a_huge_text_few_lines_are_taken_apart_and_each_has_its_number(self) -> None:
        text = "\n".join(f"pool {n}, é" if n % 9 else "" for n in range(60_000)) + "\nthe dead-lock of\n\n\na pool ended it"
        near = rlm.TextLines(text, rlm.Needles(rlm.query_terms("deadlock pool dead lock")))
        self.assertLess(len(near.lines), 99)
        self.assertEqual([(line.number, line.text) for line in near.lines[-2:]],
                         [(60_001, "the dead-lock of"), (60_004, "a pool ended it")])

    def test_a_megabyte_without_line_ends_is_looked_at_in_few_places(self) -> None:
        for text, query in (("pool full é " * 90_000, "pool full"), ("x" * 1_000_000, "x pool"), ("プール" * 300_000, "プールはどこ")):
            for start, base, _ in rlm.Needles(rlm.query_terms(query)).starts:
                self.assertLessEqual(len(list(rlm.places_of(text, start, base))), 1000)

    def test_what_a_text_has_only_with_a_hyphen_is_found_without_and_forms_of_a_word_are_looked_for_once(self) -> None:
        self.assertEqual(self.best("one\nplease re-run é it\ntwo", "rerun"), ["please re-run é it"])
        starts = [start for start, _, _ in rlm.Needles(rlm.query_terms("what did we decide about backup deployments")).starts]
        self.assertEqual(sorted(starts), sorted(set(starts)))
        self.assertFalse([start for start in starts for other in starts if start != other and other in start])

    def test_the_line_that_answers_is_shown_rather_than_the_one_that_asks(self) -> None:
        for ask, answer in (("Which backup host did we pick?", "The backups go to host nine é."),
                            ("バックアップはどこですか？", "バックアップは九番です。")):
            text = f"something else\n{ask}\n{answer}\nanother thing\na last one"
            self.assertEqual(self.best(text, ask), [answer])

    def test_what_the_user_said_is_shown_before_the_same_of_claude_and_no_heading_or_fence_ever(self) -> None:
        text = "## Claude\n```\nthe port is 9\n```\n\n## User · 2026-11-21 07:13 UTC\nthe port is 8\n\n## Claude\nok\nyes"
        self.assertEqual(self.best(text, "port", 9), ["the port is 8", "the port is 9"])
        self.assertEqual(self.best(text, "user claude"), [])

    def test_forms_of_a_word_are_found_and_short_words_only_whole(self) -> None:
        self.assertEqual(rlm.found_by_row("an actual\nportal bought", rlm.Needles(rlm.query_terms("act port buy")).starts), {1: 0b100})
        self.assertEqual(self.best("nothing\nauthorization was denied\nmore", "auth"), ["authorization was denied"])

    def test_of_a_long_line_the_sentence_is_shown(self) -> None:
        text = "Filler stands here and says nothing at all. " * 20 + "The quota é is nine. " + "More filler comes after it. " * 9
        self.assertEqual(self.best(text, "quota"), ["The quota é is nine."])

    def test_lines_of_any_source_are_searched(self) -> None:
        lines = ((n, f"line {n} é") for n in range(1, 1_000))
        self.assertEqual(rlm.matching_lines(lines, re.compile("line .*9 "), 2), ([(9, "line 9 é"), (19, "line 19 é")], 100))


class ScopeTest(FindCase):
    def found(self, tool: str, **arguments: Any) -> set[str]:
        """The ids that a tool answers with."""
        data = self.call(tool, **arguments).data
        return {hit["id"] for hit in data.get("hits", data.get("insights"))}

    def test_a_project_of_few_weak_matches_still_fills_its_own_results(self) -> None:
        self.add(("needle " * 20 + f"é {n}" for n in range(300)), project="loud")
        weak = self.add((f"a long text about something else, with one needle {n} " + "filler " * 300 for n in range(7)),
                        project="Quiet É")
        self.index()
        weak += self.add(["the last needle " + "filler " * 300], project="quiet e")
        for project in ("Quiet É", "quiet e", "QUIET E\u0301"):
            self.assertEqual(self.found("rlm_search", query="needle", project=project, limit=8), set(weak))
            self.assertEqual(self.found("rlm_grep", pattern="needle", project=project, limit=8), set(weak))
            self.assertEqual(self.found("rlm_grep", pattern="needel", fuzzy=True, project=project, limit=8), set(weak))
        self.assertEqual(self.found("rlm_search", query="needle", project="quiet"), set())

    def test_both_ends_of_a_date_filter_are_included(self) -> None:
        day = [time.mktime((2026, 3, n, 0, 0, 0, 0, 0, -1)) for n in (9, 10, 11, 12)]
        ids = self.add([f"needle {n} é" for n in range(6)],
                       at_s=[day[1] - 0.5, day[1], day[1] + 3600.25, day[2] - 0.001, day[2], day[3]])
        for is_indexed in (False, True):
            for date_from, date_to, first, end in (
                    ("2026-03-10", "2026-03-10", 1, 4), ("2026-03-10", "", 1, 6), ("", "2026-03-09", 0, 1),
                    ("2026-03-11", "2026-03-12", 4, 6), (" 2026-03-10 ", "2026-03-10T01:00:00.250", 1, 3),
                    ("2026-03-10T00:00", "2026-03-10T01:00", 1, 2), (rlm.stamp(day[2]), rlm.stamp(day[2]), 4, 5),
                    ("", "", 0, 6), ("2027-01-01", "", 6, 6)):
                dates = {"date_from": date_from, "date_to": date_to}
                for tool, what in (("rlm_grep", {"pattern": "needle"}), ("rlm_search", {"query": "needle"})):
                    self.assertEqual(self.found(tool, limit=50, **what, **dates), set(ids[first:end]), (tool, dates))
            if not is_indexed:
                self.index()

    def test_dates_may_be_told_from_today(self) -> None:
        friday = time.mktime((2026, 11, 27, 12, 0, 0, 0, 0, -1))
        days = {"today": "11-27 11-28", "yesterday": "11-26 11-27", "0d": "11-27 11-28", "7d": "11-20 11-21",
                "3 days ago": "11-24 11-25", "2w": "11-13 11-14", "1 week": "11-20 11-21", "2mo": "09-27 09-28",
                "10 months ago": "01-27 01-28", "this week": "11-23 11-30", "Last Week": "11-16 11-23",
                "this month": "11-01 12-01", "last month": "10-01 11-01", "2026-02": "02-01 03-01",
                "2026-11-03": "11-03 11-04", "last year": "01-01 01-01", "2026": "01-01 01-01", "1y": "11-27 11-28"}
        with mock.patch.object(rlm, "now", lambda: friday):
            for text, wanted in days.items():
                with self.subTest(text=text):
                    moments = [rlm.day_bound("date_from", text, end) for end in (0, 1)]
                    self.assertEqual(" ".join(time.strftime("%m-%d", time.localtime(at_s)) for at_s in moments), wanted)
                    self.assertEqual({time.strftime("%T", time.localtime(at_s)) for at_s in moments}, {"00:00:00"})
            first, last = (rlm.day_bound("date_to", "last year", end) for end in (0, 1))
            self.assertEqual((rlm.local_day(first), rlm.local_day(last)), ("2025-01-01", "2026-01-01"))
        with mock.patch.object(rlm, "now", lambda: time.mktime((2026, 1, 1, 0, 30, 0, 0, 0, -1))):
            for text, wanted in (("yesterday", "2025-12-31"), ("last month", "2025-12-01"), ("14mo", "2024-11-01")):
                self.assertEqual(rlm.local_day(rlm.day_bound("date_from", text, 0)), wanted)

    def test_a_filter_takes_such_dates(self) -> None:
        with days_ago(40):
            old = self.chunk("needle old é")
        new = self.chunk("needle new é")
        for filters, wanted in (({"date_from": "7d"}, [new]), ({"date_to": "1mo"}, [old]), ({"date_from": "today"}, [new]),
                                ({"date_from": "2mo", "date_to": "yesterday"}, [old])):
            for tool, what in (("rlm_grep", {"pattern": "needle"}), ("rlm_search", {"query": "needle"})):
                self.assertEqual([hit["id"] for hit in self.call(tool, **what, **filters).data["hits"]], wanted)

    def test_a_date_that_is_none_is_an_error_that_says_what_is_accepted(self) -> None:
        self.chunk("é")
        for bad in ("tomorrow", "2026-02-30", "2026-13-01", "21-11-2026", "2026/11/21", "20261", "2026-11-21T25:00",
                    "é" * 10, "0000-00-00", "99999-01-01"):
            for tool, what in (("rlm_grep", {"pattern": "x"}), ("rlm_search", {"query": "x"})):
                for name in ("date_from", "date_to"):
                    with self.assertRaises(rlm.UsageError) as caught:
                        self.call(tool, **what, **{name: bad})
                    for part in (name, "2026-11-21", "2026-11-21T08:30", repr(bad)):
                        self.assertIn(part, str(caught.exception))
        with self.assertRaisesRegex(rlm.UsageError, "2026-03-02 is after `date_to` 2026-03-01"):
            self.call("rlm_grep", pattern="x", date_from="2026-03-02", date_to="2026-03-01")

    def test_the_entity_filter_takes_any_part_of_a_text_and_nothing_else(self) -> None:
        texts = ["see src/app/Main.py needle", "see environment.md needle", "v2.1.7 of needle", "needle ValueError: é",
                 "PROJ-42 needle", "données_été.csv needle", "nvidia.md needle", "plain needle"]
        ids = dict(zip(texts, self.add(texts)))
        for is_indexed in (False, True):
            for entity, wanted in (("main.py", [0]), ("MAIN", [0]), ("src/", [0]), ("env", [1]),
                                   ("environment.md", [1]), ("2.1.7", [2]), ("valueerror", [3]), ("error", [3]),
                                   ("proj-42", [4]), ("donnees_ete", [5]), ("ÉTÉ", [5]), ("e\u0301te\u0301", [5]),
                                   (".md", [1, 6]), ("envidia", []), ("envi", [1]), ("r: É", [3]),
                                   ("main.py needle", [0]), ("main py", []), ("md.environment", []), ("£", [])):
                expected = {ids[texts[n]] for n in wanted}
                self.assertEqual(self.found("rlm_grep", pattern="needle", entity=entity), expected, entity)
                self.assertEqual(self.found("rlm_search", query="needle", entity=entity, limit=9), expected, entity)
            if not is_indexed:
                self.index()

    def test_the_entity_filter_finds_every_chunk_that_names_it_and_no_dead_one(self) -> None:
        files = "\n".join(f"src/module{n}.py changed é" for n in range(30))
        listed, other, gone = self.add([f"release\n{files}", "release of é", "release of module25.py"])
        self.call("rlm_forget", insight_id=gone)
        long_word = self.add([f"release {'x' * 500}module25.py"])[0]  # longer than the words that are indexed
        for is_indexed in (False, True):
            for entity in ("module25.py", "MODULE25.PY", "src/module25", "module25.py changed é"):
                wanted = {listed, long_word} if entity.lower() == "module25.py" else {listed}
                self.assertEqual(self.found("rlm_search", query="release", limit=5, entity=entity), wanted, entity)
                self.assertEqual(self.found("rlm_grep", pattern="release", entity=entity), wanted, entity)
            self.assertEqual(self.found("rlm_search", query="release", entity="of"), {other})
            self.assertEqual(self.found("rlm_search", query="release", entity="module31.py"), set())
            if not is_indexed:
                self.index()

    def test_filters_are_combined_with_and(self) -> None:
        at_s = [NOW, NOW, NOW - 9e6, NOW]
        rows = [("Shop", "api"), ("shop", "UI é"), ("SHOP", "api"), ("other", "API")]
        ids = [self.add([f"needle {n}"], project=project, domain=domain, at_s=[at_s[n]])[0]
               for n, (project, domain) in enumerate(rows)]
        day = rlm.local_day(NOW)
        for filters, wanted in (({"project": "shop"}, [0, 1, 2]), ({"domain": "api"}, [0, 2, 3]),
                                ({"project": "shop", "domain": "API"}, [0, 2]), ({"domain": "ui e"}, [1]),
                                ({"project": "shop", "domain": "api", "date_from": day}, [0]),
                                ({"project": "other", "domain": "ui é"}, [])):
            self.assertEqual(set(self.ids(self.grep("needle", **filters))), {ids[n] for n in wanted}, filters)
            self.assertEqual(self.found("rlm_search", query="needle", **filters), {ids[n] for n in wanted}, filters)

    def test_details_filter_without_any_other_filter(self) -> None:
        self.call("rlm_remember", content="é high", importance="high", category="fact")
        self.call("rlm_remember", content="é low", importance="low", category="todo")
        view = self.view()
        for details, ordinals in (({"importance": "high"}, {0}), ({"category": "todo"}, {1}), ({}, {0, 1})):
            self.assertEqual(set(rlm.ordinals_in(rlm.in_scope(view, rlm.Scope(**details)))), ordinals)


class SearchTest(FindCase):
    def hits(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """The hits of rlm_search as data."""
        return list(self.call("rlm_search", query=query, **arguments).data["hits"])

    def test_snippets_show_the_lines_that_match_with_their_numbers(self) -> None:
        text = "\r\n".join(["intro é", "nothing here", "the Deployments failed", "x",
                            "y " * 200 + "deploy " + "z " * 200, "日本語 deploy", "end"])
        chunk_id = self.chunk(text)
        for is_indexed in (False, True):
            (hit,) = self.hits("deploy")
            self.assertEqual(hit["id"], chunk_id)
            shown = [line["text"] for line in hit["lines"] if line["line"] != 4]  # that one stands between two
            self.assertEqual([line["line"] for line in hit["lines"] if line["line"] != 4], [3, 5, 6])
            self.assertEqual((shown[0], shown[2]), ("the Deployments failed", "日本語 deploy"))
            self.assertIn("deploy", shown[1])
            self.assertLess(len(shown[1]), 300)
            text_answer = self.call("rlm_search", query="deploy").text
            self.assertIn("3: the Deployments failed", text_answer)
            self.assertIn(chunk_id, text_answer)
            if not is_indexed:
                self.index()

    def test_accents_case_and_the_way_they_are_written_do_not_matter(self) -> None:
        spellings = ["Déploiement été", "DEPLOIEMENT ETE", unicodedata.normalize("NFD", "déploiement été"),
                     unicodedata.normalize("NFD", "DÉPLOIEMENT ÉTÉ"), "ｄｅｐｌｏｉｅｍｅｎｔ ｅｔｅ",
                     "deploiement, été!"]
        ids = {self.chunk(f"{text} {n}") for n, text in enumerate(spellings)}
        insight = self.call("rlm_remember", content="le Déploiement de l'été").data["id"]
        for is_indexed in (False, True):
            for query in spellings:
                self.assertEqual({hit["id"] for hit in self.hits(query, limit=20)}, ids | {insight}, query)
                (found,) = self.call("rlm_recall", query=query).data["insights"]
                self.assertEqual(found["id"], insight)
            view = self.view()
            ranks = [rlm.ranked(rlm.Query(view, query), view.alive_mask(), 20) for query in spellings]
            self.assertEqual({tuple(ordinal for _, ordinal in found) for found in ranks}, {(5, 4, 3, 2, 1, 0, 6)})
            if not is_indexed:
                self.index()

    def test_recall_matches_words_not_parts_of_them_and_misses_no_insight_for_one_word(self) -> None:
        rows = {"cat": "the cat sleeps é", "category": "a category of things", "both": "the cat has a name",
                "other": "nothing alike"}
        ids = {key: self.call("rlm_remember", content=text).data["id"] for key, text in rows.items()}
        for is_indexed in (False, True):
            for query, wanted in (("cat", {"cat", "both"}), ("cat name", {"cat", "both"}), ("CATS", {"cat", "both"}),
                                  ("name zebra", {"both"}), ("category", {"category"}),
                                  ("ategory cat", {"cat", "both"}), ("it's the cat's name, no?", {"cat", "both"})):
                found = [row["id"] for row in self.call("rlm_recall", query=query).data["insights"]]
                self.assertLessEqual({ids[key] for key in wanted}, set(found), query)
                unwanted = ids["category"] if "category" not in wanted else ids["cat"]
                self.assertNotIn(unwanted, found[: len(wanted)], query)
                if "both" in wanted and "name" in query:
                    self.assertEqual(found[0], ids["both"], query)
            if not is_indexed:
                self.index()

    def test_a_query_has_a_limit_that_the_error_names(self) -> None:
        for tool in ("rlm_search", "rlm_recall"):
            with self.assertRaisesRegex(rlm.UsageError, "8,001 characters; at most 8,000"):
                self.call(tool, query="é" * 8001)
            self.assertIn("Nothing", self.call(tool, query="é" * 8000).text)

    def test_insights_are_left_out_when_asked(self) -> None:
        chunk_id, insight = self.chunk("needle é one"), self.call("rlm_remember", content="needle é two").data["id"]
        self.assertEqual({hit["id"] for hit in self.hits("needle")}, {chunk_id, insight})
        self.assertEqual({hit["id"] for hit in self.hits("needle", include_insights=False)}, {chunk_id})
        self.assertEqual(self.ids(self.grep("needle")), [chunk_id])

    def test_nothing_found_names_near_words_and_other_projects(self) -> None:
        self.chunk("Kubernetes rollout é", project="infra")
        self.chunk("plain text", project="Café")
        for is_indexed in (False, True):
            for tool, what in (("rlm_grep", {"pattern": "kubernetez"}), ("rlm_grep", {"pattern": "kuberntes x"})):
                answer = self.call(tool, **what)
                self.assertIn("kubernetes", answer.text, tool)
                self.assertIn(answer.data["hint"], answer.text)
            for tool, what in (("rlm_search", {"query": "kubernetes"}), ("rlm_grep", {"pattern": "kubernetes"})):
                text = self.call(tool, **what, project="café").text
                self.assertIn("Nothing matches", text)
                self.assertIn("infra", text, tool)
                text = self.call(tool, **{next(iter(what)): "zzzz"}, project="nobody").text
                for known in ("Café", "infra", "no such project"):
                    self.assertIn(known, text)
            if not is_indexed:
                self.index()
        self.assertIn("Nothing matches '日本語'", self.call("rlm_search", query="日本語").text)

    def test_words_of_the_summary_and_the_tags_count(self) -> None:
        by_summary = self.chunk("text é one", summary="Zeppelin notes")
        by_tag = self.chunk("text é two", tags="zeppelin,other")
        by_ticket = self.chunk("text é three", ticket="ZEP-7")
        for is_indexed in (False, True):
            self.assertEqual({hit["id"] for hit in self.hits("zeppelin")}, {by_summary, by_tag})
            self.assertEqual([hit["id"] for hit in self.hits("ZEP-7")], [by_ticket])
            if not is_indexed:
                self.index()

    def test_a_store_with_nothing_in_it_answers(self) -> None:
        for tool, what in (("rlm_search", {"query": "é"}), ("rlm_grep", {"pattern": "é"}),
                           ("rlm_recall", {"query": "é"}), ("rlm_grep", {"pattern": "éàü", "fuzzy": True})):
            answer = self.call(tool, **what)
            self.assertEqual(answer.data.get("hits", answer.data.get("insights")), [])
            self.assertIn("Nothing matches", answer.text)


if __name__ == "__main__":
    unittest.main()
