"""The names that `peek --json` lists are what a reader would search by, and no text is slow to read."""
from __future__ import annotations

import random
import unittest
from time import process_time

from tests.support import rlm

extract_entities = rlm.extract_entities
KINDS = ("files", "versions", "modules", "tickets", "functions", "urls", "errors", "commands")
# kind: texts with the names in them
EXAMPLES = {
    "files": [
        ("see src/app/main.py, then ./README.md.", ["src/app/main.py", "./README.md"]),
        (r"open C:\projets\x\y.cs (ligne 3)", [r"C:\projets\x\y.cs"]),
        ("`lib/foo.ts:12:5` and (bar.rs)", ["lib/foo.ts", "bar.rs"]),
        ("the Dockerfile and a/b/Makefile", ["Dockerfile", "a/b/Makefile"]),
        ("le fichier données_été.csv est vide", ["données_été.csv"]),
        ("設定ファイルconfig.yamlを読む", ["config.yaml"]),
        ("../x.json ~/.bashrc .gitignore", ["../x.json", "~/.bashrc", ".gitignore"]),
        ('{"a":"one.py","b":"two.py"}', ["one.py", "two.py"]),
        ("main.c and main.h, main.c", ["main.c", "main.h"]),
        ("It works. And so on, e.g. this; c'est-à-dire. Fin.", []),
        ("Node.js and Vue.js; response.json() and self.c", []),
        ("me@example.md wrote 3.5 lines, foo.unknown, main.py.orig", []),
        ("https://example.com/a/main.py", []),
        ("rien ... ni .. ni / ni .md ni .tar.gz", [])],
    "versions": [
        ("v1.2.3 then 2.1.329, and v2.0", ["v1.2.3", "2.1.329", "v2.0"]),
        ("on Python 3.11, with node 18.2.", ["Python 3.11", "node 18.2"]),
        ("python3.11 -m venv", ["python3.11"]),
        ("numpy==1.26 react@18.2.0 ^4.17", ["1.26", "18.2.0", "4.17"]),
        ("la version 4.2 est sortie", ["4.2"]),
        ("1.0.0-rc.1 and 2.0.0b3", ["1.0.0-rc.1", "2.0.0b3"]),
        ("le 31.12.2024, 2024.12.31 ou 01.02.24", []),
        ("127.0.0.1 et 192.168.1.10:8080", []),
        ("0.5 and 3.14, costs 3.50, 12.5%", []),
        ("section 3.2, figure 1.4, 1,234.56", []),
        ("foo1.2.3 and 1.2.3.4.5.6", [])],
    "modules": [
        ("import os.path", ["os.path"]),
        ("from a.b import c\nimport numpy as np, json", ["a.b", "numpy", "json"]),
        (">>> import re\nuse `import json` here", ["re", "json"]),
        ("const x = require('fs/promises');", ["fs/promises"]),
        ('import React from "react";', ["react"]),
        ("use foo::bar::{a, b};", ["foo::bar"]),
        ("import java.util.List;", ["java.util.List"]),
        ("You import the file from the disk.", []),
        ("L'import de données depuis la base", []),
        ("use the force; a::b", [])],
    "tickets": [
        ("PROJ-123, #42 and (AB2-7)", ["PROJ-123", "AB2-7", "#42"]),
        ("corrige CVE-2024-12345.", ["CVE-2024-12345"]),
        ("UTF-8 ISO8859-15 SHA-256 ISO-8859-1 GPT-4 RFC-2616 COVID-19 MAR-2024", []),
        ("&#39; a#1 color: #123456 ## 12 x-PROJ-1 PROJ-1-2 CVE-12 PROJ-1.5", [])],
    "functions": [
        ("def load_file(path):\n  class Foo(Bar):", ["load_file", "Foo"]),
        ("function render() {", ["render"]),
        ("pub fn parse<T>(x: T)", ["parse"]),
        ("func (s *Server) Start(ctx)", ["Start"]),
        ("la fonction calcule_été() échoue; obj.save() et self.close()", ["calcule_été", "obj.save", "close"]),
        ("class Foo:\nclass Bar extends Baz {", ["Foo", "Bar"]),
        ("it calls foo(1) and bar(x, y)", []),
        ("the function returns a class of values () (f)()", [])],
    "urls": [
        ("(see https://a.org/x?y=1).", ["https://a.org/x?y=1"]),
        ("https://fr.wikipedia.org/wiki/Python_(langage)", ["https://fr.wikipedia.org/wiki/Python_(langage)"]),
        ("[a](http://b.c/d) <ssh://git@h/r.git>", ["http://b.c/d", "ssh://git@h/r.git"]),
        ("http://a http://a", ["http://a"]),
        ("http:// and a://b", []),
        ("http://" + "x" * 300, [])],
    "errors": [
        ("ValueError: x, requests.exceptions.ConnectionError", ["ValueError", "ConnectionError"]),
        ("une java.lang.NullPointerException est levée", ["NullPointerException"]),
        ("ENOENT then SIGSEGV, ERR_MODULE_NOT_FOUND, ECONNRESET", ["ENOENT", "SIGSEGV", "ERR_MODULE_NOT_FOUND", "ECONNRESET"]),
        ("error[E0308]: mismatched; error TS2345:", ["error[E0308]", "error TS2345"]),
        ("HTTP 503. HTTP/1.1 404, status code: 500", ["HTTP 503", "HTTP/1.1 404", "status code: 500"]),
        ("erreur 500 du serveur", ["erreur 500"]),
        ("Error, Exception, an error, 500 files, EUROPE, ERROR, onError ValueErrors", []),
        ("error 5000, status 404.5, code 0x500", [])],
    "commands": [
        ("$ git status\n(venv) $ ./run.sh\n> npm install x", ["git status", "./run.sh", "npm install x"]),
        ("user@host:~/x$ make all", ["make all"]),
        ("run `python -m unittest` or `docker ps`", ["python -m unittest", "docker ps"]),
        ("> a quoted sentence\n>>> x\n$ 5 only\n5 $ de plus", []),
        ("`foo bar` `git` and 'git push'", [])],
}


def read_s(text: str) -> float:
    """How much of the processor reading the text takes, in seconds: the best of three."""
    times = []
    for _ in range(3):
        began = process_time()
        extract_entities(text)
        times.append(process_time() - began)
    return min(times)


class EntityTest(unittest.TestCase):
    def test_each_kind_is_what_a_reader_takes_for_it_and_nothing_that_looks_alike(self) -> None:
        for kind, examples in EXAMPLES.items():
            for text, names in examples:
                with self.subTest(kind=kind, text=text):
                    self.assertEqual(extract_entities(text).get(kind, []), names)

    def test_an_ordinary_sentence_has_no_entities(self) -> None:
        for text in ["", "It was late. The garden (the old one) was quiet, wasn't it?",
                     "L'été dernier, nous avons mangé 3,5 kg de fraises : c'était bon !", "今日は天気がいいです。"]:
            self.assertEqual(extract_entities(text), {}, text)

    def test_every_name_is_given_once_and_in_order(self) -> None:
        found = extract_entities(" ".join(f"file{n % 50}.py PROJ-{n % 50}" for n in range(500)))
        self.assertEqual(found["files"], [f"file{n}.py" for n in range(50)])
        self.assertEqual(found["tickets"], [f"PROJ-{n}" for n in range(50)])

    def test_no_name_is_empty_or_longer_than_the_limit(self) -> None:
        seed = random.randrange(1 << 32)
        rng, n_names = random.Random(seed), 0
        pieces = ["a" * 90, "/", ".py ", " ", "v1.2.", "\n$ git ", "`git ", "`", "()", "Error ", "é", "http://", "\n",
                  "import ", "def ", "(", "PROJ-1 ", "漢字", '"', "use a::", "\x00", "\ud800"]
        with self.subTest(seed=seed):
            for _ in range(600):
                text = "".join(rng.choice(pieces) for _ in range(rng.randint(1, 40)))
                for kind, names in extract_entities(text).items():
                    n_names += len(names)
                    self.assertIn(kind, KINDS)
                    self.assertEqual(len(names), len(set(names)))
                    self.assertTrue(all(0 < len(name) <= rlm.MAX_NAME_CHARS for name in names), names)
            self.assertGreater(n_names, 300)

    def test_time_grows_with_the_text_and_no_faster(self) -> None:
        units = ["a", "a.", "/", "(", "()", ".", "1", "1.", "#1", "http://", "http://(", "`git ", "$ ", "import ", "Error",
                 "a.Error", "A-1-", "A1", "def a", "v1.", "a::", "use a::", "\n> ", "import a,", "é", "a. ", "error ",
                 "500 ", "error 500x", "E", "\\", "C:\\", "_", " ", "\n", "\t", "((", "#", "from ", "'", '"',
                 "require(", "func (", "@", "a@b:", "$", "\n(a", "1.1 ", "1.1.1 ", "file ", "file/", "a.py"]
        for unit in units:
            with self.subTest(unit=unit):
                text = unit * (30_000 // len(unit))
                self.assertLess(read_s(text), 6 * read_s(text[: len(text) // 4]) + 0.05)


if __name__ == "__main__":
    unittest.main()
