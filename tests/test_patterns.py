"""A prefilter never loses a match, and a regex called cheap is cheap."""
from __future__ import annotations

import random
import re
import sys
import unittest
from time import process_time
from unittest import mock

from tests.support import rlm

fold_case, is_cheap, required_words = rlm.fold_case, rlm.is_cheap, rlm.required_words

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


def search_s(regex: re.Pattern[str], unit: str, n_chars: int) -> float:
    """Seconds of the processor that one search of a line of that many characters takes: the best of three."""
    line, times = (unit * n_chars)[:n_chars], []
    for _ in range(3):
        began = process_time()
        regex.search(line)
        times.append(process_time() - began)
    return min(times)


class RequiredWordsTest(unittest.TestCase):
    def assert_requires(self, pattern: str, clauses: list[list[str]]) -> None:
        with self.subTest(pattern=pattern):
            self.assertEqual(required_words(pattern, re.IGNORECASE), clauses)

    def test_useful_literals_are_found(self) -> None:
        for pattern, clauses in [
            ("ConnectionResetError", [["connectionreseterror"]]),
            (r"def \w+_handler\(", [["def "], ["_handler("]]),
            ("foo|bar|baz", [["foo", "bar", "baz"]]),
            ("foobar|foobaz", [["foobar", "foobaz"]]),
            (r"(?i)memory leak", [["memory leak"]]),
            (r"error.{0,40}timeout", [["error"], ["timeout"]]),
            (r"\b\w+Exception\b.*raised", [["exception"], ["raised"]]),
            (r"(?x) mem ory  # a comment", [["memory"]]),
            (r"(?P<name>foo)bar(?P=name)", [["foobar"]]),
            (r"[Ee]rr(?:or)?!", [["error!", "err!"]]),
            (r"connections?", [["connection"]]),
            (r"(?:ab){2}c", [["ababc"]]),
            (r"fo+bar", [["fo"], ["obar"]]),
            (r"(alpha.*x|beta).*gamma", [["alpha", "beta"], ["gamma"]]),
            (r"x(?=ahead)y", [["xy"]]),
            (r"(?s)mémoire.perdue", [["mémoire"], ["perdue"]]),
            (r"(x)?(?(1)foo|bar)", [["foo", "bar"]]),
            ("接続エラー|timeout", [["接続エラー", "timeout"]]),
            ("|".join(f"{n}word" for n in range(10, 40)), [[f"{n}word" for n in range(10, 40)]]),
        ]:
            self.assert_requires(pattern, clauses)

    def test_nothing_is_required_where_nothing_is_certain(self) -> None:
        for pattern in [r"[A-Z]{3}-\d{4}", "a", "", ".*", r"(?:error)?", "foo|", r"\w+", "(?!foo)", "(foo)*", "foo|b",
                        "(", "[", "*a", "(?<=foo)", r"(a)(?(1)|foo)", "x{0}", r"(x)?(?(1)foo)", "a{1}",
                        "(?:" * 3000 + ")" * 3000]:
            self.assert_requires(pattern, [])

    def test_any_failure_inside_the_private_parser_means_no_prefilter(self) -> None:
        with mock.patch.object(rlm, "_parse", side_effect=AttributeError("it has moved")) as parse:
            self.assert_requires("ConnectionResetError", [])
            self.assertFalse(is_cheap("ConnectionResetError"))
        self.assertEqual(parse.call_count, 2)
        self.assertTrue(is_cheap("ConnectionResetError"))

    def test_a_huge_repeat_stays_small(self) -> None:
        clauses = required_words("(?:abc){60000}", 0)
        self.assertEqual([len(clause) for clause in clauses], [1])
        self.assertLessEqual(len(clauses[0][0]), rlm.LONGEST_LITERAL)

    def test_no_matching_line_is_lost(self) -> None:
        seed = random.randrange(1 << 32)
        rng, n_checked = random.Random(seed), 0
        with self.subTest(seed=seed):
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
                        folded = fold_case(line)
                        for clause in clauses:
                            self.assertTrue(any(word in folded for word in clause), (pattern, line, clauses))
            self.assertGreater(n_checked, 80)


class FoldCaseTest(unittest.TestCase):
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
                    self.assertEqual(fold_case(letter), fold_case(other), (letter, other))
        self.assertGreater(n_alike, 2000)

    def test_it_is_casefold_without_turkish_i(self) -> None:
        for text in ["Straße ÉTÉ", "ÅΣς", 'CamelCase "メモリ"\n']:
            self.assertEqual(fold_case(text), text.casefold())


class IsCheapTest(unittest.TestCase):
    CHEAP = ("ConnectionResetError", "foo|bar|baz", r"\berror\b", r"[A-Z]{3}-\d{4}", r"(?i)memory leak",
             r"error.{0,40}timeout", r"foo.{0,60}bar", r"colou?r", r"(get|set)_[a-z]{1,8}", "", "^$", r"error.*",
             r"(error).+", r"^foo.*bar", r"def \w+_handler\(", r'"[^"]*"', r"import \S+ as",
             "|".join(f"{chr(97 + n)}word{n}" for n in range(26)), r"(?<!un)known", r"foo(?=\s)", "été|日本語")
    DEAR = (r"(a+)+$", r"(a|aa)+$", r".*.*x", r"\w+\s+\w+", r"\w*foo", r"foo.*bar", r"\w+Exception", r"(.)\1",
            r".{0,40}.{0,40}x", r"(?:a|a){0,20}b", r".{0,100000}x", r"x{0,100}x{0,100}y", r"x*y", r"foo\([^)]*\)",
            r"(?=.*x)y", r"(?:^|x).*y", "(", r"aaaa.{0,100}x", r"(?:x{0,14}){0,14}y", r"\(.{30}\w+x", r"^.*a.*b",
            r"a.*$")

    def test_bounded_and_provably_linear_patterns_are_cheap(self) -> None:
        for pattern in self.CHEAP:
            with self.subTest(pattern=pattern):
                self.assertTrue(is_cheap(pattern))

    def test_whatever_can_blow_up_is_not_cheap(self) -> None:
        for pattern in self.DEAR:
            with self.subTest(pattern=pattern):
                self.assertFalse(is_cheap(pattern))

    def test_possessive_repeats_are_judged_like_greedy_ones(self) -> None:
        if sys.version_info < (3, 11):
            self.skipTest("possessive repeats came with Python 3.11")
        self.assertTrue(is_cheap(r"error\d{1,5}+"))
        self.assertFalse(is_cheap(r"\w++x"))

    def test_a_cheap_pattern_grows_no_faster_than_its_line(self) -> None:
        for pattern in self.CHEAP:
            regex = re.compile(pattern, re.IGNORECASE)
            for unit in ["a", "foo", "error", "def a", 'x"', "(", "import ", "aword0 bwor", "A-1 "]:
                with self.subTest(pattern=pattern, unit=unit):
                    self.assertLess(search_s(regex, unit, 24_000), 6 * search_s(regex, unit, 6_000) + 0.05)

    def test_random_patterns_called_cheap_are_fast(self) -> None:
        seed = random.randrange(1 << 32)
        rng, n_cheap = random.Random(seed), 0
        with self.subTest(seed=seed):
            for _ in range(300):
                pattern = random_pattern(rng)
                if not is_cheap(pattern):
                    continue
                n_cheap += 1
                regex = re.compile(pattern, re.IGNORECASE)
                for unit in ["a", "ab", "ba ", "k"]:
                    # 5 us per character is 200 steps of 25 ns; ten times that is a lost proof.
                    self.assertLess(search_s(regex, unit, 3000), 0.2 + 3000 * 50e-6, (pattern, unit))
            self.assertGreater(n_cheap, 30)


if __name__ == "__main__":
    unittest.main()
