"""What a regex requires is in every match of it, and what runs where nothing can stop it is quick."""
from __future__ import annotations

import random
import re
import sys
import unittest
from time import process_time
from unittest import mock

from tests.support import rlm

fold, required_words = rlm.fold, rlm.required_words

ATOMS = ["a", "b", "ab", "Ab", "k", "i", "ß", "é", "s", "メモ", r"\.", ".", r"\w", r"\d", "[ab]", "[^a]", "[a-c]",
         "[A-Z]", "[é-ë]", r"\b", "^", "$", r"\s", "ba", "-", " ", "K", "ſ", "İ", '"', r"\r"]
LETTERS = "abABckKis ſKıİßßéÉ.-7メモ\"\r"


def random_pattern(rng: random.Random, depth: int = 3) -> str:
    """A regex of the shapes that people write, and of those they do not."""
    kind = rng.randrange(12) if depth else 0
    if kind < 4:
        return "".join(rng.choice(ATOMS) for _ in range(rng.randint(1, 3)))
    inside, other = random_pattern(rng, depth - 1), random_pattern(rng, depth - 1)
    shapes = [
        f"{inside}|{other}", f"(?:{inside}|{other})", f"({inside})", f"(?:{inside})?",
        f"(?:{inside})" + rng.choice(["*", "+", "{2}", "{1,3}", "{0,2}", "+?", "??"]),
        f"(?={inside}){other}", f"(?!{inside}){other}", f"(?<!a){inside}", f"(?i:{inside}){other}",
        f"({inside})(?(1){other}|a)", f"(?s:{inside})", inside + other,
    ]
    if sys.version_info >= (3, 11):
        shapes += [f"(?>{inside}){other}", f"(?:{inside})++{other}"]
    return rng.choice(shapes)


def is_quick(pattern: str) -> bool:
    """Whether the server would run the pattern where nothing can stop it."""
    return bool(rlm.is_quick(rlm.compiled(pattern)[0]))


def search_s(regex: re.Pattern[str], unit: str, n_chars: int) -> float:
    """Seconds of the processor that one search of a line of that many characters takes: the best of three."""
    line, times = (unit * n_chars)[:n_chars], []
    for _ in range(3):
        began = process_time()
        regex.search(line)
        times.append(process_time() - began)
    return min(times)


class RequiredWordsTest(unittest.TestCase):
    def test_useful_literals_are_found(self) -> None:
        for pattern, clauses in [
            ("ConnectionResetError", [["ConnectionResetError"]]),
            (r"def \w+_handler\(", [["def "], ["_handler("]]),
            ("foo|bar|baz", [["foo", "bar", "baz"]]),
            (r"(?i)memory leak", [["memory leak"]]),
            (r"error.{0,40}timeout", [["error"], ["timeout"]]),
            (r"\b\w+Exception\b.*raised", [["Exception"], ["raised"]]),
            (r"(?x) mem ory  # a comment", [["memory"]]),
            (r"(?P<name>foo)bar(?P=name)", [["foo"], ["bar"]]),
            (r"connections?", [["connection"]]),
            (r"(?:ab){2}cd", [["ab"], ["cd"]]),
            (r"fo+bar", [["bar"]]),
            (r"(alpha.*x|beta).*gamma", [["alpha", "beta"], ["gamma"]]),
            (r"x(?=ahead)y", [["xy"]]),
            (r"(?s)mémoire.perdue", [["mémoire"], ["perdue"]]),
            ("接続エラー|timeout", [["接続エラー", "timeout"]]),
            ("|".join(f"{n}word" for n in range(10, 40)), [[f"{n}word" for n in range(10, 40)]]),
        ]:
            with self.subTest(pattern=pattern):
                self.assertEqual(required_words(pattern, re.IGNORECASE), clauses)

    def test_nothing_is_required_where_nothing_is_certain(self) -> None:
        for pattern in [r"[A-Z]{3}-\d{4}", "a", "", ".*", r"(?:error)?", "foo|", r"\w+", "(?!foo)", "(foo)*", "foo|b",
                        "(", "[", "*a", "(?<=foo)", r"(a)(?(1)|foo)", "x{0}", r"(x)?(?(1)foo)", "a{1}", "--> ",
                        "(?:" * 3000 + ")" * 3000]:
            with self.subTest(pattern=pattern):
                self.assertEqual(required_words(pattern, re.IGNORECASE), [])

    def test_any_failure_inside_the_private_parser_means_no_prefilter(self) -> None:
        with mock.patch.object(rlm, "clauses_of", side_effect=AttributeError("it has moved")):
            self.assertEqual(required_words("ConnectionResetError", re.IGNORECASE), [])
        self.assertEqual(required_words("ConnectionResetError", re.IGNORECASE), [["ConnectionResetError"]])

    def test_no_matching_line_is_lost(self) -> None:
        rng, n_checked = random.Random(7), 0
        for _ in range(2500):
            pattern = random_pattern(rng)
            clauses = required_words(pattern, re.IGNORECASE)
            try:
                regex = re.compile(pattern, re.IGNORECASE)
            except re.error:
                continue
            for _ in range(20 if clauses else 0):
                line = "".join(rng.choice(LETTERS) for _ in range(rng.randint(0, 9)))
                if regex.search(line):
                    n_checked += 1
                    for clause in clauses:
                        self.assertTrue(any(fold(word) in fold(line) for word in clause), (pattern, line, clauses))
        self.assertGreater(n_checked, 80)

    def test_letters_that_re_takes_for_one_another_fold_alike(self) -> None:
        partners: dict[str, set[str]] = {}
        for code in range(0x20000):
            letter = chr(code)
            for other in {letter.lower(), letter.upper(), letter.swapcase(), letter.casefold()}:
                if len(other) == 1 and other != letter:
                    partners.setdefault(letter, set()).add(other)
        partners["i"] = {"ı", "İ", "I"}
        partners["ß"] = {"ẞ"}
        n_alike = 0
        for letter, others in partners.items():
            regex = re.compile(re.escape(letter), re.IGNORECASE)
            for other in others:
                if regex.fullmatch(other):
                    n_alike += 1
                    self.assertEqual(fold(letter), fold(other), (letter, other))
        self.assertGreater(n_alike, 2000)


class QuickTest(unittest.TestCase):
    QUICK = ("ConnectionResetError", "foo|bar|baz", r"\berror\b", r"error \d\d\d", "foo.bar", r"foo\(bar\)", "a.c xyz",
             "[Cc]onnection", "|".join(f"{chr(97 + n)}word{n}" for n in range(20)), "été|日本語", "(needle", r"C\+\+ is")

    def test_words_and_alternatives_are_quick(self) -> None:
        for pattern in self.QUICK:
            with self.subTest(pattern=pattern):
                self.assertTrue(is_quick(pattern))

    def test_whatever_can_run_away_or_reads_every_text_is_not(self) -> None:
        for pattern in (r"(a+)+$", r"(a|aa)+$", r".*.*x", r"\w+\s+\w+", "foo.*bar", r".{0,40}.{0,40}x", "x{0,100}foo",
                        "(foo|foo)" * 20 + "y", r"\d", ".", "a?" * 30 + "a" * 30, "a" * 999 + "b", "word" * 60):
            with self.subTest(pattern=pattern):
                self.assertFalse(is_quick(pattern))

    def test_a_quick_pattern_grows_no_faster_than_its_line(self) -> None:
        for pattern in self.QUICK:
            regex = re.compile(re.escape(pattern) if pattern[0] == "(" else pattern, re.IGNORECASE)
            for unit in ["a", "foo", "error", 'x"', "(", "aword0 bwor"]:
                with self.subTest(pattern=pattern, unit=unit):
                    self.assertLess(search_s(regex, unit, 24_000), 6 * search_s(regex, unit, 6_000) + 0.05)

    def test_random_patterns_called_quick_are_fast(self) -> None:
        rng, n_quick = random.Random(7), 0
        for _ in range(600):
            pattern = random_pattern(rng)
            if is_quick(pattern):
                n_quick += 1
                regex = rlm.compiled(pattern)[0]
                for unit in ["a", "ab", "ba ", "k"]:
                    self.assertLess(search_s(regex, unit, 3000), 0.2 + 3000 * 50e-6, (pattern, unit))
        self.assertGreater(n_quick, 30)


class ReadingsTest(unittest.TestCase):
    def assert_reads(self, pattern: str, found: str, passed: str) -> None:
        """The pattern finds each word of *found*, and none of *passed*."""
        regex, is_literal = rlm.compiled(pattern)
        self.assertFalse(is_literal, pattern)
        for words, wanted in ((found, True), (passed, False)):
            for word in words.split("~") if words else []:
                self.assertEqual(bool(regex.search(word)), wanted, (pattern, word))

    def test_classes_of_the_shell_are_understood(self) -> None:
        self.assert_reads("^a[[:space:]]+b$", "a b~a \tb", "ab~a_b~a:b")
        self.assert_reads("^[[:space:]]$", " ~\u00a0", "s~:")
        self.assert_reads("^[^[:space:]]+$", "abc~é:", "a b")
        self.assert_reads("^[[:alpha:]_]+$", "abc~É_~日本", "a1~a-b")
        self.assert_reads("^[[:alnum:]]+$", "a1~é9", "a_~a b~-")
        self.assert_reads("^[[:digit:].]+$", "1.5", "a~1,5")
        self.assert_reads("^[[:upper:]][[:lower:]]+$", "Abc~abc", "1bc")
        self.assert_reads("^[[:xdigit:]]+$", "3f2A", "3g")
        self.assert_reads("^[[:punct:]]+$", "[]-\\^`{~!,/:@", "")
        self.assert_reads("^[[:punct:]]$", ".~]~-~\\", "a~1~ ")
        self.assert_reads("^a[[:blank:]]b$", "a b~a\tb", "a\nb~axb")
        self.assert_reads("^[:digit:]+$", "123", "dig")  # as many write it
        self.assert_reads(r"^[[:digit:][:blank:]\]]+$", "1 2]", "a~d")
        self.assert_reads("^[[:cntrl:]]$", "\x01~\x7f", "a")
        self.assert_reads("^[[:print:]]+$", "a b é", "\x01")
        self.assert_reads("^[[:graph:]]+$", "aé!", "a b")

    def test_borders_of_words_are_understood_and_so_are_the_characters(self) -> None:
        self.assert_reads(r"\<pool\>", "the pool is~<pool>", "spool~pools")
        self.assert_reads(r"\<pre", "prefix~a <pre>", "expres")
        self.assert_reads(r"\</div\>", "x</div>", "")
        self.assert_reads("[[:<:]]pool[[:>:]]", "the pool is", "spool~pools")

    def test_classes_of_python_mean_what_they_meant(self) -> None:
        for pattern, found, passed in (("^[]a]$", "]~a", "b"), ("^[^]a]$", "b", "]~a"), (r"^[\]a]$", "]~a", "b~\\"),
                                       (r"^[\<]$", "<", "a"), ("^[a:b]+$", "a:b", "c"), ("^[:a]$", ":~a", "b"),
                                       (r"^\[a\]$", "[a]", "a"), (r"^\\<$", "\\<", "\\"), ("^[[]$", "[", "]"),
                                       ("^[a-c[x]+$", "ab[x", "d")):
            self.assert_reads(pattern, found, passed)

    def test_a_pattern_and_its_decomposed_form_are_read_alike(self) -> None:
        for pattern in ("de\u0301cision", "décision", "dé\u00adci\u200bsion"):
            self.assert_reads(pattern, "décision", "decision")


if __name__ == "__main__":
    unittest.main()
