"""Words: a query meets the texts that hold one of its words in any form, and no others; what is closer comes first."""
from __future__ import annotations

import random
import unicodedata
import unittest
from collections import Counter

from tests.support import rlm
from tests.test_find import PIECES, FindCase


def is_met(query: str, text: str) -> bool:
    """Whether the text has a term that the query looks up."""
    terms = rlm.count_terms(text).keys()
    for asked in rlm.query_terms(query):
        forms = {asked.base, rlm.STEM + asked.base} if asked.base else set()
        if not terms.isdisjoint({asked.word, *forms, *asked.kin}):
            return True
        if asked.is_prefix and any(rlm.is_hash(term) and term.startswith(asked.word) for term in terms):
            return True
    return False


class MeetingTest(unittest.TestCase):
    def assert_met(self, pairs: str, is_wanted: bool = True) -> None:
        """Every line "query | text" is met, or none is."""
        for line in filter(None, map(str.strip, pairs.splitlines())):
            query, _, text = line.partition(" | ")
            self.assertEqual(is_met(query, text), is_wanted, line)

    def test_particles_and_missing_blanks_hide_no_word(self) -> None:
        self.assert_met("""
            서버 | 서버를 다시 시작했습니다
            서버는 | 어제 서버가 다운되었다
            배포 | 배포했습니다
            값은 | 값이 없다
            หน่วยความจำ | เพิ่มหน่วยความจำแล้ว
            ไฟ | ระบบไฟล์
            ຖານຂໍ້ມູນ | ລະບົບຖານຂໍ້ມູນລົ້ມ
            ទិន្នន័យ | សេវាកម្មមូលដ្ឋានទិន្នន័យបានដួល
            ဒေတာ | ဆာဗာဒေတာပျက်
            超时 | 数据库连接超时，请检查网络配置
            सर्वर | सर्वर बंद है
            """)
        self.assert_met(unicodedata.normalize("NFD", "서버 | ") + "서버를 다시")
        self.assert_met("""
            자전거 | 서버를 다시 시작했습니다
            서버를 | 버튼이 없다
            """, False)

    def test_inflected_words_of_other_scripts_meet_their_forms(self) -> None:
        self.assert_met("""
            память | закончилась памяти
            сервер | на серверах и серверами
            базой данных | в базе
            файлов | файл
            скорость | скоростью
            пользователи | пользователей
            помилка | через помилки
            версія | нової версії
            خادم | توقف الخادم
            بالخادم | والخادم
            ذاكرة | الذاكرة
            שרת | השרת נפל
            מערכת | במערכת
            מסמך | המסמכים
            """)

    def test_characters_that_nobody_sees_hide_no_word(self) -> None:
        for unseen in "\u00ad\u200b\u200c\u200d\u2060\ufeff\u202d\u2066":
            self.assertEqual(rlm.count_terms(f"{unseen}data{unseen}base"), rlm.count_terms("database"), repr(unseen))
            self.assertEqual([w.word for w in rlm.query_terms(f"data{unseen}base")], ["database"])

    def test_an_emoji_is_a_word_whatever_its_colour_and_form(self) -> None:
        self.assert_met("""
            👍🏽 | 👍 done
            👍 | done👍🏿
            ❤️ | ❤ it
            🇫🇷 | the 🇫🇷 site
            👩‍💻 | 👩🏽‍💻 wrote
            plants | 🌱plants saved
            """)
        self.assert_met("🚀 | ✅ migration finished", False)

    def test_names_with_signs_are_not_the_letters_in_them(self) -> None:
        self.assert_met("""
            C++ | written in (C++17), fast
            C# | the C#/F# team
            f# | F#
            .NET | runs on .NET 8
            .net | ASP.NET core
            cpp | C++
            """)
        self.assert_met("""
            C++ | C is used
            C | written in C++
            C# | C++
            """, False)
        self.assertNotIn("dotnet", rlm.count_terms("config.NETWORK example.net"))

    def test_a_compound_is_found_however_it_is_written(self) -> None:
        for forms in (("rerun", "re-run", "re\u2011run", "re_run"), ("filename", "file_name", "file-name", "fileName"),
                      ("utf8", "utf-8", "UTF_8"), ("login", "log-in")):
            for query in forms:
                for text in forms:
                    self.assertTrue(is_met(query, f"the {text} of it"), (query, text))
        self.assert_met("""
            file name | the filename
            time out | a timeout
            SHOP-499 | fixes SHOP499
            shop499 | branch feature/SHOP-499-retry
            """)
        self.assertNotIn("puisje", rlm.count_terms("Puis-je le faire ?"))

    def test_a_hash_is_found_by_its_first_digits_and_by_its_short_form(self) -> None:
        full = "3f2a9bc1d4e5f60718293a4b5c6d7e8f90a1b2c3"
        for n_digits in (7, 8, 12, 40):
            self.assert_met(f"{full[:n_digits]} | commit {full} was reverted")
            self.assert_met(f"{full} | commit {full[:n_digits]} was reverted")
        self.assert_met("1234567 | commit 1234567bc1d4e5f60718293a4b5c6d7e8f90a1b2")
        self.assert_met(f"""
            {full[:7]} | 3 bugs, 2 fixes, a bc calculator
            3f2a9bd | {full}
            1234567 | 12345678 rows
            """, False)

    def test_a_version_or_an_address_is_a_word_and_none_that_looks_like_it_takes_its_place(self) -> None:
        for name in ("10.0.0.8", "2.3.1", "2026.11.28"):
            for text in (f"since v{name}-rc1 of it", f"({name})", f"http://{name}:8080/x", f"pkg=={name}\n"):
                self.assertEqual(rlm.count_terms(text)[name], 1, text)
            (word,) = [w for w in rlm.query_terms(f"v{name}") if w.word == name]
            self.assertTrue(word.is_fixed)
        self.assertNotIn("10.0.0.8", rlm.count_terms("10 of 0 and 8; 10.0.0.80, 110.0.0.8, 10.0 0.8"))
        self.assert_met("v2 | release v2.3.1")

    def test_words_of_one_root_meet_and_look_alikes_do_not(self) -> None:
        pairs = """deploy/deployment auth/authentication require/requirement pay/payment fail/failure failed/failure
            easy/easily config/configuration db/database parse/parser log/logger remove/removal store/storage
            decide/decision env/environment describe/description approve/approval recover/recovery k8s/kubernetes
            read/readable select/selector submit/submission format/formatter close/closure safe/safety"""
        for one, other in (pair.split("/") for pair in pairs.split()):
            self.assertTrue(is_met(one, other) and is_met(other, one), (one, other))
        for pair in "letter/let author/auth comment/come server/serve element/ele number/numb message/mess".split():
            self.assertFalse(is_met(*pair.split("/")), pair)

    def test_what_is_a_name_or_a_number_may_not_be_replaced(self) -> None:
        fixed = {w.word for w in rlm.query_terms("SHOP-499 parseUrl is_ready 3f2a9bc 8080 xylophone front-end C++")
                 if w.is_fixed}
        self.assertEqual(fixed, {"shop", "499", "shop499", "parseurl", "parse", "url", "is_ready", "is", "ready",
                                 "isready", "3f2a9bc", "8080"})


class CountingTest(unittest.TestCase):
    def test_a_text_has_the_terms_of_its_tokens_whatever_was_counted_before(self) -> None:
        rng = random.Random(7)
        for _ in range(300):
            text = "".join(rng.choice(PIECES) + rng.choice((" ", "-", "", "_", "\n", "+")) for _ in range(8))
            expected: Counter[str] = Counter()
            for token in rlm.raw_tokens(text):
                expected.update(rlm.token_terms(token))
            if ".NET" not in text:
                self.assertEqual(rlm.count_terms(text), expected, text)

    def test_a_query_of_odd_words_is_no_error(self) -> None:
        rng = random.Random(8)
        for _ in range(2000):
            rlm.query_terms("".join(rng.choice([*PIECES, "서버", "ดิ", ".NET", "C++", "🚀"]) + rng.choice(" -_+") for _ in range(4)))

    def test_repeated_words_of_a_query_add_their_weights(self) -> None:
        weights = {w.word: w.weight for w in rlm.query_terms("Deploy deploy the DEPLOY the")}
        self.assertEqual(weights, {"deploy": 3.0, "the": 2 * rlm.STOP_WEIGHT})

    def test_identifiers_count_for_their_parts_and_hashes_do_not(self) -> None:
        self.assertLessEqual({"parseurlfast2", "parse", "url", "fast", "2"}, rlm.count_terms("parseURLFast2").keys())
        self.assertEqual(rlm.count_terms("3f2a9bc"), {"3f2a9bc": 1})


class ClosenessTest(FindCase):
    def assert_order(self, query: str, *texts: str) -> None:
        """The search puts the texts in this order, indexed or not."""
        ids = {new_id: text for text, new_id in zip(texts, self.add(texts[::-1])[::-1])}
        for _ in range(2):
            hits = rlm.best_hits(rlm.Query(self.view(), query), self.view().alive_mask(), 50)
            self.assertEqual([ids[hit.doc.id] for hit in hits if hit.doc.id in ids], list(texts), query)
            self.index()

    def test_the_word_itself_comes_before_its_kin(self) -> None:
        self.assert_order("deploy", "we deploy daily to Oslo", "we deployed daily to Bonn", "deployment of the week here")
        self.assert_order("authentication", "authentication of the users here", "the auth of all the users here")

    def test_a_hash_comes_before_texts_that_share_digits(self) -> None:
        self.add(["3 bugs, 2 fixes of f"])
        self.assert_order("3f2a9bc of", "commit 3f2a9bc1d4e5f60718293a4b5c6d7e8f90a1b2c3 of us")
        self.assertIn("3f2a9bc1", self.call("rlm_search", query="3f2a9bc of").data["hits"][0]["lines"][0]["text"])

    def test_a_hit_by_another_form_or_a_relative_shows_the_line_that_made_it_one(self) -> None:
        rows = (("rerun", "please re-run it"), ("db", "the Database is full"), ("ran", "they run é daily"),
                ("k8s", "a kubernetes node"), ("file name", "any filename é"), ("décision", "he decided so"),
                ("utf8", "all UTF_8 files"), ("값은", "서버 값이 없다"))
        ids = self.add([f"intro é {n}\n{line}\nthe rest" for n, (_, line) in enumerate(rows)])
        for (query, line), wanted in zip(rows, ids):
            found = {hit.doc.id: hit.lines for hit in rlm.search(rlm.Query(self.view(), query), self.view().alive_mask(), 50)[0]}
            self.assertEqual(found[wanted], [(2, line)], query)

    def test_a_ticket_as_a_whole_comes_before_its_number_alone(self) -> None:
        self.assert_order("SHOP-499", "fixes SHOP-499 for good", "shop of 499 things", "error 499, again 499 and 499")

    def test_a_version_as_a_whole_comes_before_its_numbers_and_an_absent_one_is_named(self) -> None:
        self.add(["10 of 0 and 8 were the 2, 3 and 1 of it, 10 and 8"])
        self.assert_order("10.0.0.8", "the host at 10.0.0.8 of us", "10 of 0 and 8, and again 10, 0, 8")
        self.assertRegex(self.call("rlm_search", query="10.0.0.9").text, r"no memory has .*10\.0\.0\.9")

    def test_a_language_comes_before_its_letter(self) -> None:
        self.assert_order("C++ engine", "the engine is in C++ now", "the engine of C is here")


if __name__ == "__main__":
    unittest.main()
