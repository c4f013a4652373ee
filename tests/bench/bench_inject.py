"""What the UserPromptSubmit hook shows: python3 -m tests.bench.bench_inject FOLDER_OF_RETRIEVAL_SETS [--floors .8,1,1.2].

Stores are built from the development halves of public sets and from coding sessions that are made up here. Printed for
each kind of store and language: of unrelated prompts how many are met with silence; of related ones how many bring up the
memory that answers ("gold"), and how many can be answered from the text that is shown ("readable": 40 characters in a row
of the turn that answers, 16 in Japanese, or that turn whole).
"""
from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.bench.bench_hooks import hook as hook_command
from tests.bench.bench_hooks import payload, program
from tests.support import rlm

N_PROMPTS = 150  # of each kind and store at most
FILLERS = 250  # turns of a coding session about something else
Turn = tuple[str, str, str]  # session, what the user says, what Claude says


class Prompt(NamedTuple):
    store: str
    kind: str  # of its row in the table
    project: str
    text: str
    golds: list[str]  # turns that answer it; none when it is unrelated


# -- coding sessions: request, what Claude concludes, a question weeks later ----

FLASK = """
Add rate limiting to the login endpoint
I put Flask-Limiter on /login with five attempts a minute per address, counted in Redis so that all workers share it.
how many login attempts per minute do we allow?
The invoice PDF takes eight seconds to build
WeasyPrint spent the time on fonts; rendering now runs in an RQ worker and the page polls /invoices/<id>/status.
where does the rendering of invoice PDFs happen now?
Users complain they are logged out every day
Sessions ended after 24 hours because PERMANENT_SESSION_LIFETIME was never set; it is 30 days now, refreshed on each request.
why were people getting logged out daily, and what is the session lifetime?
Which database should staging use?
Decided: staging runs PostgreSQL 15 like production, since SQLite hid two locking bugs from us.
which database did we choose for staging and why?
Upload of avatars fails with 413
Nginx cut bodies at 1 MB; client_max_body_size is 8m for /avatars only, and Pillow shrinks pictures to 256 pixels.
what is the upload limit for avatars?
The webhooks of the payment provider arrive twice
Each event id goes into processed_events with a unique index, and a second delivery answers 200 without doing anything.
how do we deal with duplicate payment webhooks?
Move the config out of config.py
Settings come from environment variables through pydantic-settings; only .env.example is in git.
how are settings loaded since config.py was dropped?
Tests are slow because each one creates the schema
The schema is made once per session and every test runs in a savepoint that is rolled back; 94 s became 21 s.
what did we do to make the test suite faster with savepoints?
Customers in Quebec see the wrong tax
TaxRule now keeps TPS and TVQ apart; rounding happens per invoice line, half up, as the accountant wants.
how is tax rounded for Quebec customers?
We need soft delete for customers
Customer got deleted_at, a default query that hides it, and a nightly job that removes rows after 90 days.
after how many days are soft deleted customers removed for good?
"""
RUST = """
Parsing a 2 GB log takes forever
memmap2 with memchr over the mapped bytes brought it from 41 s to 3.8 s; BufReader was copying every line.
what made parsing the big log fast, memmap or BufReader?
The CLI panics on a closed pipe
Writes to stdout return BrokenPipe now, and main maps that to exit code 0 instead of unwrapping.
what happens now when stdout is a broken pipe?
Which argument parser do we take?
We stay with clap derive; pico-args would save 300 KB but loses the completions that users asked for.
did we pick clap or pico-args?
Colours show up in files
Output is coloured only when stdout is a terminal and NO_COLOR is unset; the flag --color=always overrides both.
when is the output coloured?
Windows paths break the glob
Patterns are normalised to forward slashes before globset sees them; the UNC prefix is kept aside.
how did we fix glob patterns with Windows paths?
The release binary is 14 MB
lto = "fat", codegen-units = 1 and strip = true in the release profile: 4.1 MB, and start-up is 6 ms faster.
which profile settings shrank the release binary?
Config file location on macOS
We read XDG_CONFIG_HOME first on every system, then ~/.config/sift/config.toml; Application Support was refused.
where does sift look for its config on macOS?
Threads starve on network drives
The walker uses at most four threads when statfs says nfs or smb; elsewhere one per core.
how many walker threads on network drives?
A test fails one time in twenty
The race was in the progress bar: tick() locked after the channel had been closed. The order is swapped and loom covers it.
what was the flaky test caused by in the progress bar?
Minimum supported Rust version
MSRV is 1.74 because Debian's toolchain has that; CI builds with it on every push.
what is our minimum supported rust version?
"""
PIPELINE = """
The nightly load misses rows
Rows that arrived between the export and the watermark were skipped; the watermark is taken before the export starts now.
why did the nightly load lose rows around the watermark?
Parquet files are tiny
Partitions go by day instead of by hour and are compacted to 256 MB; queries on Athena cost a third.
how large are the compacted parquet files?
Choose an orchestrator
Decided for Dagster: assets fit our tables, and Airflow's scheduler lost two runs during the trial.
why did we decide against Airflow?
Duplicate customers after the CRM merge
Customers are matched by folded e-mail and phone in E.164; names alone are never enough.
by what are customers matched after the CRM merge?
The currency column has nulls
Null currency means EUR before March 2021, when the field was added; later nulls are rejected into quarantine.
what does a missing currency mean in old orders?
dbt models take 50 minutes
fct_orders is incremental with a three-day lookback, merged on order_id; the whole run takes 11 minutes.
how long is the lookback of fct_orders?
Schema drift from the partner feed
Unknown columns land in a JSON column named extras, and the contract test warns on Slack instead of failing.
where do unknown columns of the partner feed go?
Backfill of 2022
Backfills run by month from the oldest, with at most two in parallel, and write to a shadow table that is swapped in.
how should a backfill be run?
PII must not reach the warehouse
E-mail addresses are hashed with a salt from Vault in the ingest step; the raw bucket expires after seven days.
after how many days does the raw bucket expire?
Late events from mobile
Events up to 72 hours late are merged; older ones go to late_events and are counted on the dashboard.
how late may mobile events arrive and still be merged?
"""
FRENCH = """
La file d'attente des courriels se bloque
Le worker gardait une connexion SMTP fermée ; elle est rouverte après chaque erreur 421 et le délai est de vingt secondes.
pourquoi la file des courriels se bloquait-elle ?
Quel format pour les exports comptables ?
Décidé : CSV en Windows-1252 avec point-virgule, car le logiciel du comptable refuse l'UTF-8.
quel encodage a-t-on choisi pour les exports comptables ?
La recherche ignore les accents
On utilise l'extension unaccent de PostgreSQL avec un index sur la colonne sans accents.
comment la recherche gère-t-elle les accents ?
Les sauvegardes sont trop lentes
Les sauvegardes incrémentales passent par restic vers le serveur de Lyon, chaque nuit à deux heures.
à quelle heure tournent les sauvegardes incrémentales ?
Les droits des bénévoles
Un bénévole peut lire les fiches mais seul un responsable de section peut les modifier.
qui peut modifier les fiches des adhérents ?
Le calendrier décale d'une heure
Les dates étaient stockées en heure locale ; tout est en UTC et converti avec Europe/Paris à l'affichage.
pourquoi le calendrier avait-il une heure de décalage ?
Paiement des cotisations
Les cotisations passent par HelloAsso, dont le webhook marque l'adhésion comme payée.
par quel service passent les cotisations ?
Purge des anciens comptes
Un compte inactif depuis trois ans est anonymisé après deux rappels envoyés par courriel.
au bout de combien d'années un compte inactif est-il anonymisé ?
Impression des cartes de membre
Les cartes sortent en PDF de 86 sur 54 millimètres, dix par feuille, avec un code QR signé.
quelle est la taille des cartes de membre imprimées ?
Migration vers Python 3.12
La migration attend que psycopg2 soit remplacé par psycopg 3, prévu pour la version de mars.
qu'est-ce qui bloque la migration vers Python 3.12 ?
"""
JAPANESE = """
在庫の同期が遅い
在庫の同期は差分だけを五分ごとに取得するように変更し、全件同期は深夜一時に行います。
在庫の全件同期は何時に行いますか？
注文番号が重複する
注文番号はデータベースのシーケンスから採番し、店舗コードを先頭に付けることにしました。
注文番号の重複はどう防いでいますか？
画像の変換でメモリが足りない
画像の変換はlibvipsに切り替え、一枚あたりの使用メモリは四十メガバイト以下になりました。
画像の変換に使うライブラリは何ですか？
メールの文字化け
件名はISO-2022-JPではなくUTF-8で送り、古い携帯電話への対応は終了しました。
メールの件名の文字コードはどうしましたか？
バックアップの保存先
バックアップは大阪リージョンに三十日間保存し、毎週日曜日に復元テストを実行します。
バックアップは何日間保存しますか？
検索の表記ゆれ
検索では全角と半角を正規化し、カタカナの長音記号を無視するようにしました。
検索の表記ゆれはどう処理していますか？
決済のタイムアウト
決済代行会社への接続は十秒でタイムアウトし、再試行は一回だけ行います。
決済のタイムアウトは何秒ですか？
権限の設計
倉庫の担当者は出荷だけを確定でき、返金は店長の承認が必要です。
返金には誰の承認が必要ですか？
ログの個人情報
ログに出る電話番号は下四桁以外を伏せ字にし、保存期間は九十日です。
ログの電話番号はどう伏せ字にしていますか？
消費税の端数
消費税の端数は明細ごとではなく請求書の合計で切り捨てます。
消費税の端数処理はどこで切り捨てますか？
"""
CODING = {"flask": ("en", FLASK), "rust": ("en", RUST), "pipeline": ("en", PIPELINE), "club": ("fr", FRENCH),
          "shop": ("ja", JAPANESE)}
# What people type that has nothing to do with any of that.
EVERYDAY = {"en": """
write a regex that matches an IPv6 address|explain the difference between a mutex and a semaphore|rename this variable everywhere
convert this bash script to fish|what does the walrus operator do?|make a plan for learning Haskell in three months
why is my git rebase showing conflicts in a file I never touched?|generate a UUID in JavaScript|center a div with flexbox
write unit tests for the function above|how do I undo the last commit but keep the changes?|add type hints to this file
translate this paragraph into Spanish|summarise the README in two sentences|what is the time complexity of heapsort?
fix the typo in the heading|run the linter and fix what it finds|create a .gitignore for a Node project
how do I read a file line by line?|print the numbers from 1 to 100 in reverse order|sort a list of dictionaries by a key
explain this stack trace to me|open a pull request with these changes|write a docstring for this class
what is the weather like in Paris today?|make this code more readable and split the long function|compare Vue and Svelte for a small site
write a haiku about autumn|how many moons does Jupiter have?|set up a cron job that cleans the temp folder every week
""", "fr": """
explique-moi la différence entre une pile et une file|écris une fonction qui inverse une chaîne|corrige les fautes dans ce texte
traduis ce paragraphe en anglais|comment annuler le dernier commit sans perdre les changements ?|ajoute des commentaires à ce fichier
quelle est la capitale de l'Australie ?|renomme cette variable partout|écris des tests pour cette classe
comment lire un fichier ligne par ligne ?|fais un résumé de ce document|propose un nom pour ce projet
crée un fichier Docker pour une application Node|quelle heure est-il à Tokyo ?|trie cette liste par ordre décroissant
""", "ja": """
配列を逆順に並べる関数を書いてください|この文章を英語に翻訳してください|最後のコミットを取り消す方法を教えてください
変数名をもっと分かりやすくしてください|二分探索の計算量は何ですか？|このクラスの単体テストを書いてください
東京の今日の天気はどうですか？|フランス料理について説明してください|READMEを短くまとめてください
ファイルを一行ずつ読むにはどうしますか？|スタックとキューの違いを説明してください|この関数にコメントを付けてください
"""}
LOOKS = ("Let me look at how this works now.", "I'll check the code first.", "I'll run the tests to see where it fails.")
FILL_ASKS = ("write a helper for this: {0}", "does this look right to you? {0}", "I need {0}", "please review: {0}",
             "can you refactor it? {0}")

# How Claude talks around the code: the same few hundred words of the trade in every answer.
ADVICE = {"en": """
You can {do} the {part} before you {do} the {thing}, so that {outcome}.
Add error handling around the {part}: catch the exception, log the {thing} and return a clear message.
I also wrote a test for the {thing} that checks the {part} with an empty list, a missing key and a very long string.
Make sure to {do} every {thing} in the loop and not only the last one.
1. Open `{part}.py` and import the module at the top of the file.
2. Define a function that takes the {thing} as input and returns a dictionary sorted by name.
3. Run the tests and fix the type hints that the linter complains about.
Here is how to read the {part} line by line and write the {thing} to a new file.
Use a context manager for the {part}; it closes the connection even when the {thing} raises.
The time complexity is O(n log n) because the {thing} is sorted once; memory stays small.
To keep the changes readable I split the long function into three and renamed the variable that held the {thing}.
Let me know if you want me to {do} the {part} as well, or to convert it to a class.
If the {thing} is None, set a default value; otherwise convert it to an integer and check the range.
Remember to commit the changes and to add the {part} to the `.gitignore`.
""", "fr": """
On peut {do} {part} avant de {do} {thing}, pour que {outcome}.
J'ai ajouté un test qui vérifie {thing} avec une liste vide, une clé absente et une chaîne très longue.
Il faut lire {part} ligne par ligne et écrire {thing} dans un nouveau fichier.
Pour rendre le code lisible, j'ai coupé la fonction en deux, renommé la variable et corrigé les commentaires.
""", "ja": """
{part}を処理する前に{thing}を確認する関数を追加しました。
テストを実行して、空のリストと長い文字列の場合を確認しました。
{part}のファイルを一行ずつ読み、{thing}を新しいファイルに書き込みます。
変数名を分かりやすくして、コメントを追加しました。
"""}
SLOTS = {"en": {"do": "validate parse sort check load format cache convert update remove".split(), "outcome": [
    "the request handler stays small", "nothing is read twice", "the output is the same on every run", "errors are easy to find"],
    "part": "config request file database table cache queue session parser response".split(),
    "thing": "value user record list row column token date object string".split()},
    "fr": {"do": "vérifier charger trier convertir supprimer".split(), "outcome": ["rien ne soit lu deux fois", "le code reste court"],
           "part": ["la configuration", "la requête", "le fichier", "la base", "la table"],
           "thing": ["la valeur", "la liste", "la ligne", "la date", "l'objet"]},
    "ja": {"do": ["確認"], "outcome": ["安全"], "part": ["設定", "要求", "データベース", "表"],
           "thing": ["値", "一覧", "行", "日付", "文字列"]}}


def rows_of(text: str, n_lines: int) -> list[list[str]]:
    """The lines of a table by rows of so many."""
    lines = text.strip().split("\n")
    return [lines[n : n + n_lines] for n in range(0, len(lines), n_lines)]


def advice(rng: random.Random, lang: str) -> str:
    """A sentence of it."""
    sentence = rng.choice(ADVICE[lang].strip().split("\n"))
    return sentence.format(**{slot: rng.choice(words) for slot, words in SLOTS[lang].items()})


# -- sets ---------------------------------------------------------------------


def read_set(folder: str, name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The documents and the queries of a set."""
    found = []
    for part in ("docs", "queries.dev"):
        with gzip.open(os.path.join(folder, "data", name, f"{part}.jsonl.gz"), "rt", encoding="utf-8") as file:
            found.append([json.loads(line) for line in file])
    return found[0], found[1]


def sample(rng: random.Random, items: list[Any], n: int = N_PROMPTS) -> list[Any]:
    return rng.sample(items, min(n, len(items)))


class Material:
    """The conversations of each project, and the prompts to try."""

    def __init__(self, folder: str) -> None:
        self.turns: dict[str, list[Turn]] = defaultdict(list)  # by project
        self.lang: dict[str, str] = {}
        self.related: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)  # by project: question, golds
        self.unrelated: dict[str, list[str]] = {lang: text.strip().replace("\n", "|").split("|") for lang, text in EVERYDAY.items()}
        self.cosqa: list[str] = []
        self.dialogues(folder)
        self.articles(folder, "piaf-fr", "fr")
        self.articles(folder, "jsquad-ja", "ja")
        self.coding(folder)

    def dialogues(self, folder: str) -> None:
        """Each conversation is a project; its first speaker is the user."""
        docs, queries = read_set(folder, "locomo-turn")
        texts = {(doc["coll"], doc["id"]): doc["text"] for doc in docs}
        users: dict[str, str] = {}
        for doc in docs:
            said, user = self.turns[doc["coll"]], users.setdefault(doc["coll"], doc["meta"]["speaker"])
            session, self.lang[doc["coll"]] = f"{doc['coll']}-{doc['meta']['session']}", "en"
            if doc["meta"]["speaker"] == user or not said or said[-1][0] != session or said[-1][2]:
                said.append((session, doc["text"], ""))
            else:
                said[-1] = session, said[-1][1], doc["text"]
        for query in queries:
            if not query["cat"].startswith("x-"):
                golds = [texts[query["coll"], doc_id] for doc_id in query["rel"]]
                self.related[query["coll"]].append((query["text"], golds))

    def articles(self, folder: str, name: str, lang: str) -> None:
        """Each project asks Claude about eight titles' worth of passages."""
        docs, queries = read_set(folder, name)
        titles = list(dict.fromkeys(doc["meta"]["title"] for doc in docs))
        n_titles = len(titles) // 8 + 1
        project = {title: f"{lang}{i // n_titles}" for i, title in enumerate(titles)}
        texts, where = {}, {}
        for doc in docs:
            title, text = doc["meta"]["title"], doc["text"]
            text = text[len(title) + 1 :] if text.startswith(title + "\n") else text
            ask = f"Que sais-tu sur {title} ?" if lang == "fr" else f"{title}について教えてください。"
            self.turns[project[title]].append((project[title] + title, ask, text))
            self.lang[project[title]] = lang
            texts[doc["id"]], where[doc["id"]] = text, project[title]
        for query in queries:
            (doc_id,) = query["rel"]
            self.related[where[doc_id]].append((query["text"], [texts[doc_id]]))

    def coding(self, folder: str) -> None:
        """Sessions about a project's own matters, among helpers in Python that stand for its daily work."""
        docs, queries = read_set(folder, "cosqa")
        rng = random.Random(9)
        answers = {doc_id for query in queries for doc_id in query["rel"]}
        self.cosqa = [query["text"] for query in sample(rng, queries, 300)]
        for project, (lang, table) in CODING.items():
            topics = rows_of(table, 3)
            fillers = rng.sample([doc["text"] for doc in docs if doc["id"] not in answers], FILLERS)
            for i, code in enumerate(fillers):
                what = " ".join(re.sub(r"[\"']+", "", code.partition('"""')[2] or code)[:90].split())
                session = f"{project}-{i // 9}"
                spoken = [lang, "en"] if lang != "en" else ["en"]
                code += "\n```\n" + "\n".join(advice(rng, rng.choice(spoken)) for _ in range(rng.randrange(3, 9)))
                self.turns[project].append((session, rng.choice(FILL_ASKS).format(what), f"Here it is:\n\n```python\n{code}\n"))
                if i % 25 == 4 and topics:
                    ask, answer, question = topics.pop()
                    self.turns[project].append((session, ask, answer))
                    self.related[project].append((question, [answer]))
            self.lang[project] = lang


# -- stores -------------------------------------------------------------------


def transcript(turns: list[Turn]) -> Iterator[bytes]:
    """The lines that the client writes."""
    at_s, n = time.time() - 90 * 86400, 0
    for session, asked, answered in turns:
        said: list[tuple[str, object]] = [("user", asked)]
        if session.rpartition("-")[0] in CODING:
            call = {"type": "tool_use", "id": f"t{n}", "name": "Bash", "input": {"command": "git diff --stat && make test"}}
            result = {"type": "tool_result", "tool_use_id": f"t{n}", "content": "3 files changed\n42 passed"}
            said += [("assistant", [{"type": "text", "text": LOOKS[n % len(LOOKS)]}]), ("assistant", [call]), ("user", [result])]
        for role, content in [*said, ("assistant", [{"type": "text", "text": answered}])][: None if answered else -1]:
            at_s, n = at_s + 60, n + 1
            entry = {"type": role, "uuid": f"{session}-{n}", "sessionId": session, "cwd": "/home/dev", "gitBranch": "main",
                     "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at_s)), "isSidechain": False,
                     "userType": "external", "message": {"role": role, "content": content}}
            yield json.dumps(entry).encode() + b"\n"


def build(folder: str, material: Material, projects: list[str]) -> rlm.View:
    """A store with these projects."""
    memory = os.path.join(folder, "memory")
    os.makedirs(memory)
    view = rlm.View(rlm.Places(folder, memory))
    for project in projects:
        by_session: dict[str, list[Turn]] = defaultdict(list)
        for turn in material.turns[project]:
            by_session[turn[0]].append(turn)
        items = [item for turns in by_session.values() for item in rlm.transcript_items(transcript(turns), final=True)[0]]
        for item in items:
            item["project"] = project
        rlm.import_batch(view, items, project, rlm.Imported())
    rlm.index_now(view.refresh(), lambda *_: None)
    return view.refresh()


def prompts_for(material: Material, store: str, projects: list[str], wanted: list[str], rng: random.Random) -> list[Prompt]:
    """Related and unrelated prompts for each wanted project of a store."""
    found: list[Prompt] = []
    for project in wanted:
        lang, n = material.lang[project], max(10, 2 * N_PROMPTS // len(wanted))
        kind = "coding" if project in CODING else "talk" if lang == "en" else "articles"
        row = f"{kind} {lang}"
        found += [Prompt(store, row, project, text, golds) for text, golds in sample(rng, material.related[project], n)]
        names = {said.partition(": ")[0] for _, *both in material.turns[project] for said in both if kind == "talk"}
        others = [text for other in material.related if other != project and material.lang[other] == lang
                  and (other in CODING) == (project in CODING) for text, _ in material.related[other]
                  if names.isdisjoint(re.findall(r"\w+", text))]  # a namesake may be meant
        if kind != "coding":
            found += [Prompt(store, row + ", of other projects", project, text, []) for text in sample(rng, others, n // 2)]
        found += [Prompt(store, row + ", everyday", project, text, []) for text in
                  sample(rng, sorted({*material.unrelated[lang], *material.unrelated["en"]} if kind == "coding"
                                   else material.unrelated[lang]), n)]
        found += [Prompt(store, row + ", CoSQA", project, text, []) for text in sample(rng, material.cosqa, n // 2)]
        if kind == "coding" and lang != "en":
            texts = [text for other in material.related if material.lang[other] == lang and other not in CODING
                     for text, _ in material.related[other]]
            found += [Prompt(store, row + ", articles", project, text, []) for text in sample(rng, texts, n)]
    return found


# -- measuring ------------------------------------------------------------------


def flat(text: str) -> str:
    """The text without what quoting changes."""
    return re.sub(r"[\s\"'`’“”<>‹›\[\]()]+", "", text).lower()


def is_readable(shown: str, gold: str) -> bool:
    shown, gold = flat(shown), flat(re.sub(r"^\w+: ", "", gold))
    n = 34 if gold.isascii() or len(gold.encode()) < 1.5 * len(gold) else 16
    return any(gold[i : i + n] in shown for i in range(0, max(1, len(gold) - n + 1), 2))


class Tally:
    def __init__(self) -> None:
        self.n = self.silent = self.gold = self.readable = self.n_bytes = 0

    def percents(self) -> list[str]:
        return [f"{100 * value / max(1, self.n):.0f}" for value in (self.silent, self.gold, self.readable)]

    def add(self, other: Tally) -> None:
        self.n, self.silent = self.n + other.n, self.silent + other.silent
        self.gold, self.readable = self.gold + other.gold, self.readable + other.readable
        self.n_bytes += other.n_bytes


def shown_for(view: rlm.View, prompt: Prompt) -> str:
    """What the hook hands over, in process."""
    os.environ["RLM_PROJECT"] = prompt.project
    hook = rlm.Hook("UserPromptSubmit", {"prompt": prompt.text, "session_id": "bench", "cwd": "/"})
    hook.places, hook.seen_view = view.log.places, view
    return rlm.on_user_prompt_submit(hook)


def measure(view: rlm.View, prompts: list[Prompt], tallies: dict[tuple[str, str], Tally]
            ) -> list[tuple[rlm.View, Prompt, str]]:
    shown = []
    flats: dict[str, str] = {}
    for prompt in prompts:
        text = shown_for(view, prompt)
        shown.append((view, prompt, text))
        tally = tallies[prompt.store, prompt.kind]
        tally.n += 1
        tally.silent += not text
        tally.n_bytes += len(text.encode())
        if text and prompt.golds:
            ids = set(re.findall(r"\d{4}-\d\d-\d\d_[\w-]+", text))
            for doc_id in ids - flats.keys():
                flats[doc_id] = flat(view.record(rlm.find_id(view, doc_id))["text"])
            tally.gold += any(flat(gold)[:60] in flats[doc_id] for gold in prompt.golds for doc_id in ids)
            tally.readable += any(is_readable(text, gold) for gold in prompt.golds)
    return shown


def compare_with_process(folder: str, shown: list[tuple[rlm.View, Prompt, str]]) -> None:
    """Fires the real hook for a sample, which must say the same, and prints how long that takes."""
    times = []
    program(folder)
    for n, (view, prompt, text) in enumerate(shown):
        env = {"HOME": folder, "PATH": "/usr/bin:/bin", "RLM_PROJECT": prompt.project, "RLM_CONTEXT_DIR": view.log.places.memory}
        event = payload("UserPromptSubmit", os.path.join(folder, f"{n}.jsonl"), prompt=prompt.text)
        started_s = time.perf_counter()
        done = subprocess.run(hook_command(folder, "UserPromptSubmit"), input=event, env=env, capture_output=True, check=True)
        times.append(time.perf_counter() - started_s)
        said = json.loads(done.stdout)["hookSpecificOutput"]["additionalContext"] if done.stdout else ""
        assert (said, done.stderr) == (text, b""), (prompt, text, said, done.stderr)
    print(f"the real hook says the same to {len(shown)} prompts; median {sorted(times)[len(times) // 2] * 1e3:.1f} ms")


def curve(tallies: dict[tuple[str, str], Tally]) -> None:
    """Prints a row for each kind of project, alone in its store or among many."""
    print("| store | project (related, unrelated) | silent when unrelated | least silent kind | gold | readable | bytes |")
    print("|---|---|---|---|---|---|---|")
    for scope in ("many", "one"):
        for kind in dict.fromkeys(kind.partition(",")[0] for _, kind in tallies):
            related, unrelated, least = Tally(), Tally(), 100.0
            for (store, each), tally in tallies.items():
                if store.startswith(scope) and each.partition(",")[0] == kind:
                    (unrelated if "," in each else related).add(tally)
                    least = min(least, 100 * tally.silent / tally.n) if "," in each else least
            if related.n:
                print(f"| {scope} | {kind} ({related.n}, {unrelated.n}) | {unrelated.percents()[0]} | {least:.0f} | "
                      + " | ".join(related.percents()[1:]) + f" | {related.n_bytes // max(1, related.n - related.silent)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--floors", default="1", help="factors of the floor, with commas")
    parser.add_argument("--half", type=int, default=-1, help="0 or 1: only every other prompt")
    parser.add_argument("--rows", action="store_true", help="every store and kind of prompt")
    parser.add_argument("--show", default="", help="file for every prompt with what was shown")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE of a constant")
    options = parser.parse_args()
    rng = random.Random(4)
    for each in options.set:
        name, _, value = each.partition("=")
        assert hasattr(rlm, name), name
        setattr(rlm, name, float(value) if "." in value else int(value))
    material = Material(options.folder)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HOME=folder)
        everything = list(material.lang)
        stores = [("many projects", everything, everything)]
        ones = [*CODING, "conv-26", "conv-48", "fr2", "ja3"]
        stores += [(f"one: {project}", [project], [project]) for project in ones]
        built = []
        for n, (name, projects, wanted) in enumerate(stores):
            view = build(os.path.join(folder, str(n)), material, projects)
            prompts = prompts_for(material, name, projects, wanted, rng)
            built.append((view, prompts if options.half < 0 else prompts[options.half :: 2]))
        floors = [float(each) for each in options.floors.split(",")]
        least, most = rlm.LEAST_RARE_WORDS, rlm.MOST_RARE_WORDS
        for floor in floors:
            rlm.LEAST_RARE_WORDS, rlm.MOST_RARE_WORDS = least * floor, most * floor
            tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
            started_s, n = time.perf_counter(), 0
            shown = []
            for view, prompts in built:
                shown += measure(view, prompts, tallies)
                n += len(prompts)
            print(f"\nfloor x {floor:g}: {n} prompts, {(time.perf_counter() - started_s) / n * 1e3:.1f} ms each")
            if options.rows:
                for (store, kind), tally in tallies.items():
                    print(f"| {store} | {kind} | {tally.n} | " + " | ".join(tally.percents()[: 1 + 2 * ("," not in kind)]) + " |")
            curve(tallies)
            if floor == 1:
                compare_with_process(folder, sample(rng, shown, 40))
            if options.show:
                with open(options.show, "w", encoding="utf-8") as file:
                    for _, prompt, text in shown:
                        file.write(f"### {prompt.store} | {prompt.kind} | {prompt.project}: {prompt.text}\n"
                                   f"gold: {prompt.golds}\n{text}\n\n")


if __name__ == "__main__":
    main()
