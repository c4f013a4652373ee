"""The index answers as the texts themselves would, however they came into it."""
from __future__ import annotations

import math
import os
import random
import shutil
import signal
import unittest
from collections import Counter
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.support import HARD, TempHome, rlm

NOW = 1_780_000_000.0
WORDS = (
    "deploy deployment deployed error errors timeout connection server cache index memory token session retry config "
    "parse parsing parser build builds building queue worker lock file files test tests release branch merge review "
    "the a of is and we not when with le la les des une est pour dans "
    "été déploiement déploiements mémoire café naïve garçon œuvre Straße résumé générale générales "
    "日本語 検索 設定ファイル データベース 接続エラー メモリ 中文 "
    "parseConfigFile parse_config_file HTTPServer load_index2 getUserName MAX_RETRIES x86_64 utf8 v2 sha256 "
    "q7f3 9001 ConnectionResetError"
).split()
PROJECTS = ("shop", "Café", "日本", "rlm-core")
TAGS = ("keep", "Été", "deploy", "wip")
DOMAINS = ("api", "Données", "")


def zipf_words(rng: random.Random, n_rare: int = 200) -> tuple[list[str], list[float]]:
    """A vocabulary in random order with the frequencies of a natural language."""
    words = WORDS + [f"rare{n}" for n in range(n_rare)]
    rng.shuffle(words)
    return words, [1 / (rank + 2) for rank in range(len(words))]


def random_text(rng: random.Random, words: Sequence[str], weights: Sequence[float], longest: int) -> str:
    """A text of some lines; no two are alike."""
    picked = rng.choices(words, weights, k=max(1, int(longest * rng.random() ** 2)))
    marks = [rng.choice((" ", " ", " ", ", ", "\n", '" "', "\r\n")) for _ in picked]
    return f"n{rng.randrange(1 << 40)}x " + "".join(word + mark for word, mark in zip(picked, marks))


def purge(view: rlm.View, ids: Iterable[str]) -> list[rlm.Doc]:
    """Purges these documents, whatever their state; what they were."""
    with rlm.Writer(view, durable=False) as writer:
        docs = [view.doc(view.ordinal_of(i)) for i in ids]
        writer.records += [rlm.purge_record(doc, view.record(doc), NOW) for doc in docs]
    return docs


class Row:
    """What the oracle knows of one document, by ordinal."""

    def __init__(self, **fields: Any) -> None:
        self.kind = self.id = self.text = self.summary = self.project = self.domain = self.category = ""
        self.importance = "medium"
        self.at_s = 0.0
        self.tags: list[str] = []
        self.is_alive = self.counts_in_statistics = True
        self.__dict__.update(fields)
        self.terms = Counter(rlm.count_terms(self.text))
        self.n_tokens = sum(self.terms.values())
        for term, n in rlm.count_terms(" ".join([self.summary, *self.tags, rlm.ASKED_BY.get(self.category, "")])).items():
            self.terms[term] += n


def rank(view: rlm.View, query: str, allowed: bytes | None = None, limit: int = 10) -> list[tuple[float, int]]:
    """(score, ordinal) of the best."""
    return rlm.ranked(rlm.Query(view, query), view.alive_mask() if allowed is None else allowed, limit)


def brute_force(rows: Sequence[Row], query: str) -> dict[int, float]:
    """The score of every living document, straight from the definition in `QueryWord`."""
    counted = [row for row in rows if row.counts_in_statistics]
    weights = rlm.code_weights(sum(row.n_tokens for row in counted) / max(1, len(rows)))
    terms = rlm.query_terms(query)
    pieces = {asked.word for asked in terms if rlm.PIECE_LENGTHS[asked.word[0]]}
    single = {piece for piece in pieces if len(piece) == 1 and any(len(other) == 2 for other in pieces)}
    tells = {asked.word for asked in terms} - rlm.STOP_WORDS - single
    every = {term for row in counted for term in row.terms}

    def idf(*terms: str) -> float:
        return rlm.inverse_frequency(len(rows), sum(any(row.terms[term] for term in terms) for row in counted))

    def code(row: Row, *terms: str) -> int:
        n = max((row.terms[term] for term in terms), default=0)
        return 1 + rlm.FREQUENCY_CODES[min(n, 8)] + rlm.length_class(row.n_tokens) if n else 0

    scores: dict[int, float] = {}
    decided: set[int] = set()
    for asked in terms:
        base, exact = asked.base, [asked.word]
        if asked.is_prefix:
            exact += [term for term in every if term.startswith(asked.word) and rlm.is_hash(term)]
        lists = [(idf(*exact) * (rlm.EXACT_WEIGHT if base else 1.0), exact),
                 (idf(*asked.kin) * rlm.KIN_WEIGHT, asked.kin)]
        group = idf(base, rlm.STEM + base)
        for ordinal, row in enumerate(rows):
            more = sum(share * weights[code(row, *one)] for share, one in lists)
            if base:
                one, other = code(row, base), code(row, rlm.STEM + base)
                more += group * weights[rlm.joined_code(one, other) if one and other else one or other]
            if more and row.is_alive:
                more *= asked.weight * rlm.IMPORTANCE_FACTOR[row.importance]
                scores[ordinal] = scores.get(ordinal, 0.0) + more
                decided |= {ordinal} if asked.word in tells or not tells else set()
    return {ordinal: score for ordinal, score in scores.items() if ordinal in decided}


def in_scope(rows: Sequence[Row], filters: dict[str, str]) -> set[int]:
    """The ordinals of the documents that the filters let pass."""
    def same(a: str, b: str) -> bool:
        return rlm.fold(a) == rlm.fold(b)

    def fits(row: Row) -> bool:
        return row.kind != "purge" and all((
            not filters.get("kind") or row.kind == filters["kind"],
            not filters.get("project") or same(row.project, filters["project"]),
            not filters.get("domain") or same(row.domain, filters["domain"]),
            all(any(same(tag, t) for t in row.tags) for tag in rlm.split_tags(filters.get("tags", ""))),
            not filters.get("entity") or rlm.fold(filters["entity"]) in rlm.fold(row.text),
            not filters.get("date_from") or row.at_s >= rlm.epoch_of(filters["date_from"]),
            not filters.get("date_to") or row.at_s <= rlm.epoch_of(filters["date_to"]),
            filters.get("category", "") in ("", row.category),
            filters.get("importance", "") in ("", row.importance)))
    return {ordinal for ordinal, row in enumerate(rows) if fits(row)}


class IndexCase(TempHome):
    """A store with an oracle beside it: `rows`, one per document in the order of their ordinals."""

    def setUp(self) -> None:
        super().setUp()
        self.start_over(0)
        for name, value in (("LEND_TOKENS", -1), ("TAIL_MAX_DOCS", 1 << 30)):  # nobody lends score to neighbours
            self.patch(name, value)

    def start_over(self, n_store: int) -> None:
        """Goes on with an empty store."""
        self.places = rlm.Places(os.path.join(self.home, f"store {n_store} é"))
        self.rows: list[Row] = []
        self.n_indexed = 0

    def patch(self, name: str, value: object) -> None:
        """Sets a constant of the module for this test."""
        patcher = mock.patch.object(rlm, name, value)
        patcher.start()
        self.addCleanup(patcher.stop)

    def write(self, rng: random.Random, n_docs: int, words: Sequence[str], weights: Sequence[float],
              longest: int = 40) -> None:
        """Appends random chunks and insights, some with a summary, tags and a domain."""
        with rlm.Writer(self.view(), durable=False) as writer:
            for _ in range(n_docs):
                text, at_s = random_text(rng, words, weights, longest), NOW - rng.randrange(1000) * 3600
                tags = rng.sample(TAGS, rng.choice((0, 0, 1, 2)))
                where: dict[str, Any] = {"tags": tags, "project": rng.choice(PROJECTS), "at_s": at_s}
                if rng.random() < 0.2:
                    what: dict[str, Any] = {"category": rng.choice(rlm.CATEGORIES),
                                            "importance": rng.choice(rlm.IMPORTANCES)}
                    rlm.remember(writer, text, **what, **where)
                else:
                    what = {"summary": rng.choice(words) + " é", "domain": rng.choice(DOMAINS)}
                    rlm.save_chunk(writer, text, ticket="", chunk_type="session", **what, **where)
                record = writer.records[-1]
                self.rows.append(Row(kind=record["k"], id=record["id"], text=text, **what, **where))

    def forget(self, ordinals: Iterable[int], *, undo: bool = False) -> None:
        """Forgets documents, or brings them back."""
        with rlm.Writer(self.view(), durable=False) as writer:
            for ordinal in ordinals:
                rlm.forget(writer, self.rows[ordinal].id, undo=undo)
                self.rows[ordinal].is_alive = undo

    def purge(self, ordinals: Iterable[int]) -> None:
        """Purges documents; a purge record is a document of its own."""
        docs = purge(self.view(), [self.rows[ordinal].id for ordinal in ordinals])
        for doc in docs:
            row = self.rows[doc.ordinal]
            row.is_alive, row.counts_in_statistics = False, doc.ordinal < self.n_indexed
            self.rows.append(Row(kind="purge", id=doc.id, is_alive=False))

    def catch_up(self, max_docs: int = 1 << 30) -> rlm.View:
        """Brings the index up to date; the view."""
        view = self.view()
        self.assertTrue(rlm.catch_up(view, max_docs=max_docs))
        self.n_indexed = len(self.rows)
        self.assertEqual((view.index.n_docs, view.tail.docs), (self.n_indexed, []))
        return view

    def catch_up_unchecked(self) -> rlm.View:
        """The same for a store that was written without `rows`."""
        view = self.view()
        self.assertTrue(rlm.catch_up(view))
        self.assertEqual(view.tail.docs, [])
        return view

    def assert_ranks(self, view: rlm.View, query: str, filters: dict[str, str], limit: int) -> int:
        """Compares `rank` with brute force; how many documents match."""
        allowed = rlm.in_scope(view, rlm.Scope(**filters))
        fitting = in_scope(self.rows, filters) & {i for i, row in enumerate(self.rows) if row.is_alive}
        self.assertEqual(set(rlm.ordinals_in(allowed)), fitting, filters)
        scores = {i: s for i, s in brute_force(self.rows, query).items() if i in fitting}
        asked = rlm.Query(view, query)
        found, delta = rlm.ranked(asked, allowed, limit), 2 * asked.unit * (1 + len(asked.lists))  # sums are rounded
        best = sorted(scores.values(), reverse=True)[:limit]
        what = (query, filters, limit)
        self.assertEqual(len(found), len(best), what)
        for (score, ordinal), expected in zip(found, best):
            self.assertAlmostEqual(score, expected, delta=delta, msg=what)
            self.assertAlmostEqual(score, scores[ordinal], delta=delta, msg=what)
        self.assertEqual(len({ordinal for _, ordinal in found}), len(found), what)
        return len(scores)


def random_filters(rng: random.Random) -> dict[str, str]:
    """Filters, mostly none; names in another case or without accents now and then."""
    days = sorted(rlm.stamp(NOW - rng.randrange(1000) * 3600) for _ in range(2))
    choices = {"kind": ("chunk", "insight"), "project": (*PROJECTS, "CAFE", "nobody"), "domain": ("API", "donnees"),
               "tags": ("keep", "ete", "deploy,WIP"), "entity": ("conn", "e", "reset"), "date_from": (days[0],),
               "date_to": (days[1],), "importance": ("high", "medium"), "category": ("decision", "fact")}
    return {name: rng.choice(choices[name]) for name in rng.sample(sorted(choices), rng.choice((0, 0, 1, 1, 2, 3)))}


def random_query(rng: random.Random, words: Sequence[str], weights: Sequence[float]) -> str:
    """Some words, common or rare, some twice, all of which some text may hold."""
    picked = rng.choices(words, weights, k=rng.randint(1, 5)) + rng.choices(words, k=rng.choice((0, 1, 3)))
    return " ".join(picked + picked[: rng.choice((0, 0, 1))])


class RankTest(IndexCase):
    def random_store(self, rng: random.Random, words: Sequence[str], weights: Sequence[float]) -> None:
        """Segments of several sizes, merged and not, a tail, and dead documents in all of them."""
        for _ in range(rng.randint(1, 6)):
            self.write(rng, rng.choice((1, 3, 9, 25, 60)), words, weights)
            alive = [i for i, row in enumerate(self.rows) if row.is_alive]
            dying = rng.sample(alive, min(len(alive) // 2, rng.choice((0, 1, 4, 6))))
            self.forget(dying[2:])
            self.purge(dying[:2])
            if rng.random() < 0.3:
                self.forget(dying[3:], undo=True)
            if rng.random() < 0.7:
                self.catch_up(rng.choice((1, 40, 1 << 30)))
        if rng.random() < 0.5:
            self.write(rng, 5, words, weights)

    def test_the_ranking_is_that_of_brute_force(self) -> None:
        seed, n_segments = random.randrange(1 << 32), set()
        rng, seen = random.Random(seed), Counter[str]()
        with self.subTest(seed=seed), mock.patch.object(rlm, "nearest_words", lambda *_: []):
            for n_round in range(8):
                self.start_over(n_round)
                words, weights = zipf_words(rng, 60)
                with mock.patch.multiple(rlm, COLUMN_SHARE=rng.choice((1, 2, 3, 8)),
                                         SEGMENT_MAX_DOCS=rng.choice((5, 20, 8192))):
                    self.random_store(rng, words, weights)
                view = self.view()
                n_segments.add(len(view.index.segments))
                seen["columns"] += any(len(s.column_numbers) for s in view.index.segments)
                seen["tail"] += bool(view.tail.docs)
                seen["dead"] += 0 in view.alive_mask()
                for _ in range(12):
                    filters = random_filters(rng)
                    seen["filtered" if filters else "matches"] += self.assert_ranks(
                        view, random_query(rng, words, weights), filters, rng.choice((1, 2, 5, 20, 1000)))
            self.assertGreater(len(n_segments), 2)
            for what, least in (("columns", 1), ("tail", 1), ("dead", 1), ("filtered", 25), ("matches", 100)):
                self.assertGreaterEqual(seen[what], least, what)

    def test_no_shortcut_loses_one_of_the_best_in_a_large_segment(self) -> None:
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)
        with self.subTest(seed=seed), mock.patch.object(rlm, "nearest_words", lambda *_: []):
            words, weights = zipf_words(rng, 100)
            self.write(rng, 1400, words, weights, longest=30)
            self.forget(rng.sample(range(1400), 60))
            view = self.catch_up()
            self.write(rng, 150, words, weights, longest=30)
            self.forget(rng.sample(range(1400, 1550), 20))
            view.refresh()
            self.assertGreater(len(view.index.segments[0].column_numbers), 5)
            n_narrow, narrow = 0, {"kind": "insight", "category": "decision"}  # so few that each is scored by itself
            with mock.patch.object(rlm, "scores_of_few", wraps=rlm.scores_of_few) as of_few:
                for _ in range(12):
                    common = rng.sample(words[:12], rng.randint(1, 4))
                    rare = rng.sample(words[40:], rng.choice((0, 1, 2)))
                    self.assert_ranks(view, " ".join(common + rare), {}, rng.choice((1, 3, 10, 40, 400)))
                    n_narrow += self.assert_ranks(view, " ".join(common + rare), narrow, rng.choice((1, 3, 10, 40)))
            self.assertGreater(n_narrow, 12)
            self.assertGreaterEqual(of_few.call_count, 12)

    def test_documents_with_only_the_least_telling_word_are_found_too(self) -> None:
        rng = random.Random(1)
        self.write(rng, 40, ["alpha"], [1.0], longest=3)
        self.write(rng, 8, ["alpha", "beta"], [0.2, 0.8], longest=20)
        view = self.catch_up()
        self.assertGreater(len(view.index.segments[0].column_numbers), 1)
        self.assertEqual(self.assert_ranks(view, "alpha beta", {}, 100), 48)

    def test_the_newest_are_the_same_however_many_there_are(self) -> None:
        rng = random.Random(11)
        self.write(rng, 700, ["é"], [1.0], longest=2)
        self.catch_up()
        self.write(rng, 400, ["日本"], [1.0], longest=2)
        self.forget(rng.sample(range(1100), 50))
        view = self.view()
        for ordinals in (range(1100), rng.sample(range(1100), 1060), rng.sample(range(1100), 300), []):
            alive = [i for i in ordinals if self.rows[i].is_alive]
            order = sorted(alive, key=lambda i: (self.rows[i].at_s, i), reverse=True)
            for limit in (1, 7, 1005, 1 << 30):
                self.assertEqual([doc.ordinal for doc in rlm.newest(view, alive, limit)], order[:limit])

    def test_of_equals_the_newer_comes_first(self) -> None:
        with rlm.Writer(self.view(), durable=False) as writer:
            for project in "abcdefgh":
                rlm.save_chunk(writer, "le même texte " + HARD, summary="s", tags=[], project=project, ticket="",
                               domain="", chunk_type="session", at_s=NOW)
        for view in (self.view(), self.catch_up_unchecked()):
            self.assertEqual([ordinal for _, ordinal in rank(view, "texte", None, 5)], [7, 6, 5, 4, 3])

    def test_a_query_without_words_or_matches_finds_nothing(self) -> None:
        self.write(random.Random(1), 20, WORDS, [1.0] * len(WORDS))
        for view in (self.view(), self.catch_up()):
            for query in ("", " ", "?!", "\U0001f600", "\ud800", "\0", "zzzzzzzz 9999999"):
                self.assertEqual(rank(view, query), [], query)
            self.assertEqual(rank(view, "deploy", bytes(view.n_docs())), [])
        self.start_over(1)
        self.assertEqual(rank(self.view(), "deploy"), [])

    def test_code_zero_is_worth_nothing_and_every_posting_has_another(self) -> None:
        for average in (0.0, 1.0, 250.0, 1e6):
            self.assertEqual(rlm.code_weights(average)[0], 0.0)
        codes = {1 + rlm.FREQUENCY_CODES[min(n, 8)] + rlm.length_class(length)
                 for n in (1, 2, 3, 5, 100, 1 << 20) for length in (0, 1, 7, 300, 1 << 30)}
        self.assertTrue(0 < min(codes) <= max(codes) < len(rlm.code_weights(1.0)) <= 256)


class LendTest(IndexCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch("LEND_TOKENS", 120)
        self.patch("LEND", {1: 0.3, 2: 0.15})

    def turns(self, texts: Sequence[tuple[str, str]]) -> None:
        """Stores (session, text) pairs as chunks that follow one another."""
        with rlm.Writer(self.view(), durable=False) as writer:
            for session, text in texts:
                rlm.save_chunk(writer, text, summary="x", tags=[], project="p", ticket="", domain="",
                               chunk_type="session", at_s=NOW, session=session)

    def test_short_neighbours_of_one_session_lend_each_other_score(self) -> None:
        self.turns([("s", "one é"), ("s", "two"), ("s", "the needle here"), ("s", "four"), ("other", "five"),
                    ("s", "six " + "long " * 400), ("s", "seven")])
        for view in (self.view(), self.catch_up_unchecked()):
            scores = {ordinal: score for score, ordinal in rank(view, "needle")}
            self.assertEqual(sorted(scores), [0, 1, 2, 3])
            for ordinal, share in ((0, 0.15), (1, 0.3), (3, 0.3)):
                self.assertAlmostEqual(scores[ordinal] / scores[2], share)

    def test_neighbours_lend_across_the_borders_of_segments(self) -> None:
        self.turns([("s", f"turn {n} é" + (" needle" if n % 7 == 3 else "")) for n in range(40)])
        whole = rank(self.view(), "needle turn", None, 30)
        with mock.patch.object(rlm, "SEGMENT_MAX_DOCS", 5):
            rlm.catch_up(self.view(), max_docs=1)
        view = self.view()
        self.assertEqual(len(view.index.segments), 8)
        for (score, ordinal), (expected, wanted) in zip(rank(view, "needle turn", None, 30), whole):
            self.assertEqual(ordinal, wanted)
            self.assertAlmostEqual(score, expected, delta=0.01)

    def test_what_is_dead_or_out_of_scope_borrows_nothing(self) -> None:
        self.turns([("s", "one é"), ("s", "the needle here"), ("s", "three")])
        with rlm.Writer(self.view()) as writer:
            rlm.forget(writer, writer.view.doc(0).id, undo=False)
        for view in (self.view(), self.catch_up_unchecked()):
            self.assertEqual([o for _, o in rank(view, "needle")], [1, 2])
            self.assertEqual([o for _, o in rank(view, "needle", b"\0\xff\0")], [1])


class SegmentTest(IndexCase):
    def docs_and_records(self, n_docs: int, rng: random.Random) -> tuple[list[rlm.Doc], dict[int, rlm.Record]]:
        """The documents of a random store, none indexed, and their records by ordinal."""
        words, weights = zipf_words(rng, 30)
        self.write(rng, n_docs, words, weights)
        view = self.view()
        return view.tail.docs, {doc.ordinal: view.record(doc) for doc in view.tail.docs}

    def batch(self, docs: Sequence[rlm.Doc], records: dict[int, rlm.Record]) -> rlm.Batch:
        """These documents in memory."""
        batch = rlm.Batch(docs[0].ordinal, lambda doc: records[doc.ordinal])
        batch.docs += docs
        return batch

    def opened(self, data: bytes) -> rlm.Segment:
        """The segment, read from a file."""
        path = os.path.join(self.home, f"segment-{random.randrange(1 << 60)}")
        with open(path, "wb") as file:
            file.write(data)
        return rlm.Segment(path)

    def test_a_merged_segment_is_the_segment_of_all_its_documents(self) -> None:
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)
        with self.subTest(seed=seed):
            for n_round in range(5):
                self.start_over(n_round)
                docs, records = self.docs_and_records(rng.choice((4, 20, 60, 130)), rng)
                with mock.patch.multiple(rlm, COLUMN_SHARE=rng.choice((1, 2, 8)), BLOCK_TERMS=rng.choice((1, 5, 256))):
                    cuts = sorted({0, len(docs), *(rng.randrange(len(docs)) for _ in range(rng.randint(1, 9)))})
                    parts = [self.opened(self.batch(docs[a:b], records).packed()) for a, b in zip(cuts, cuts[1:])]
                    merged = rlm.merged_file(parts, lambda: None)
                    self.assertEqual(merged, self.batch(docs, records).packed())

    def test_every_term_and_every_posting_comes_back_in_whatever_form_it_is_kept(self) -> None:
        docs, records = self.docs_and_records(40, random.Random(7))
        batch = self.batch(docs, records)
        batch.enter()
        self.assertGreater(len(batch.lists), 300)
        for share, block_terms in ((1, 1), (8, 7), (39, 256), (8, 100_000)):
            with mock.patch.multiple(rlm, COLUMN_SHARE=share, BLOCK_TERMS=block_terms):
                segment = self.opened(batch.packed())
                self.assertEqual(len(segment.column_numbers), sum(len(p) > 40 // share for p in batch.lists.values()))
                for term, postings in batch.lists.items():
                    found = segment.postings(term)
                    codes = found.codes or found.column.replace(b"\0", b"")
                    self.assertEqual([row << 8 | code for row, code in zip(found.all_rows(), codes)], list(postings), term)
                    self.assertEqual(found.n_docs(), len(postings))
                for term in ("", "\x01", "zzzz", "deplo", "deployx", "\U0010ffff"):
                    self.assertEqual(segment.postings(term).n_docs(), 0, term)
                for prefix in ("", rlm.BY_ID, rlm.BY_TAG, "d", "deploy", "zzzz", "\U0010ffff"):
                    expected = sorted(term for term in batch.lists if term.startswith(prefix))
                    self.assertEqual(list(segment.terms_from(prefix)), expected, prefix)
                    self.assertEqual(list(batch.terms_from(prefix)), expected, prefix)

    def test_terms_are_found_by_their_parts(self) -> None:
        batch = self.batch(*self.docs_and_records(30, random.Random(3)))
        segment = self.opened(batch.packed())
        terms = list(segment.terms_from(""))
        words = [t for t in terms if t >= " "]
        self.assertEqual(segment.vocabulary().decode(), "\n" + "".join(word + "\n" for word in words))
        self.assertEqual(batch.vocabulary(), segment.vocabulary())
        for part in ("e", "ar", "été", "ete", "日本", "語", "rare1", "parseconfigfile", "zzzz", words[0], words[-1]):
            found = segment.numbers_holding(part)
            self.assertEqual([terms[n] for n in found or ()], [w for w in words if part in w], part)
        self.assertEqual(segment.numbers_holding("e", limit=3), None)
        for n in range(1, 30):
            plain = [w for w in words if len(w) == n and w.isascii() and w.isalpha()] if n <= rlm.LONGEST_PLAIN else []
            self.assertEqual(segment.plain_words(n).decode().split(), plain, n)

    def test_an_empty_vocabulary_has_no_words(self) -> None:
        doc = rlm.doc_of({"k": "purge", "id": "p_é"}, 0, 0, 9)
        assert doc
        segment = self.opened(self.batch([doc], {0: {}}).packed())
        self.assertEqual((segment.vocabulary(), segment.numbers_holding("p")), (b"\n", []))
        self.assertEqual(list(segment.postings("\x01ip_é").rows), [0])

    def test_what_is_no_segment_is_refused(self) -> None:
        docs, records = self.docs_and_records(3, random.Random(1))
        good = self.batch(docs, records).packed()
        self.assertEqual(self.opened(good).n_docs, 3)
        for bad in (b"", b"x", good[:9], good[:100], b"RLMSEG99" + good[8:], bytes(4096), good[:16] + b"\xff" * 99):
            with self.assertRaises(rlm.Damaged):
                self.opened(bad)

    def test_a_segment_cut_while_it_is_open_is_an_error_and_no_signal(self) -> None:
        docs, records = self.docs_and_records(20, random.Random(1))
        segment = self.opened(self.batch(docs, records).packed())
        os.truncate(segment.path, 700)
        with self.assertRaises(rlm.IndexDamaged):
            segment.postings("deploy")

    def test_the_number_of_segments_stays_logarithmic(self) -> None:
        sizes: list[Any] = []
        n_merged_docs, most = 0, 0
        for n in range(1, 5001):
            sizes.append(SimpleNamespace(n_docs=1))
            start, end = rlm.mergeable(sizes, 1 << 30)
            if end:
                n_docs = sum(s.n_docs for s in sizes[start:end])
                sizes[start:end] = [SimpleNamespace(n_docs=n_docs)]
                n_merged_docs += n_docs
            self.assertLessEqual(len(sizes), math.log2(n) + 4)
            most = max(most, len(sizes))
        self.assertEqual(sum(s.n_docs for s in sizes), 5000)
        self.assertGreater(most, 5)
        self.assertLess(n_merged_docs, 5000 * 1.5 * math.log2(5000))

    def test_no_merge_is_larger_than_allowed(self) -> None:
        sizes: list[Any] = []
        for _ in range(5000):
            sizes.append(SimpleNamespace(n_docs=1))
            start, end = rlm.mergeable(sizes, 256)
            if end:
                sizes[start:end] = [SimpleNamespace(n_docs=sum(s.n_docs for s in sizes[start:end]))]
        self.assertLessEqual(max(s.n_docs for s in sizes), 256)
        self.assertLess(len(sizes), 5000 / 256 * 3 + 12)


class Score(float):
    """A score; those that differ by what is rounded off its sums are equal."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) < 0.02

    __hash__ = None  # type: ignore[assignment]


class KeepingUpTest(IndexCase):
    QUERIES = ("deploy", "deployment errors", "été déploiements", "日本語 検索", "parse config file", "the rare3 a",
               "memoire")

    def answers(self, view: rlm.View) -> list[Any]:
        """What a reader can ask of an index."""
        n_all = 1 << 20
        scores = [{ordinal: Score(score) for score, ordinal in rank(view, query, None, n_all)}
                  for query in self.QUERIES]
        hits = [[hit.doc.id for hit in rlm.grep(view, pattern, rlm.Scope(), 1000, lambda: None)[0]]
                for pattern in ("deploy", "rare1", "設定", "t.*t", "CAFÉ")]
        keys = [sorted(set(view.keys(rlm.BY_PROJECT + "\t" + rlm.folded(name)))) for name in PROJECTS]
        docs = [[getattr(doc, name) for name in rlm.Doc.__slots__ if name != "life"] + [
                    getattr(doc.life, name) for name in rlm.STATE]
                for doc in map(view.doc, range(view.n_docs()))]
        return [scores, hits, keys, docs, view.alive_mask(), sorted(view.terms_from(rlm.BY_TAG))]

    def some_events(self, rng: random.Random) -> None:
        """Forgets, brings back, archives, restores and uses some documents."""
        chunks = [i for i, row in enumerate(self.rows) if row.is_alive and row.kind == "chunk"]
        self.forget(rng.sample(chunks, min(3, len(chunks))))
        self.forget([i for i, row in enumerate(self.rows) if not row.is_alive][:1], undo=True)
        view = self.view()
        chunks = [i for i, row in enumerate(self.rows) if row.is_alive and row.kind == "chunk"]
        rlm.archive_docs(view, [view.doc(i) for i in rng.sample(chunks, min(3, len(chunks)))], NOW)
        rlm.append_uses(view, {self.rows[i].id: 2 for i in chunks[:2]})

    def test_an_index_kept_up_answers_as_one_rebuilt_and_as_none_at_all(self) -> None:
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)
        with self.subTest(seed=seed):
            words, weights = zipf_words(rng, 30)
            for _ in range(12):
                self.write(rng, rng.choice((5, 7, 15)), words, weights)
                self.some_events(rng)
                if rng.random() < 0.8:
                    self.catch_up(rng.choice((30, 1 << 30)))
            kept_up = self.view()
            answers = self.answers(kept_up)
            self.assertGreater(len(kept_up.index.segments), 0)
            self.assertTrue(all(answers))
            self.assertGreater(sum(map(len, answers[0])), 10)
            self.assertGreater(sum(map(len, answers[1])), 5)
            shutil.rmtree(self.places.index)
            without = self.view()
            self.assertEqual(without.index.segments, [])
            self.assertEqual(self.answers(without), answers)
            with mock.patch.object(rlm, "SEGMENT_MAX_DOCS", 16):
                self.assertTrue(rlm.catch_up(rebuilt := self.view(), max_docs=1))
            self.assertGreater(len(rebuilt.index.segments), 3)
            self.assertEqual({s.n_docs for s in rebuilt.index.segments[:-1]}, {16})
            self.assertEqual(self.answers(rebuilt), answers)
            self.assertTrue(rlm.catch_up(rebuilt))
            self.assertLess(len(rebuilt.index.segments), 4)
            self.assertEqual(self.answers(rebuilt), answers)

    def test_two_processes_build_the_index_that_one_builds(self) -> None:
        rng = random.Random(3)
        words, weights = zipf_words(rng, 30)
        self.write(rng, 130, words, weights)
        self.some_events(rng)
        answers, real = self.answers(self.view()), rlm.Builder.order
        for dies in ("never", "after an order", "before an order"):
            shutil.rmtree(self.places.index, ignore_errors=True)
            pids: set[int] = set()

            def end(builder: rlm.Builder) -> None:
                os.kill(builder.pid, signal.SIGKILL)
                if hasattr(os, "waitid"):  # its end of the pipe is closed
                    os.waitid(os.P_PID, builder.pid, os.WEXITED | os.WNOWAIT)

            def order(builder: rlm.Builder, docs: Sequence[rlm.Doc], path: str, dies: str = dies,
                      pids: set[int] = pids) -> bool:
                if dies == "before an order" and builder.pid:
                    end(builder)
                done = real(builder, docs, path)
                pids.add(builder.pid)
                if dies == "after an order" and len(pids) == 1:
                    end(builder)
                return done

            with mock.patch.multiple(rlm, SEGMENT_MAX_DOCS=7, BUILT_MAX_DOCS=50), \
                    mock.patch.object(rlm.Builder, "order", order):
                self.assertTrue(rlm.catch_up(view := self.view(), max_docs=1, fork=True))
            self.assertEqual(len(pids), 1)
            self.assertGreater(len(view.index.segments), 15)
            self.assertEqual(self.answers(view), answers)
            self.assertEqual(self.answers(self.view()), answers)

    def test_a_view_that_stays_open_sees_what_others_do(self) -> None:
        rng = random.Random(5)
        words, weights = zipf_words(rng, 30)
        self.write(rng, 20, words, weights)
        view = self.view()
        for n_round in range(6):
            self.write(rng, 5, words, weights)
            self.some_events(rng)
            if n_round & 1:
                self.catch_up()
            self.assertEqual(self.answers(view.refresh())[1:], self.answers(self.view())[1:])
            self.assertEqual(view.index.n_docs, self.n_indexed)

    def test_files_of_the_index_that_are_not_what_was_written_are_noticed(self) -> None:
        rng = random.Random(9)
        words, weights = zipf_words(rng, 10)
        for _ in range(3):
            self.write(rng, 12, words, weights)
            self.some_events(rng)
            self.catch_up()
        answers = self.answers(self.view())
        names = [n for n in sorted(os.listdir(self.places.index)) if n != "lock"]
        self.assertEqual(len(names), 5)
        backup = shutil.copytree(self.places.index, os.path.join(self.home, "backup"))
        for name in names:
            for how in ("removed", "empty", "cut", "foreign", "changed", "folder"):
                with self.subTest(name=name, how=how):
                    path = os.path.join(self.places.index, name)
                    data = rlm.read_file(path)
                    changed = {"empty": b"", "cut": data[:-2], "foreign": b"\0" * len(data),
                               "changed": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]}.get(how)
                    written_ns = os.stat(path).st_mtime_ns
                    os.unlink(path)
                    if how == "folder":
                        os.mkdir(path)
                    elif changed is not None:
                        rlm.replace_file(path, changed)
                    if how == "cut":  # its time may be right
                        os.utime(path, ns=(written_ns, written_ns))
                    view = self.view()
                    if (name[:7], how) != ("current", "changed"):  # what a changed sum says of a file is not believed
                        self.assertEqual(view.index.n_docs, 0)
                    self.assertEqual(self.answers(view), answers)
                    if how == "folder":
                        os.rmdir(path)
                    self.assertEqual(self.answers(self.catch_up()), answers)
                    shutil.rmtree(self.places.index)
                    shutil.copytree(backup, self.places.index)

    def test_an_index_of_another_version_or_store_is_not_used(self) -> None:
        for seed in (2, 3):
            self.write(random.Random(seed), 5, WORDS, [1.0] * len(WORDS))
            self.catch_up(1)
        path = self.places.current(1)
        good = rlm.decode_line(rlm.read_file(path)) or {}
        for key, value in (("v", 99), ("words", 99), ("store", "é"), ("covers", 1), ("covers", -1), ("covers", 1e400),
                           ("check", 0), ("files", []), ("files", "x"), ("files", [[1]]), ("files", good["files"][1:]),
                           ("files", good["files"][:1] + good["files"][2:]), ("n_damaged", None)):
            rlm.replace_file(path, rlm.encode_record({**good, key: value}))
            self.assertEqual(self.view().index.n_docs, 0, (key, value))
        for data in (b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000):
            rlm.replace_file(path, data)
            self.assertEqual(self.view().index.n_docs, 0, data[:9])
        rlm.replace_file(path, rlm.encode_record(good))
        self.assertEqual(self.view().index.n_docs, 10)

    def test_a_log_put_back_from_a_backup_is_noticed(self) -> None:
        self.write(random.Random(2), 10, WORDS, [1.0] * len(WORDS))
        backup = self.log_bytes()
        self.write(random.Random(3), 10, WORDS, [1.0] * len(WORDS))
        self.catch_up()
        rlm.replace_file(self.places.log(1), backup)
        del self.rows[10:]
        self.write(random.Random(4), 15, WORDS, [1.0] * len(WORDS))
        view = self.view()
        self.assertEqual(view.index.n_docs, 0)
        self.assertEqual([doc.id for doc in view.tail.docs], [row.id for row in self.rows])
        self.assertEqual(self.catch_up().index.n_docs, 25)

    def test_a_copied_index_is_summed_up_and_believed(self) -> None:
        self.write(random.Random(2), 10, WORDS, [1.0] * len(WORDS))
        self.catch_up()
        for name in os.listdir(self.places.index):
            os.utime(os.path.join(self.places.index, name), ns=(5, 5))
        self.assertEqual(self.view().index.n_docs, 10)

    def test_an_index_replaced_while_it_is_opened_is_opened_again(self) -> None:
        rng = random.Random(4)
        for _ in range(4):
            self.write(rng, 5, WORDS, [1.0] * len(WORDS))
            self.catch_up(1)
        view, real = rlm.View(self.places), rlm.checked_cache
        n_calls = 0

        def checked(folder: str, entry: list[Any]) -> str:
            nonlocal n_calls
            n_calls += 1
            if n_calls == 2:  # another process merges the segments at this moment
                with mock.patch.object(rlm, "checked_cache", real):
                    self.catch_up()
            return real(folder, entry)

        with mock.patch.object(rlm, "checked_cache", checked):
            view.refresh()
        self.assertEqual(n_calls, 4)
        self.assertEqual((len(view.index.segments), view.index.n_docs, view.tail.docs), (1, 20, []))

    def test_a_line_that_cannot_be_read_when_it_is_indexed_keeps_its_id(self) -> None:
        self.write(random.Random(2), 3, WORDS, [1.0] * len(WORDS))
        real = rlm.record_of

        def record_of(log: rlm.Log, opened: dict[int, list[bytes]], doc: rlm.Doc) -> rlm.Record:
            if doc.ordinal == 1:
                raise rlm.Damaged("gone")
            return real(log, opened, doc)

        with mock.patch.object(rlm, "record_of", record_of):
            view = self.view()
            self.assertTrue(rlm.catch_up(view))
        self.assertEqual([view.ordinal_of(row.id) for row in self.rows], [0, 1, 2])
        self.assertEqual([doc.n_tokens > 0 for doc in map(view.doc, range(3))], [True, False, True])


class LookupTest(TempHome):
    """Every look-up of a View against a dict, under random operations."""

    def setUp(self) -> None:
        super().setUp()
        self.start_over(0)

    def start_over(self, n_store: int) -> None:
        """Goes on with an empty store."""
        self.places = rlm.Places(os.path.join(self.home, f"store {n_store} é"))
        self.model: dict[str, dict[str, Any]] = {}
        self.n_texts = 0
        self.long_lived = rlm.View(self.places)

    def picked(self, rng: random.Random, **wanted: Any) -> list[str]:
        """Up to three ids of documents with these facts."""
        ids = [i for i, entry in self.model.items() if all(entry[key] == value for key, value in wanted.items())]
        return rng.sample(ids, min(len(ids), rng.randint(1, 3)))

    def add(self, rng: random.Random, view: rlm.View, kind: str) -> None:
        """Stores a text, now and then one that is known."""
        texts = [e["text"] for e in self.model.values()]
        self.n_texts += 1
        text = rng.choice(texts) if texts and rng.random() < 0.2 else f"text {self.n_texts} {HARD}"
        project, at_s = rng.choice(("shop", "Café au lait", "日本")), NOW + rng.randrange(3) * 86400
        known = [i for i, e in self.model.items() if (e["kind"], e["project"], e["text"]) == (kind, project, text)
                 and not e["forgotten"] and not e["purged"]]
        with rlm.Writer(view, durable=False) as writer:
            if kind == "chunk":
                new_id, is_new = rlm.save_chunk(
                    writer, text, summary="é", tags=[], project=project, ticket=rng.choice(("", "T-1")),
                    domain=rng.choice(("", "api")), chunk_type=rng.choice(rlm.CHUNK_TYPES), at_s=at_s)
            else:
                new_id, is_new = rlm.remember(writer, text, category="fact", importance="low", tags=[], project=project,
                                              at_s=at_s)
            self.assertEqual(is_new, not known)
            self.assertEqual(new_id in known, bool(known))
            if is_new:
                self.assertNotIn(new_id, self.model)
                tier = rlm.first_tier(kind, writer.records[-1].get("type", ""))
                self.model[new_id] = {"kind": kind, "text": text, "project": project, "first_tier": tier, "uses": 0,
                                      "archived": False, "forgotten": False, "purged": False}

    def operate(self, rng: random.Random, view: rlm.View, operation: str) -> None:
        """Carries out one operation on the store and on the model."""
        if operation in ("chunk", "insight"):
            self.add(rng, view, operation)
        elif operation in ("forget", "undo"):
            with rlm.Writer(view, durable=False) as writer:
                for i in self.picked(rng, forgotten=operation == "undo", purged=False):
                    rlm.forget(writer, i, undo=operation == "undo")
                    self.model[i]["forgotten"] = operation == "forget"
        elif operation == "use":
            for i in self.picked(rng, purged=False):
                rlm.append_uses(view, {i: 3})
                self.model[i]["uses"] += 3
        elif operation == "archive":
            ids = self.picked(rng, kind="chunk", archived=False, forgotten=False, purged=False)
            self.assertEqual(rlm.archive_docs(view, [view.doc(view.ordinal_of(i)) for i in ids], NOW), len(ids))
            for i in ids:
                self.model[i]["archived"] = True
        elif operation == "restore":
            for i in self.picked(rng, archived=True, forgotten=False, purged=False)[:1]:
                with rlm.Writer(view, durable=False) as writer:
                    self.assertTrue(rlm.restore(writer, i)[1])
                self.model[i].update(archived=False, uses=self.model[i]["uses"] + 1)
        elif operation == "purge":
            ids = self.picked(rng, forgotten=True, purged=False) + self.picked(
                rng, archived=True, forgotten=False, purged=False)[:1]
            purge(view, ids)
            for i in ids:
                self.model[i]["purged"] = True
        elif operation == "compact":
            rlm.rewrite(view)
        elif operation == "reindex":
            shutil.rmtree(self.places.index, ignore_errors=True)
            self.assertTrue(rlm.catch_up(view))
        else:
            self.assertTrue(rlm.catch_up(view, max_docs=rng.choice((1, 8, 1000))))

    def flags(self, doc_id: str) -> int:
        """Why the document is dead, 0 when it is not."""
        entry = self.model[doc_id]
        return rlm.PURGED if entry["purged"] else rlm.FORGOTTEN if entry["forgotten"] else 0

    def check_documents(self, view: rlm.View) -> None:
        """Compares every document."""
        alive = {i for i in self.model if not self.flags(i)}
        self.assertEqual({doc.id for doc in view.alive()}, alive)
        for i, entry in self.model.items():
            doc = view.doc(view.ordinal_of(i))
            self.assertEqual((doc.id, doc.life.flags, doc.project), (i, self.flags(i), entry["project"]))
            if not entry["purged"]:
                self.assertEqual((doc.kind, doc.life.uses), (entry["kind"], entry["uses"]), i)
                self.assertEqual(view.record(doc)["text"], entry["text"], i)
            if i in alive:
                self.assertEqual(doc.life.tier, 3 if entry["archived"] else entry["first_tier"], i)
        self.assertEqual(set(rlm.ordinals_in(view.alive_mask())), {view.ordinal_of(i) for i in alive})

    def check_lookups(self, rng: random.Random, view: rlm.View) -> None:
        """Compares look-ups by id, part of an id, number and digest."""
        for wanted in ("", "x", "\x01", "2026", "i-", "2026-05-28_shop_001x", "é_日本_1"):
            self.assertEqual(view.ordinal_of(wanted), -1, wanted)
        for i in rng.sample(sorted(self.model), min(len(self.model), 8)):
            prefix, limit = i[: rng.randint(0, len(i))], rng.choice((1, 3, 100))
            for accepted in (0, rlm.FORGOTTEN, rlm.FORGOTTEN | rlm.PURGED):
                ids = [j for j in sorted(self.model) if j.startswith(prefix) and not self.flags(j) & ~accepted]
                self.assertEqual(view.ids_from(prefix, limit, accepted), ids[:limit], (prefix, limit, accepted))
            text = self.model[i]["text"]
            same = {j for j, e in self.model.items() if e["text"] == text and not self.flags(j)}
            found = [view.doc(o) for o in view.same_text(rlm.digest(text))]
            self.assertEqual({doc.id for doc in found if not doc.life.flags}, same)
            if self.model[i]["kind"] == "chunk":
                day, project, number = i.split("_")[:3]
                numbers = {j.split("_")[2] for j in self.model if j.startswith(f"{day}_{project}_")}
                self.assertEqual(view.numbers_of(f"{day}_{project}"), numbers)
                self.assertEqual(view.numbers_of(f"{day}_{project}x"), set())
        self.assertEqual(view.same_text(rlm.digest("nothing")), [])

    def test_every_lookup_agrees_with_a_dict_under_random_operations(self) -> None:
        weighted = {"chunk": 8, "insight": 3, "forget": 3, "undo": 2, "use": 4, "archive": 3, "restore": 3, "purge": 1,
                    "compact": 2, "reindex": 1, "catch up": 3}
        seed = random.randrange(1 << 32)
        rng, done = random.Random(seed), Counter[str]()
        with self.subTest(seed=seed), mock.patch.object(rlm, "sync", lambda _: None):
            for n_store in range(4):
                self.start_over(n_store)
                steps: list[str] = []
                for n in range(60):
                    operation = rng.choices(list(weighted), list(weighted.values()))[0] if n > 8 else "chunk"
                    if n_store == 0 and 20 <= n < 20 + len(weighted):  # each at least once
                        operation = list(weighted)[n - 20]
                    done[operation] += 1
                    steps.append(operation)
                    view = rng.choice((self.long_lived, self.view())).refresh()
                    with self.subTest(steps=steps[-20:]):
                        self.operate(rng, view, operation)
                        for after in (self.long_lived.refresh(), self.view()):
                            self.check_lookups(rng, after)
                            if n % 5 == 0 or operation in ("compact", "restore"):
                                self.check_documents(after)
            self.assertEqual(set(done), set(weighted))

    def test_a_living_id_is_found_behind_any_number_of_dead_ones(self) -> None:
        with rlm.Writer(self.view(), durable=False) as writer:
            for n in range(300):
                rlm.save_chunk(writer, f"é {n}", summary="", tags=[], project="p", ticket="", domain="",
                               chunk_type="session", at_s=NOW)
        view = self.view()
        self.assertTrue(rlm.catch_up(view))
        ids = view.ids_from("", 1000)
        self.assertEqual(len(ids), 300)
        purge(view, ids[:-1])
        for again in (self.view(), view.refresh()):
            self.assertEqual(again.ids_from("", 5), ids[-1:])


if __name__ == "__main__":
    unittest.main()
