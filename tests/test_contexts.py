"""Texts larger than a window: a Text is a str to whoever reads it; contexts, their parts, filters and tools."""
from __future__ import annotations

import os
import random
import re
import tempfile
import unittest
from collections.abc import Iterator

from tests.support import rlm

SEED = int(os.environ.get("RLM_TEST_SEED") or random.randrange(1 << 30))
# What a text may be made of, and bytes that are no UTF-8 on their own.
ALPHABETS = ("ab\n", "aé\n", "aé日\U0001f600\n ", "ab é日\U0001f600\n\r\x85x", "a", "aaaaaaaaaaaab\n")
BROKEN = (0x80, 0xBF, 0xC3, 0xE6, 0xF0, 0xFF)
NEEDLES = ("a", "b\n", "é", "日", "ab", "aa", "aba", "\udc80", "\udcc3\udc80", "\ud800", "no such thing")
# None of these looks further than a few characters.
PATTERNS = (r"a+", r"\bé\w*", r"^a", r"(?m)^a.*$", r"日.", r"a\n", r"(?<=a)b", r"$", r"a|b", r"\Z", r"(a)|(b)", r"x*", r"\A\w")


def text_of(raw: bytes, kind: type[rlm.Text] = rlm.Text) -> rlm.Text:
    """The bytes in a file without a name, as a Text."""
    file = tempfile.TemporaryFile()
    file.write(raw)
    file.flush()
    text = kind(file.fileno(), "t")
    text.file = file  # it lives as long as the text
    return text


class TextTest(unittest.TestCase):
    def shortDescription(self) -> str:  # told beside a test that fails
        return f"RLM_TEST_SEED={SEED}"

    def drawn(self, rng: random.Random) -> tuple[str, rlm.Text]:
        """A str, and the same as a Text whose blocks and windows are small enough that everything crosses one."""
        class Small(rlm.Text):
            BLOCK, WINDOW = rng.choice([5, 7, 16]), rng.choice([9, 16, 40, 200])
            REACH = rng.choice([48, 64])

        raw = bytearray("".join(rng.choices(rng.choice(ALPHABETS), k=rng.randrange(300))).encode())
        for _ in range(rng.choice([0, 0, 1, 6])):
            raw.insert(rng.randrange(len(raw) + 1), rng.choice(BROKEN))
        return bytes(raw).decode("utf-8", "surrogateescape"), text_of(bytes(raw), Small)

    def each(self, n: int = 120) -> Iterator[tuple[random.Random, str, rlm.Text]]:
        for i in range(n):
            rng = random.Random(f"{SEED}-{i}")
            string, text = self.drawn(rng)
            yield rng, string, text
            text.file.close()

    def test_slices_are_those_of_a_str(self) -> None:
        for rng, string, text in self.each():
            self.assertEqual((len(text), text[:], bool(text)), (len(string), string, bool(string)))
            for _ in range(20):
                i, j = rng.randrange(-5, len(string) + 5), rng.choice([None, rng.randrange(-5, len(string) + 5)])
                step = rng.choice([None, 1, 2, 3, 50, 1000, -1, -2, -7])
                self.assertEqual(text[i:j:step], string[i:j:step], (i, j, step))
                if -len(string) <= i < len(string):
                    self.assertEqual(text[i], string[i])
            self.assertRaises(IndexError, text.__getitem__, len(string))

    def test_walks_give_all_of_it(self) -> None:
        for _, string, text in self.each():
            self.assertEqual("".join(text), string)
            self.assertEqual("".join(text.parts(7)), string)
            self.assertEqual([part[2:] if i else part for i, part in enumerate(text.parts(9, 2))],
                             [string[:9], *(string[i : i + 7] for i in range(9, len(string), 7))] if string else [])
            self.assertEqual(list(text.lines()), string.split("\n")[: -1 if string.endswith("\n") or not string else None])
            self.assertTrue(text == string and text != string + "x" and text == text)

    def test_what_is_looked_for_is_found_where_a_str_finds_it(self) -> None:
        for rng, string, text in self.each():
            n = len(string)
            for needle in NEEDLES:
                spans = [(), (rng.randrange(-3, n + 1),), (rng.randrange(n + 1), rng.randrange(-3, n + 3))]
                for name in ("find", "rfind", "count", "startswith", "endswith"):
                    for span in spans:
                        self.assertEqual(getattr(text, name)(needle, *span), getattr(string, name)(needle, *span),
                                         (name, needle, span))
                self.assertEqual(needle in text, needle in string)
            self.assertEqual((text.find(""), text.rfind(""), text.count("")), (0, n, n + 1))
            self.assertEqual(text.startswith(("q", string[:3])), True)
            self.assertRaises(ValueError, text.index, "no such thing")

    def test_regexes_match_where_they_match_in_a_str(self) -> None:
        for _, string, text in self.each():
            for pattern in PATTERNS:
                long = any(len(match[0].encode("utf-8", "surrogateescape")) > 40 for match in re.finditer(pattern, string))
                if not long:
                    self.assertEqual([(m.span(), m.group(), m.groups()) for m in text.finditer(pattern)],
                                     [(m.span(), m.group(), m.groups()) for m in re.finditer(pattern, string)], pattern)
        text = text_of(b"one two")
        found = list(text.finditer("(?i)T(W)|(x)"))
        text.file.close()
        self.assertEqual((found[0][1], found[0].start(1), found[0].span(2), found[0].re.groups), ("w", 5, (-1, -1), 2))

    def test_a_file_that_shrinks_or_changes_gives_less_and_raises_nothing(self) -> None:
        for rng, _, text in self.each(40):
            n_left = rng.randrange(text.size + 1)
            if rng.random() < 0.5:
                os.ftruncate(text.file.fileno(), n_left)
            else:
                os.pwrite(text.file.fileno(), bytes(rng.choices(BROKEN, k=text.size - n_left)), n_left)
            text[3:200], text[::-1], text[::3], "".join(text), list(text.lines()), list(text.parts(7))
            for needle in ("a", "aa", "é", "\udc80"):
                text.find(needle), text.rfind(needle), text.count(needle)
            list(text.finditer("a+|$"))

    def test_it_reads_through_a_function_too(self) -> None:
        raw = "aé日\n".encode() * 9
        self.assertEqual(rlm.Text(lambda n, offset: raw[offset : offset + n], size=len(raw))[:], raw.decode())

    def test_what_it_does_not_offer_it_says(self) -> None:
        class Small(rlm.Text):
            LIMIT = 10

        text = text_of(b"x" * 11, Small)
        for use, error, words in ((lambda: text[:], MemoryError, "11 characters"), (lambda: text.upper(), AttributeError, "slice"),
                                  (lambda: text.nonsense, AttributeError, "no .nonsense$")):
            with self.assertRaisesRegex(error, words):
                use()
        self.assertIn("11 characters", f"{text}")
        text.file.close()


if __name__ == "__main__":
    unittest.main()
