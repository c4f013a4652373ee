"""Near terms are those that a brute-force search finds, with the textbook's distances."""
from __future__ import annotations

import random
import unittest

from tests.support import rlm

allowed_edits, near_terms = rlm.allowed_edits, rlm.near_terms


def textbook_distance(a: str, b: str) -> int:
    """Optimal string alignment by the full table."""
    table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            best = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, table[i - 2][j - 2] + 1)
            table[i][j] = best
    return table[-1][-1]


def as_blob(terms: set[str]) -> bytes:
    """The terms as a vocabulary holds them."""
    return b"\n" + b"".join(term.encode() + b"\n" for term in sorted(terms))


def mistyped(rng: random.Random, word: str, n_edits: int, letters: str) -> str:
    """The word after that many random typos."""
    for _ in range(n_edits):
        place = rng.randrange(len(word)) if word else 0
        kind = rng.randrange(4)
        if kind == 0:
            word = word[:place] + rng.choice(letters) + word[place:]
        elif kind == 1:
            word = word[:place] + word[place + 1 :]
        elif kind == 2:
            word = word[:place] + rng.choice(letters) + word[place + 1 :]
        else:
            word = word[:place] + word[place : place + 2][::-1] + word[place + 2 :]
    return word


class AllowedEditsTest(unittest.TestCase):
    def test_edits_grow_with_the_word(self) -> None:
        for size, threshold, edits in [(3, 80, 0), (4, 80, 1), (9, 80, 1), (10, 80, 2), (15, 80, 3), (64, 80, 3),
                                       (64, 0, 3), (4, 99, 1), (4, 100, 0), (64, 100, 0), (3, 60, 1), (0, 0, 0)]:
            with self.subTest(size=size, threshold=threshold):
                self.assertEqual(allowed_edits("x" * size, threshold), edits)


class NearTermsTest(unittest.TestCase):
    def assert_near(self, word: str, terms: set[str], max_edits: int) -> int:
        """Compares with brute force; how many terms are near."""
        distances = [(textbook_distance(word, term), term) for term in terms if term >= " "]
        expected = sorted(pair for pair in distances if pair[0] <= max_edits)
        self.assertEqual(near_terms(word, as_blob(terms), max_edits), expected, (word, max_edits, sorted(terms)))
        return len(expected)

    def test_best_terms_come_first(self) -> None:
        blob = as_blob({"connection", "connections", "collection", "other"})
        self.assertEqual(near_terms("conection", blob, 2),
                         [(1, "connection"), (2, "collection"), (2, "connections")])

    def test_a_swap_across_any_border_is_found(self) -> None:
        word = "abcdefghijkl"
        for max_edits in range(1, rlm.MOST_EDITS + 1):
            for place in range(len(word) - 1):
                swapped = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
                self.assertEqual(self.assert_near(word, {swapped, "zz"}, max_edits), 1)

    def test_names_that_begin_with_a_control_character_never_come_back(self) -> None:
        terms = {"\x01timeout", "\x02timeout", "timeout", "\x01x"}
        for word in ("timeout", "timeuot", "xtimeout"):
            self.assertEqual([term for _, term in near_terms(word, as_blob(terms), 1)], ["timeout"], word)

    def test_first_and_last_terms_are_found(self) -> None:
        terms = {"aaaa", "mmmm", "zzzz"}
        for word, n_near in (("aaaa", 1), ("zzzz", 1), ("aaax", 1), ("xzzz", 1), ("zzz", 1), ("baaa", 1), ("bbbb", 0)):
            self.assertEqual(self.assert_near(word, terms, 1), n_near)

    def test_an_empty_vocabulary_and_an_empty_word_have_no_neighbours(self) -> None:
        for blob in (b"", b"\n", b"\n\n"):
            self.assertEqual(near_terms("word", blob, 1), [])
        for word in ("", "a\na", "\udc80", "\x01timeout"):
            self.assertEqual(near_terms(word, b"\na\ntimeout\n", 1), [], word)

    def test_letters_with_a_meaning_in_a_regex_are_taken_literally(self) -> None:
        self.assertEqual(self.assert_near("a.c(+x]", {"a.c(+x]", "a.c(+y]", "abc(+x]", "aXcYYx]", '"é'}, 2), 3)

    def test_terms_come_in_any_order_and_long_words_are_exact(self) -> None:
        self.assertEqual(near_terms("conection", b"zzz\nconnection\nabc\ncollection", 2),
                         [(1, "connection"), (2, "collection")])
        word = "abcdefghij" * 20
        self.assert_near(word, {word[:99] + word[100:150] + "x" + word[150:], word}, 3)

    def test_known_distances(self) -> None:
        for a, b, edits in [("a", "b", 1), ("conection", "connection", 1), ("timeuot", "timeout", 1), ("ca", "abc", 3),
                            ("kitten", "sitting", 3), ("ab", "ba", 1), ("mémoire", "memoire", 1),
                            ("メモリ", "メリモ", 1), ("abcdef", "badcfe", 3), ('a"é', "a", 2)]:
            self.assertEqual(near_terms(a, b.encode(), 3), [(edits, b)])
            self.assertEqual(near_terms(b, a.encode(), 3), [(edits, a)])
            self.assertEqual(near_terms(a, b.encode(), edits - 1), [])

    def test_it_finds_what_brute_force_finds(self) -> None:
        seed = random.randrange(1 << 32)
        rng, n_near = random.Random(seed), 0
        with self.subTest(seed=seed):
            for _ in range(900):
                letters = rng.choice(["ab", "abc", "abcdé", "abcdefgh漢𝄞é"])
                word = "".join(rng.choice(letters) for _ in range(rng.randint(1, 16)))
                terms = {mistyped(rng, word, rng.randint(0, 4), letters) for _ in range(12)}
                terms |= {"".join(rng.choice(letters) for _ in range(rng.randint(1, 9))) for _ in range(5)}
                terms = {"\x01" * (rng.random() < 0.1) + term for term in terms if term}
                n_near += self.assert_near(word, terms, rng.randint(0, rlm.MOST_EDITS))
            self.assertGreater(n_near, 500)


if __name__ == "__main__":
    unittest.main()
