"""Conversations with Claude Code, written by hand with the type of task and the outcome they show, as its transcripts.

A line each: `U` the user says, `C` Claude says, `$` a command with `=>` what came, or `!!` when it failed, `E` edits,
`W` writes, `R` reads, `G` greps, `F` fetches, `S` searches the web, `X` the user interrupts, `B` the user goes back
before the last prompt (/rewind), `T` another tool with its JSON, `.` more of the line before.
"""
from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

SESSIONS = """
= bugfix success
U The login page throws a 500 when the email has a plus sign in it. Can you fix that?
R src/auth/login.py
$ pytest tests/test_login.py -q !! E   ValueError: invalid email: sam+a@example.com\\n1 failed, 11 passed in 0.9s
E src/auth/login.py | EMAIL = r"[\\w.]+@" | EMAIL = r"[\\w.+-]+@"
$ pytest tests/test_login.py -q => 12 passed in 0.8s
C Fixed. The pattern for addresses did not allow a plus sign; it does now, and the tests pass.
U great, thanks
C You're welcome.

= bugfix success
U npm test has been red since yesterday, something with dates. Please repair it.
$ npm test !! FAIL src/format.test.ts\\n  Expected: "2026-11-03"\\n  Received: "2026-11-02"\\nTests: 1 failed, 40 passed
G toISOString
R src/format.ts
E src/format.ts | return d.toISOString().slice(0, 10) | return formatLocal(d)
$ npm test => Tests: 41 passed, 41 total
$ git commit -am "Format dates in the local zone" => [main 3f9a1c2] Format dates in the local zone\\n 1 file changed
C The date was formatted in UTC. It uses the local zone now; all 41 tests pass and I committed it.

= bugfix failure
U Users report duplicated orders when they double click "Pay". Fix this race please.
R app/orders/service.rb
E app/orders/service.rb | Order.create!(params) | Order.find_or_create_by!(params)
$ bundle exec rspec spec/orders !! 3 examples, 1 failure\\nrspec ./spec/orders/service_spec.rb:14 # creates one order
E app/orders/service.rb | find_or_create_by! | with_lock { find_or_create_by! }
$ bundle exec rspec spec/orders !! 3 examples, 2 failures\\nActiveRecord::Deadlocked: deadlock detected
C I still get a deadlock. The lock has to be taken on another row, I could not find which one.
U no, this is worse than before. leave it, I'll do it myself
C Understood.

= bugfix partial
U The export crashes with a MemoryError for big accounts, and the progress bar jumps backwards. Fix both.
R export/writer.py
$ python -m pytest tests/test_export.py !! MemoryError\\n1 failed
E export/writer.py | rows = list(query) | rows = iter(query)
$ python -m pytest tests/test_export.py => 6 passed
C The crash is gone: rows are streamed now. The progress bar is not done: it needs the number of rows beforehand, which
. a stream does not know. That still needs to be decided.
U ok, let's do the bar another day

= bugfix success
U Le bouton « Enregistrer » ne fait plus rien sur Safari, tu peux corriger ça ?
G onSubmit
R web/src/Form.tsx
E web/src/Form.tsx | form.requestSubmit() | submitForm(form)
$ pnpm vitest run Form => ✓ web/src/Form.test.tsx (8 tests)\\nTests  8 passed (8)
C C'est corrigé : Safari ne connaît pas requestSubmit.
U parfait, merci !

= bugfix success
U 検索すると文字化けするので直してください。
R src/search/encode.py
$ pytest tests/test_encode.py !! UnicodeDecodeError: 'utf-8' codec can't decode byte 0x83\\n1 failed
E src/search/encode.py | decode("utf-8") | decode("cp932")
$ pytest tests/test_encode.py => 5 passed in 0.31s
C 修正しました。入力が Shift_JIS でした。
U ありがとう、直りました

= feature success
U Add a --json flag to the list command so that scripts can read its output.
R cmd/list.go
E cmd/list.go | fs.Parse(args) | asJSON := fs.Bool("json", false, "")
W cmd/list_test.go
$ go test ./cmd/... => ok  	example.com/tool/cmd	0.412s
C `list --json` prints an array now. Tests pass.
U nice, that's exactly what I wanted

= feature success
U Implement pagination for GET /articles: page and per_page, max 100.
R src/routes/articles.ts
E src/routes/articles.ts | findAll() | findPage(page, perPage)
W src/routes/articles.test.ts
$ npm run test -- articles !! AssertionError: expected 101 to be at most 100\\nTests 1 failed | 4 passed
E src/routes/articles.ts | perPage | Math.min(perPage, 100)
$ npm run test -- articles => Tests  5 passed (5)
$ git add -A && git commit -m "Paginate articles" => [feat/pages 91ab33d] Paginate articles\\n 2 files changed, 61 insertions(+)
C Done: pages of at most 100 articles, with tests.

= feature partial
U I'd like users to be able to upload an avatar, with a crop dialog and a resized thumbnail.
W web/src/AvatarUpload.tsx
E server/routes/user.ts | router.get | router.post("/avatar", upload)
$ npm run build => vite v5.2.0 building for production...\\n✓ built in 3.1s
C Uploading and the thumbnail work. The crop dialog is still missing; I can add it next.
U okay that's enough for today, we'll do the crop dialog tomorrow

= feature failure
U Could you build a dark mode toggle which follows the system preference?
R src/theme.ts
E src/theme.ts | light | prefers-color-scheme
U that's not what I asked for, the toggle doesn't work at all
E src/theme.ts | prefers-color-scheme | matchMedia
$ npm run build !! error TS2339: Property 'matches' does not exist on type 'string'.
X
U stop. revert everything
$ git checkout -- src/theme.ts =>

= feature success
U Ajoute un endpoint /health qui renvoie la version et l'état de la base.
R api/main.py
E api/main.py | app = FastAPI() | @app.get("/health")
$ pytest tests/test_api.py => 9 passed in 1.2s
C L'endpoint /health est ajouté, les tests passent.
U super, ça marche

= feature success
U ユーザー一覧に CSV ダウンロード機能を追加してください。
R app/users/views.py
E app/users/views.py | def index | def export_csv
W app/users/csv.py
$ python manage.py test users => Ran 14 tests in 0.52s\\n\\nOK
C CSV ダウンロードを追加しました。テストも通りました。
U 完璧です

= refactor success
U The OrderService class is 900 lines. Split it into smaller classes without changing behaviour.
R src/order_service.py
W src/orders/pricing.py
W src/orders/shipping.py
E src/order_service.py | class OrderService | from orders.pricing import Pricing
$ pytest -q !! ImportError: cannot import name 'Pricing' from partially initialized module\\n1 error
E src/orders/pricing.py | from order_service import TAX | from orders.tax import TAX
$ pytest -q => 212 passed in 14.2s
C OrderService is split in three; the 212 tests pass as before.
U looks good, thank you

= refactor success
U Rename getUserData to loadProfile everywhere and drop the deprecated alias.
G getUserData
E src/api.ts | getUserData | loadProfile
E src/pages/Home.tsx | getUserData | loadProfile
E src/pages/Settings.tsx | getUserData | loadProfile
$ npx tsc --noEmit =>
$ git commit -am "Rename getUserData to loadProfile" => [main 77aa0b1] Rename getUserData to loadProfile\\n 3 files changed
C Renamed in three files and committed.

= refactor failure
U Please move the settings out of globals into a config object passed around. No behaviour change.
R app/settings.py
E app/settings.py | DEBUG = True | class Config
E app/server.py | settings.DEBUG | config.debug
$ pytest !! AttributeError: module 'settings' has no attribute 'DEBUG'\\n31 failed, 88 passed
E app/worker.py | settings.QUEUE | config.queue
$ pytest !! AttributeError: 'NoneType' object has no attribute 'queue'\\n19 failed, 100 passed
U this is getting out of hand, undo all of it please
$ git restore . =>
C Everything is back as it was.

= refactor success
U Simplifie le module de facturation : il y a trois fonctions qui font presque la même chose, factorise-les.
R billing/invoice.py
E billing/invoice.py | def total_ht | def total
$ pytest tests/billing => 27 passed in 2.04s
C Les trois fonctions n'en font plus qu'une, les tests sont au vert.
U c'est nickel

= test success
U Write unit tests for the discount calculation, it has none.
R src/discount.py
W tests/test_discount.py
$ pytest tests/test_discount.py !! assert 89.99 == 90.0\\n1 failed, 7 passed
E tests/test_discount.py | 90.0 | Decimal("89.99")
$ pytest tests/test_discount.py => 8 passed in 0.11s
C There are 8 tests for discounts now, all passing.

= test success
U The coverage of parser/ is at 41%. Bring it above 80 please.
$ npx vitest run --coverage => parser/ | 41.2 | ...
R parser/lexer.ts
W parser/lexer.test.ts
W parser/ast.test.ts
$ npx vitest run --coverage => Tests  63 passed (63)\\nparser/ | 86.9 | ...
C parser/ is at 86.9% now.
U thx!

= test failure
U Our end to end tests with playwright are flaky, add a test for checkout that is reliable.
W e2e/checkout.spec.ts
$ npx playwright test checkout !! 1 failed\\n  Timeout 30000ms exceeded while waiting for locator('#pay')
E e2e/checkout.spec.ts | '#pay' | getByRole('button')
$ npx playwright test checkout !! 1 failed\\n  Timeout 30000ms exceeded
E e2e/checkout.spec.ts | click() | click({ force: true })
$ npx playwright test checkout !! 1 failed\\n  Timeout 30000ms exceeded
C The checkout test still times out: the payment frame never loads in the sandbox. I was not able to get it to pass.

= test success
U 料金計算のテストを書いてください。境界値もお願いします。
R src/fee.ts
W src/fee.test.ts
$ npm test -- fee => Tests: 12 passed, 12 total
C 境界値を含む12件のテストを追加しました。すべて通りました。

= docs success
U The README still describes the old installer. Update it for pipx, with an example.
R README.md
E README.md | curl install.sh | pipx install tool
C README now explains the installation with pipx.
U perfect

= docs success
U Add docstrings to the public functions in geometry.py
R geometry.py
E geometry.py | def area(a, b): | def area(a, b): 'The area.'
$ ruff check geometry.py => All checks passed!
$ git commit -am "Document geometry" => [docs 5d0e9aa] Document geometry\\n 1 file changed
C All 11 public functions have docstrings now.

= docs partial
U Écris une page de documentation sur l'architecture, avec un schéma mermaid et la liste des services.
R services/
W docs/architecture.md
C La page est écrite avec la liste des services. Le schéma n'est pas encore fait, il reste à décrire les files.
U on finira demain

= research success
U Which job queue should we use with Django today: Celery, RQ or Dramatiq? Look into how they are maintained.
S celery vs dramatiq 2026
F https://dramatiq.io/motivation.html
F https://docs.celeryq.dev/en/stable/
C Dramatiq fits best: it is maintained, retries by default and has a small API. Celery has more features that you do not
. need. I recommend Dramatiq.
U thanks, very helpful. we go with dramatiq

= research success
U How does the permission check work in this repo? I need an overview before I change anything.
G can_access
R app/permissions.py
R app/middleware.py
R app/models/role.py
C Each request passes the middleware, which loads the roles and calls can_access. Roles are cached for 5 minutes.
U ok, clear

= research partial
U Investigate whether we could move from MySQL to Postgres and what it would cost us.
G ENGINE=InnoDB
R db/schema.sql
F https://pgloader.io
C The schema can be moved with pgloader; 14 queries need changes. I could not determine how long the downtime would be,
. that remains open.
U hm okay. we need the downtime too, but not today

= research success
U 状態管理ライブラリを比較して、どれがいいか調べてください。
S zustand jotai redux toolkit 比較
F https://zustand.docs.pmnd.rs
C 規模からすると Zustand をお勧めします。理由は3つあります。
U わかりました、ありがとうございます

= debug success
U Why does the worker hang every night around 3? Find the cause, don't change anything yet.
R worker/main.py
$ grep -n "03:0" logs/worker.log => 03:00:02 acquiring lock vacuum
$ psql -c "select * from pg_locks" => pid | mode\\n 4121 | AccessExclusiveLock
C Found it: the nightly VACUUM FULL holds an exclusive lock on jobs, and the worker waits for it without a timeout.
U that explains it, thanks

= debug failure
U CI fails on arm64 only, I have no idea why. Can you figure out what's going on?
$ gh run view 8812 --log-failed => Segmentation fault (core dumped)
$ docker run --platform linux/arm64 app pytest !! Segmentation fault (core dumped)
R src/native/simd.c
$ gdb -batch -ex bt app core !! No symbol table is loaded.
C I could not find the cause. The crash is in the native code, but without symbols I cannot tell where.
U ok, never mind then

= debug success
U On a une fuite mémoire dans le service d'images, trouve d'où elle vient.
R images/cache.js
$ node --inspect-brk --heapsnapshot-signal=SIGUSR2 scripts/load.js => heap 512 MB
E images/cache.js | set(key, buf) | console.log(cache.size); set(key, buf)
$ node scripts/load.js => 18342
C La cause : le cache n'est jamais vidé, chaque image y reste. Il faut une limite.
U bien vu, merci

= setup success
U Set up GitHub Actions: lint and tests on every pull request, Python 3.10 to 3.12.
W .github/workflows/ci.yml
$ actionlint =>
$ git add -A && git commit -m "CI" => [main a1b2c3d] CI\\n 1 file changed, 34 insertions(+)
C The workflow runs ruff and pytest on 3.10, 3.11 and 3.12.

= setup success
U Install tailwind in this project and configure it with vite
$ npm install -D tailwindcss @tailwindcss/vite => added 14 packages in 4s
E vite.config.ts | plugins: [] | plugins: [tailwindcss()]
E src/index.css | body | @import "tailwindcss"
$ npm run build => ✓ built in 2.22s
C Tailwind is installed and the build works.
U works, cheers

= setup failure
U Get the project running in docker compose, with postgres and redis.
W docker-compose.yml
W Dockerfile
$ docker compose up -d !! Error response from daemon: Ports are not available: listen tcp 0.0.0.0:5432: bind: address already in use
E docker-compose.yml | 5432:5432 | 5433:5432
$ docker compose up -d !! ERROR: failed to solve: process "/bin/sh -c pip install -r requirements.txt" did not complete: exit code: 1
C The image cannot be built: psycopg2 does not compile without libpq. I need to know which base image you want.
X

= setup success
U プロジェクトに ESLint と Prettier を導入して設定してください。
$ npm install -D eslint prettier => added 92 packages in 6s
W eslint.config.js
W .prettierrc
$ npx eslint . =>
C ESLint と Prettier を設定しました。
U 助かります

= setup partial
U Upgrade us from Django 4.2 to 5.2 and get rid of the deprecation warnings.
E requirements.txt | Django==4.2 | Django==5.2
$ pip install -r requirements.txt => Successfully installed Django-5.2
$ python manage.py test !! ImportError: cannot import name 'force_text'\\nFAILED (errors=1)
E shop/utils.py | force_text | force_str
$ python manage.py test => Ran 88 tests in 6.1s\\n\\nOK
C Django 5.2 is in and the tests pass. 23 deprecation warnings remain, most of them in the admin; I have not done these.

= bugfix success
U Traceback (most recent call last):
.   File "run.py", line 12, in <module>
. KeyError: 'region'
R run.py
E run.py | os.environ["region"] | os.environ.get("region", "eu")
$ python run.py => ok
C `region` was read without a default. It falls back to "eu" now, and the script runs.

= none none
U What is the difference between a list and a tuple in Python?
C A tuple cannot be changed after it is made.
U thanks
"""


def sections(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """(type, outcome, lines) of each conversation."""
    for part in re.split(r"(?m)^= ", text)[1:]:
        head, _, body = part.partition("\n")
        kind, outcome = head.split()
        yield kind, outcome, body.strip().split("\n")


def told(lines: list[str]) -> list[tuple[str, str]]:
    """(sign, rest) of each line, with what goes on behind it."""
    rows: list[tuple[str, str]] = []
    for line in lines:
        sign, _, rest = line.partition(" ")
        if sign == ".":
            rows[-1] = rows[-1][0], f"{rows[-1][1]}\n{rest}"
        else:
            rows.append((sign, rest.replace("\\n", "\n")))
    return rows


class Script:
    """A transcript while it is written."""

    def __init__(self, name: str, cwd: str, at_s: int) -> None:
        self.session = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        self.cwd, self.at_s, self.rows = cwd, at_s, []
        self.parent: str | None = None
        self.before: str | None = None  # the line before the last prompt

    def add(self, kind: str, content: object, **more: object) -> None:
        """A line as the client writes it."""
        self.at_s += 7
        at = rlm_stamp(self.at_s)
        line = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.session} {len(self.rows)}"))
        message = {"role": kind, "content": content}
        if kind == "assistant":
            message = {"id": f"msg_{len(self.rows)}", "type": "message", "model": "claude-opus-5-5", **message,
                       "stop_reason": None, "usage": {"input_tokens": 100, "output_tokens": 20}}
        self.rows.append({"parentUuid": self.parent, "isSidechain": False, "type": kind, "message": message, "uuid": line,
                          "timestamp": at, "userType": "external", "entrypoint": "cli", "cwd": self.cwd,
                          "sessionId": self.session, "version": "2.1.329", "gitBranch": "main", **more})
        self.parent = line

    def call(self, name: str, given: dict[str, object], result: str, failed: bool = False) -> None:
        """A tool call and its result."""
        call_id = f"toolu_{len(self.rows):08d}"
        self.add("assistant", [{"type": "tool_use", "id": call_id, "name": name, "input": given}])
        self.add("user", [{"tool_use_id": call_id, "type": "tool_result", "content": result,
                           **({"is_error": True} if failed else {})}])

    def say(self, sign: str, rest: str) -> None:
        """One line of a script."""
        if sign == "U":
            self.before = self.parent
            self.add("user", rest)
        elif sign == "C":
            self.add("assistant", [{"type": "text", "text": rest}])
        elif sign == "$":
            command, failed, result = re.match(r"(?s)(.*?)(?: (=>|!!) ?(.*))?$", rest).groups()
            self.call("Bash", {"command": command, "description": "Runs it"},
                      f"Exit code 1\n{result}" if failed == "!!" else result or "", failed == "!!")
        elif sign in "EW":
            path, old, new = ([part.strip() for part in rest.split(" | ")] + ["a", "b"])[:3]
            path = f"{self.cwd}/{path}"
            given = {"file_path": path, "old_string": old, "new_string": new} if sign == "E" else \
                {"file_path": path, "content": "text\n" * 9}
            self.call({"E": "Edit", "W": "Write"}[sign], given, f"The file {path} has been updated.")
        elif sign == "X":
            self.add("user", [{"type": "text", "text": "[Request interrupted by user]"}])
        elif sign == "B":
            self.parent = self.before
        elif sign == "T":
            name, _, given = rest.partition(" ")
            self.call(name, json.loads(given or "{}"), "ok")
        else:
            name, key = {"R": ("Read", "file_path"), "G": ("Grep", "pattern"), "F": ("WebFetch", "url"),
                         "S": ("WebSearch", "query")}[sign]
            rest = f"{self.cwd}/{rest}" if sign == "R" else rest
            self.call(name, {key: rest}, "     1→some text\n     2→more of it")


def rlm_stamp(at_s: int) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(at_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def transcript(lines: list[str], cwd: str, name: str, at_s: int = 1_795_000_000) -> tuple[str, bytes]:
    """The session's id and its transcript."""
    script = Script(name, cwd, at_s)
    for sign, rest in told(lines):
        script.say(sign, rest)
    return script.session, b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in script.rows)
