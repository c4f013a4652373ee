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

# Written when the program was there, before it was run on them. Its words were widened by these. The last 20, of odd
# wording, were 16 types and 16 outcomes right before that, 12 both.
LATER = """
= bugfix success
U After logging out, the back button still shows the account page. That must not happen.
R app/middleware/session.ts
E app/middleware/session.ts | next() | res.setHeader("Cache-Control", "no-store"); next()
$ npm run test 2>&1 | tail -4 => Test Suites: 14 passed, 14 total\\nTests:       96 passed, 96 total
C The account page was served from the browser's cache. I set Cache-Control: no-store for all authenticated routes.
U Just checked it, the page is gone now.

= bugfix success
U getting "connection refused" from redis on startup since I merged main, help
$ docker compose logs api | tail -20 => redis.exceptions.ConnectionError: Error 111 connecting to localhost:6379
G REDIS_URL
E config/settings.py | localhost | redis
$ docker compose up -d --build api => Container shop-api-1  Started
$ curl -s localhost:8000/health => {"status":"ok"}
C The merge reset REDIS_HOST to localhost; inside compose it has to be `redis`. The API is up and healthy.

= bugfix failure
U The map flickers when zooming on Android. Please sort it out.
R lib/map_view.dart
E lib/map_view.dart | setState | WidgetsBinding.instance.addPostFrameCallback
U it's still flickering
E lib/map_view.dart | addPostFrameCallback | RepaintBoundary
U nope, same as before
E lib/map_view.dart | RepaintBoundary | Texture
U it now crashes on open. I'm reverting this
$ git checkout lib/map_view.dart =>

= bugfix partial
U Two issues from QA: 1) emails are sent twice 2) the unsubscribe link 404s
G send_mail
E mailer/tasks.py | @shared_task | @shared_task(acks_late=True)
$ pytest mailer -q => 18 passed in 3.1s
C 1) is fixed: the task was acknowledged early and retried. 2) I couldn't reproduce the 404 locally, so the link is unchanged.
U fine, I'll ask QA for the exact url

= bugfix success
U L'import CSV échoue dès qu'une colonne contient des accents.
$ python import.py data.csv !! UnicodeDecodeError: 'ascii' codec can't decode byte 0xc3 in position 12
E import.py | open(path) | open(path, encoding="utf-8")
$ python import.py data.csv => 1204 lignes importées
C L'encodage n'était pas précisé. L'import passe maintenant.
U Ça roule, merci beaucoup.

= bugfix failure
U 決済ページで二重送信されてしまいます。修正をお願いします。
E src/pay.ts | submit() | disable(); submit()
$ npm test !! Tests: 2 failed, 30 passed
E src/pay.ts | disable() | lock()
$ npm test !! Tests: 3 failed, 29 passed
C まだ2重送信のテストが失敗しています。原因を特定できませんでした。
U うーん、今日はやめておきます

= feature success
U Let's have the CLI read its defaults from a config file (~/.toolrc).
W src/config.rs
E src/main.rs | Args::parse() | Args::parse().or(config)
$ cargo test => test result: ok. 31 passed; 0 failed; 0 ignored
$ git commit -am "Read defaults from ~/.toolrc" => [main 0a1b2c3] Read defaults from ~/.toolrc\\n 2 files changed
C Done: values from ~/.toolrc are used unless the command line says otherwise.

= feature success
U users keep asking for keyboard shortcuts in the editor. j/k to move, e to edit, ? for help
W src/shortcuts.ts
E src/Editor.tsx | useEffect | useShortcuts
$ npx tsc --noEmit && npx vitest run => Tests  120 passed (120)
C The editor has the shortcuts j, k, e and ?.
U sweet
X

= feature success
U Send a Slack message whenever a deployment finishes
R deploy/notify.py
E deploy/notify.py | def notify | def notify_slack
W tests/test_notify.py
$ pytest tests/test_notify.py -x !! E   TypeError: notify_slack() missing 1 required positional argument: 'channel'
E deploy/notify.py | channel | channel="#deploys"
$ pytest tests/test_notify.py -x => 3 passed in 0.10s
C Deployments are announced in #deploys.

= feature partial
U We need an audit log: who changed what and when, with an admin page to browse it and CSV export.
W app/models/audit_entry.rb
W db/migrate/20261101_create_audit_entries.rb
$ bin/rails db:migrate => == CreateAuditEntries: migrated (0.0123s)
$ bundle exec rspec => 240 examples, 0 failures
C The model and the hooks are in place and tested. What's left: the admin page and the CSV export.

= feature failure
U integrate stripe subscriptions with trial periods
W billing/subscriptions.py
$ python manage.py test billing !! stripe.error.AuthenticationError: No API key provided\\nFAILED (errors=4)
C The tests need a Stripe test key. I don't have one and cannot go on without it.
X

= feature success
U Je voudrais pouvoir filtrer la liste des commandes par statut et par date.
R src/orders/List.vue
E src/orders/List.vue | <table> | <OrderFilter /><table>
W src/orders/OrderFilter.vue
$ npm run build => ✓ built in 5.02s
C Le filtre par statut et par date est en place.
U génial

= feature success
U ログイン画面に「パスワードを忘れた」リンクを付けたい
W src/pages/Reset.tsx
E src/pages/Login.tsx | </form> | <a href="/reset">
$ npm test => Tests: 44 passed, 44 total
C リンクとリセット画面を作成しました。
U 良いですね。マージします

= refactor success
U This file mixes SQL and HTTP handling. Pull the queries out into a repository layer.
R internal/handlers/orders.go
W internal/repo/orders.go
E internal/handlers/orders.go | db.Query | h.repo.List
$ go vet ./... && go test ./... => ok  	shop/internal/handlers	0.8s\\nok  	shop/internal/repo	0.3s
C All queries live in internal/repo now; handlers only call it.

= refactor success
U we have callbacks everywhere in lib/sync, turn them into async/await
R lib/sync/index.js
E lib/sync/index.js | function (err, data) | await
E lib/sync/push.js | callback | await
$ node --test => # pass 38\\n# fail 0
C lib/sync uses async/await throughout; 38 tests pass.
U 👍 great work

= refactor partial
U Get rid of the any types in src/. There are about 60.
$ grep -rn ": any" src | wc -l => 61
E src/api/client.ts | any | unknown
E src/store/index.ts | any | State
$ npx tsc --noEmit =>
C 38 of 61 are gone and the project type-checks. The remaining 23 are in the generated GraphQL code.

= refactor failure
U Switch the state handling from Redux to signals
E src/store.ts | createStore | signal
E src/App.tsx | useSelector | store.value
$ npm run build !! error TS2345: Argument of type 'Signal<State>' is not assignable
E src/App.tsx | store.value | store()
$ npm run build !! error TS2345: Argument of type 'State' is not assignable
U this goes nowhere, drop it
$ git stash => Saved working directory

= test success
U add a regression test for #482, where refunds above the total were accepted
R app/refund.py
W tests/test_refund_limit.py
$ pytest tests/test_refund_limit.py => 2 passed in 0.05s
$ git commit -m "Test for #482" => [main 99aa011] Test for #482
C Added: refunds above the total are rejected, with and without tax.

= test success
U The scheduler module is untested. Cover the happy path and the retry logic.
R scheduler/core.py
W scheduler/tests/test_core.py
$ python -m pytest scheduler => 14 passed in 1.02s
C 14 tests, covering the happy path and all three retry policies.
U good stuff

= test partial
U On n'a aucun test sur le module de paiement, écris-en.
R payment/gateway.py
W tests/test_gateway.py
$ pytest tests/test_gateway.py !! 2 failed, 9 passed in 1.4s
C 9 tests passent. Deux échouent encore parce que le bac à sable de la banque n'est pas joignable d'ici.

= docs success
U Write a migration guide for v3, people get confused by the renamed options
$ git log --oneline v2..v3 => 4be1 rename options
W docs/migrating-to-v3.md
C The guide lists each renamed option with before and after.
U lgtm

= docs success
U document the public REST endpoints in openapi.yaml
R src/routes/index.ts
W openapi.yaml
$ npx redocly lint openapi.yaml => Woohoo! Your API description is valid.
C All 23 endpoints are described.

= docs success
U APIの使い方をREADMEに書いてください
R src/index.ts
E README.md | # Lib | # Lib\\n## 使い方
C 使い方の節を追加しました。
U ありがとうございます！

= research success
U what are people using for feature flags these days? we're on Go, self hosted
S feature flags self hosted go 2026
F https://www.getunleash.io
F https://docs.flagsmith.com
C Unleash and Flagsmith are both self-hosted and have Go SDKs. For your size I'd take Flagsmith: one binary, Postgres only.
U cool, thanks for the summary

= research success
U Explain how caching works in this code base, and where it could return stale data.
G cache.get
R lib/cache.ex
R lib/catalog.ex
C There are two layers: ETS per node and Redis. Stale data is possible in catalog.ex, which invalidates only its own node.

= research failure
U Find out if there is a maintained fork of the old PDF library we use
S pdfkit fork maintained
F https://github.com/foliojs/pdfkit
C I found no maintained fork: the most active one had its last commit in 2023. I could not find any alternative with the same API.
U that doesn't help me much

= research success
U Quelle différence de coût entre Lambda et Fargate pour notre charge ?
R infra/main.tf
F https://aws.amazon.com/lambda/pricing/
C À 40 requêtes par seconde, Fargate revient à 60 $ par mois, Lambda à 210 $. Fargate est donc préférable.
U ok merci, on part sur Fargate

= debug success
U requests to /report take 12 seconds in production. where's the time spent?
$ psql -c "explain analyze select ..." => Seq Scan on events (actual time=0.02..11240.11)
R app/report.py
C The time goes into one query: a sequential scan over events, because the index is on created_at and the filter uses date(created_at).
U aha, that's it

= debug success
U figure out why the nightly backup is empty
$ cat /var/log/backup.log => pg_dump: error: connection to server failed: FATAL: password authentication failed
$ cat .env.backup => PGPASSFILE=/root/.pgpass
C The backup's password file is not readable for the user `backup` since the move; pg_dump fails, and the script ignores its exit code.

= debug partial
U Our memory usage doubles over a day. Narrow it down please.
$ python -m memray run app.py => Writing profile results
R app/pool.py
C It's narrowed down to the connection pool: it grows by about 200 objects an hour. I have not yet found who keeps the references.
U good progress, let's continue tomorrow

= debug failure
U テストがたまに落ちる原因を調べてください
$ pytest -q --count 50 !! 1 failed, 49 passed
$ pytest -q --count 50 => 50 passed
C 原因は特定できませんでした。再現率が低すぎます。

= setup success
U bump node to 22 everywhere (CI, Dockerfile, nvmrc)
E .nvmrc | 20 | 22
E Dockerfile | node:20 | node:22
E .github/workflows/test.yml | 20 | 22
$ docker build . => naming to docker.io/library/app done
C Node 22 is used everywhere.

= setup success
U I need a Python project skeleton: pyproject with hatch, ruff, mypy, pytest, and a src layout
W pyproject.toml
W src/acme/__init__.py
W tests/test_acme.py
$ hatch run test => 1 passed in 0.01s
C The skeleton is ready; `hatch run test` passes.
U perfect, exactly what I needed

= setup failure
U Get CUDA working in the dev container
E .devcontainer/Dockerfile | ubuntu | nvidia/cuda
$ docker build .devcontainer !! E: Unable to locate package cuda-toolkit-12-9
E .devcontainer/Dockerfile | 12-9 | 12-6
$ docker build .devcontainer !! ERROR: failed to solve: exit code: 100
C Neither version is available for this base image and I'm out of ideas without access to the registry.
U forget it, we'll use the cloud box

= setup success
U Configure le linter et le formatage automatique au commit.
W .pre-commit-config.yaml
$ pre-commit install => pre-commit installed at .git/hooks/pre-commit
$ pre-commit run -a => ruff....Passed
C Le linter et le formateur tournent à chaque commit.

= none none
U can you explain what `git rebase --onto` does?
C It replays the commits of a range onto another base.
U makes sense

= none none
U Bonjour, tu es là ?
C Oui, que puis-je faire pour vous ?

= bugfix success
U TypeError: Cannot read properties of undefined (reading 'map') at ProductList.tsx:31
R src/ProductList.tsx
E src/ProductList.tsx | products.map | (products ?? []).map
$ yarn test ProductList => PASS src/ProductList.test.tsx\\nTests: 6 passed, 6 total
C `products` is undefined until the request returns. It falls back to an empty list now.

= bugfix success
U The date picker selects the previous day for people west of Greenwich
$ TZ=America/New_York npx jest date !! ● picks the day that was clicked\\n  Expected 14, received 13\\nTests: 1 failed, 8 passed, 9 total
E src/date.js | new Date(s) | parseISO(s)
$ TZ=America/New_York npx jest date => Tests: 9 passed, 9 total
C Fixed by parsing dates as local. All date tests pass in New York and Berlin time.
U Awesome, thank you so much!

= bugfix partial
U orders api returns 500 for empty carts, and while you're there the error page has no styling
E api/orders.js | cart.items[0] | cart.items[0] ?? null
$ npm test => 55 passing (1s)
C The 500 is fixed. The styling of the error page is untouched so far; I need to know which stylesheet it should use.

= bugfix failure
U Our iOS build is broken after the Xcode update, please make it compile again
$ xcodebuild -scheme App build !! error: module 'FirebaseCore' not found\\n** BUILD FAILED **
E ios/Podfile | platform :ios, '12.0' | platform :ios, '15.0'
$ cd ios && pod install !! [!] CocoaPods could not find compatible versions for pod "Firebase/Core"
E ios/Podfile | '~> 9' | '~> 11'
$ xcodebuild -scheme App build !! error: module 'FirebaseCore' not found\\n** BUILD FAILED **
C The build still fails with the same error.
U ok I'll ask the iOS folks

= bugfix success
U Quand on change de langue, le panier se vide. Tu peux regarder et réparer ?
R src/i18n/switch.ts
E src/i18n/switch.ts | location.reload() | i18n.setLocale(l)
$ npm test => Tests: 71 passed, 71 total
C Le rechargement de page vidait l'état du panier. La langue change maintenant sans recharger.
U Top !

= bugfix success
U 通知が2回届くバグを直してほしいです
R app/notify.py
E app/notify.py | send(user) | send_once(user)
$ pytest => 33 passed in 1.9s
$ git commit -am "Send notifications once" => [main 1234abc] Send notifications once
C 通知が一度だけ送られるようになりました。

= feature success
U Add rate limiting to the public API, 100 requests a minute per key
W src/middleware/rateLimit.ts
E src/app.ts | app.use(auth) | app.use(auth); app.use(rateLimit)
$ npm test => Tests: 102 passed, 102 total
C Requests above 100 a minute get a 429 with Retry-After.
U looks good to me

= feature success
U can you make the sidebar collapsible? state should survive a reload
E src/Sidebar.svelte | <nav> | <nav class:collapsed>
$ pnpm check => svelte-check found 0 errors and 0 warnings
C The sidebar can be collapsed; its state is in localStorage.
U yep works nicely

= feature partial
U Build an import wizard: upload, column mapping, preview, and undo
W app/import/upload.py
W app/import/mapping.py
$ pytest app/import => 11 passed in 0.7s
C Upload and column mapping are finished. Preview is half done and undo hasn't been started.
U good, stopping here for tonight

= feature failure
U Let's support SSO via SAML
W auth/saml.py
$ pip install python3-saml !! error: xmlsec build failed: pkg-config xmlsec1 not found
$ apt-get install -y libxmlsec1-dev !! E: Permission denied
C I can't install the system library xmlsec1 here, and without it SAML does not work.
U right, then let's abandon this

= feature success
U Il me faudrait une commande `purge` qui supprime les fichiers de plus de 30 jours, avec un mode --dry-run.
W cli/purge.py
E cli/main.py | subparsers | subparsers.add_parser("purge")
$ pytest cli => 24 passed in 0.9s
C La commande `purge` existe, avec --dry-run.
U Nickel

= feature success
U 検索結果を並び替えられるようにしてください(価格順、新着順)
E src/search/sort.ts | sortBy | sortByPrice
E src/search/View.tsx | <List | <SortMenu /><List
$ npm run test => Tests: 25 passed, 25 total
C 価格順と新着順で並び替えられます。
U いい感じです

= refactor success
U Extract the payment logic out of CheckoutController into its own service, tests must stay green
R app/controllers/checkout_controller.rb
W app/services/payment_service.rb
E app/controllers/checkout_controller.rb | charge | PaymentService.charge
$ bin/rspec => 318 examples, 0 failures
C CheckoutController is down to 80 lines, the logic is in PaymentService. 318 examples pass.

= refactor success
U Convert the remaining class components to hooks
E src/Profile.jsx | class Profile | function Profile
E src/Cart.jsx | class Cart | function Cart
$ npm test => Tests: 88 passed, 88 total
C Profile and Cart were the last two; both are functions with hooks now.
U ty

= refactor partial
U Replace moment with date-fns in the whole project
E src/a.ts | moment | date-fns
E src/b.ts | moment | date-fns
$ npm test => Tests: 140 passed, 140 total
C 31 of 44 files use date-fns now. The other 13 depend on moment-timezone and are still to be converted.
U ok next week

= refactor failure
U Could we reduce the nesting in parser.go? It's unreadable
E internal/parser.go | if a { if b { | if !a { return }
$ go test ./internal !! --- FAIL: TestNested (0.00s)\\nFAIL
E internal/parser.go | return | return nil
$ go test ./internal !! --- FAIL: TestNested (0.00s)\\n--- FAIL: TestDeep (0.00s)\\nFAIL
X
U I'd rather keep the old one, restore it
$ git restore internal/parser.go =>

= refactor success
U このクラスは大きすぎるので、責務ごとに分けてください。動作は変えないで。
W src/user/Profile.kt
W src/user/Auth.kt
E src/user/User.kt | class User | class User(profile, auth)
$ ./gradlew test => BUILD SUCCESSFUL in 14s
C 3つのクラスに分けました。テストはすべて通っています。

= test success
U Write tests for utils/date.ts
R utils/date.ts
W utils/date.test.ts
$ npx vitest run utils => Tests  17 passed (17)
C 17 tests cover parsing, formatting and time zones.

= test partial
U I want the auth package covered properly, including token expiry and refresh
R auth/token.go
W auth/token_test.go
$ go test -cover ./auth => ok  	app/auth	0.5s	coverage: 74.1% of statements
C Token expiry is covered now (74%). The refresh flow isn't covered yet: it needs a fake clock in the client.

= test failure
U Make the flaky payment spec deterministic
R spec/payment_spec.rb
E spec/payment_spec.rb | sleep 1 | travel_to
$ bundle exec rspec spec/payment_spec.rb !! 12 examples, 2 failures
E spec/payment_spec.rb | travel_to | freeze_time
$ bundle exec rspec spec/payment_spec.rb !! 12 examples, 1 failure
C One example keeps failing at random, I have not managed to make it stable.

= docs success
U Update the README with the new environment variables
G process.env
E README.md | ## Configuration | ## Configuration\\n| variable | default |
C All nine variables are in the README, with defaults.
U thanks, merged

= docs success
U write an ADR on why we chose Kafka over RabbitMQ
R docs/adr/0006-postgres.md
W docs/adr/0007-kafka.md
C ADR 7 is written in the same form as the others.

= docs success
U Mets à jour la documentation de l'API, elle ne parle pas des nouveaux champs.
R api/schema.py
E docs/api.md | fields | champs
C La documentation décrit maintenant les champs `vat` et `currency`.
U merci bien

= research success
U Which HTTP client should we standardise on: axios, ky, or native fetch?
G axios
F https://github.com/sindresorhus/ky
C Native fetch with a small wrapper: you use only JSON requests and retries, and it saves 14 KB.
U Agreed, sounds reasonable.

= research success
U before we touch billing: where are invoices generated, and who calls that code?
G generate_invoice
R billing/invoices.py
R jobs/monthly.py
C Invoices are generated in billing/invoices.py, called by the monthly job and by the admin action "Regenerate".
U great overview

= research partial
U Check what it takes to move us to Python 3.13
$ pip index versions psycopg2 => psycopg2 (2.9.10)
R pyproject.toml
F https://docs.python.org/3.13/whatsnew/3.13.html
C Three dependencies have wheels for 3.13; two (lxml, grpcio-tools) I haven't been able to verify yet.

= research success
U GraphQLとRESTのどちらを採用すべきか、うちのAPIの場合で検討して
R src/api/routes.ts
S GraphQL vs REST 2026
C RESTのままを推奨します。クライアントが1つで、取得過多の問題が小さいためです。
U なるほど、納得しました

= debug success
U Why is CI taking 40 minutes?
$ gh run view 5512 => build 31m20s, test 7m
R .github/workflows/ci.yml
C 31 minutes are the docker build: the cache is never hit, because COPY . comes before installing dependencies.
U makes sense, I'll fix it myself later

= debug success
U the websocket disconnects exactly after 60s. what's closing it?
R nginx/site.conf
$ curl -sI https://staging/ws => HTTP/1.1 426 Upgrade Required
C nginx closes it: proxy_read_timeout is at its default of 60 s, and the server sends no pings.

= debug failure
U Something is writing to /tmp until the disk is full. Find the process.
$ lsof +D /tmp =>
$ du -sh /tmp => 1.2G	/tmp
$ auditctl -w /tmp -p w !! Operation not permitted
C I was not able to identify the process: nothing holds a file there now and auditing needs root.

= debug success
U Pourquoi les webhooks arrivent avec 10 minutes de retard ?
$ redis-cli llen webhooks => (integer) 48211
R workers/webhooks.js
C La file a 48 000 éléments : un seul worker la traite, et il attend 2 s après chaque échec.
U ok je comprends mieux

= setup success
U Create a GitHub Actions workflow that publishes to PyPI on tags
W .github/workflows/publish.yml
$ actionlint =>
C Tags v* build and publish with trusted publishing.
U 🎉 worked on the first try

= setup success
U add a Dockerfile for the api, multi stage, as small as possible
W Dockerfile
W .dockerignore
$ docker build -t api . => naming to docker.io/library/api:latest done
C The image has 41 MB.

= setup failure
U Install and wire up Sentry for the backend
E requirements.txt | flask | flask\\nsentry-sdk
$ pip install -r requirements.txt !! ERROR: Could not find a version that satisfies the requirement sentry-sdk (from versions: none)
C The package index is not reachable from here, so Sentry could not be installed.
U ugh. okay, never mind

= setup partial
U Move us from webpack to vite
E package.json | webpack | vite
W vite.config.ts
$ npm install => added 120 packages
$ npm run build => ✓ built in 3.9s
C The build runs on vite. The storybook still uses webpack, that part remains to be moved.

= none none
U Is it "its" or "it's" in the sentence "the parser lost its state"?
C "its".

= bugfix success
U Customers in Switzerland pay 8.1% VAT but the invoice prints 7.7%. Could you have a look?
G 7.7
E src/tax/rates.json | "CH": 7.7 | "CH": 8.1
E src/tax/rates.go | 0.077 | 0.081
$ go test ./src/tax => ok  	shop/src/tax	0.210s
C The Swiss rate was outdated in two places; both say 8.1 % now.
U yes, invoice 4711 prints it properly

= bugfix partial
U Search crashes on emoji and it's also awfully slow with more than 10k rows
$ pytest tests/search !! E   sqlite3.OperationalError: malformed MATCH expression: [🚀]
E search/query.py | term | escape(term)
$ pytest tests/search => 29 passed in 4.40s
C Emoji no longer crash the search. I have not touched the speed: that needs an index, which means a migration.
U alright, we'll plan the migration separately

= bugfix failure
U Notifications arrive in the wrong language for half of our users
R server/notify.ex
E server/notify.ex | user.locale | user.settings.locale
$ mix test !! 4 tests, 2 failures
E server/notify.ex | user.settings.locale | Gettext.get_locale()
$ mix test !! 4 tests, 2 failures
U you're going in circles. I'll hand this to Jonas.

= bugfix success
U À chaque déploiement les sessions des utilisateurs sont perdues, il faut que ça cesse.
R config/session.php
E config/session.php | 'file' | 'redis'
$ php artisan test => Tests:  64 passed (210 assertions)
C Les sessions étaient stockées dans des fichiers du conteneur. Elles sont dans Redis à présent.
U Impeccable.

= feature success
U Our support team would love a way to impersonate a user (read only).
W lib/impersonation.ts
E src/middleware.ts | session.user | session.impersonated ?? session.user
$ npm run test:ci => Test Files  41 passed (41)
C Support can open a read-only session as any user; a banner says so.
U tried it with Ana, she's delighted

= feature partial
U Put together a status page that shows uptime, incidents, and lets people subscribe by mail
W status/page.py
W status/incidents.py
$ pytest status => 8 passed in 0.31s
C Uptime and incidents are up. Subscriptions aren't in yet, I'd do those with the existing mailer.
U that's plenty, subscriptions can wait

= feature success
U 管理画面にダークモードを入れてください
E admin/theme.css | :root | @media (prefers-color-scheme: dark)
W admin/ThemeSwitch.vue
$ npm run build => ✓ built in 4.4s
C ダークモードの切り替えを追加しました。
U すごい、ちゃんと切り替わりました

= refactor success
U utils.py has become a junk drawer. Sort its 70 functions into sensible modules and adapt the imports.
R utils.py
W strings.py
W dates.py
E app.py | from utils import | from strings import
$ python -m pytest -q => 402 passed in 21.0s
C utils.py is gone; its functions live in strings, dates, paths and net.

= refactor failure
U Can the three serializers be merged into one generic serializer?
R api/serializers.py
E api/serializers.py | class UserSerializer | class GenericSerializer
$ python manage.py test api !! FAILED (failures=17)
E api/serializers.py | fields | get_fields
$ python manage.py test api !! FAILED (failures=9)
C Nine tests fail because the nested serializers depend on the order of their fields. I don't see a way that keeps the API compatible.
U then forget about it, keep the three

= test success
U nothing checks that webhook signatures are verified. please put that under test
R hooks/verify.rb
W spec/hooks/verify_spec.rb
$ bundle exec rspec spec/hooks => 7 examples, 0 failures
C Valid, missing, wrong and replayed signatures each have an example now.

= test partial
U Port the old mocha specs over to vitest
E test/cart.spec.js | require('chai') | import { expect } from 'vitest'
E test/user.spec.js | require('chai') | import { expect } from 'vitest'
$ npx vitest run => Test Files  2 passed (2)
C cart and user run on vitest. Five spec files are left.
U ok, lunch. rest this afternoon

= docs success
U new hires never know how to get a local database running. write that down somewhere sensible
R docker-compose.yml
W docs/local-database.md
C docs/local-database.md has the five steps, and what to do when the port is taken.
U brilliant

= docs success
U 関数の説明が古いままなので、docstringを今の引数に合わせてください
E core/calc.py | :param a: | :param amount:
$ pydocstyle core =>
C すべての docstring を現在の引数に合わせました。

= research success
U I'm torn between monorepo tools. Turborepo or Nx for five packages?
F https://turborepo.com/docs
F https://nx.dev/getting-started/intro
C For five packages Turborepo: less configuration, and you only need caching. Nx pays off with generators and many teams.
U sold, turborepo it is

= research partial
U What would break if we dropped support for Node 18?
G engines
R package.json
$ npm ls --depth=0 => esbuild@0.21
C Nothing in our own code. For two of the customers' plugins I can't tell, their sources are private; somebody has to ask them.

= debug success
U Half the requests to the cdn miss the cache. Any idea what is behind that?
$ curl -sI https://cdn.example.com/a.js => x-cache: MISS, vary: cookie
R infra/cdn.tf
C It's the header `Vary: Cookie`: each visitor gets an entry of their own. It comes from the session middleware.
U ah of course. good find

= debug failure
U Le service redémarre tout seul deux fois par jour. Cherche pourquoi.
$ journalctl -u api --since yesterday => api.service: Main process exited, code=killed, status=9/KILL
$ dmesg !! dmesg: read kernel buffer failed: Operation not permitted
C Le processus est tué de l'extérieur, mais sans accès au journal du noyau je ne peux pas dire par quoi.
U dommage

= setup success
U wire up renovate so that we get weekly update PRs, grouped
W renovate.json
$ npx renovate-config-validator => INFO: Config validated successfully
C Renovate opens one grouped PR every Monday.

= setup success
U Spin up a local kafka for development, with a UI on port 8080
W docker/kafka.compose.yml
$ docker compose -f docker/kafka.compose.yml up -d => Container kafka-ui  Started
C Kafka listens on 9092, the UI on http://localhost:8080.
U I can see the topics, cheers!

= setup failure
U Get the old PHP 5 project to run on my M3 Mac
W Dockerfile
$ docker build . !! ERROR: no match for platform in manifest: not found
E Dockerfile | php:5.6 | --platform=linux/amd64 php:5.6
$ docker run --rm app php -v !! qemu: uncaught target signal 11 (Segmentation fault)
C PHP 5.6 segfaults under emulation. I don't think this can work on Apple silicon.
U pity, I'll get an Intel box
"""

# Written last, 20 and 20. When it was first run on them: 18 and 20 types, 20 and 17 outcomes, 18 and 17 both right.
FRESH = """
= bugfix success
U The unit converter says 1 mile = 1.69 km. That's off.
R src/convert.js
E src/convert.js | 1.69 | 1.609344
$ npm test => 12 passing (20ms)
C Corrected the factor to 1.609344; the tests pass.
U thanks a lot

= bugfix success
U I get this when running migrations: django.db.utils.ProgrammingError: column "slug" already exists
$ python manage.py migrate !! django.db.utils.ProgrammingError: column "slug" of relation "shop_product" already exists
R shop/migrations/0012_slug.py
E shop/migrations/0012_slug.py | AddField | RunSQL
$ python manage.py migrate => Applying shop.0012_slug... OK
$ git commit -am "Migration 0012 tolerates an existing column" => [main cc01dd2] Migration 0012 tolerates an existing column
C The column had been added by hand on this database. The migration now checks for it first.

= bugfix failure
U The PDF export cuts off the last line of each page. Please fix.
R export/pdf.py
E export/pdf.py | margin=10 | margin=20
$ pytest export -q !! 1 failed, 6 passed
E export/pdf.py | margin=20 | margin=25
$ pytest export -q !! 1 failed, 6 passed
C The last line is still cut off on A4, and I couldn't find where the height is computed.

= bugfix partial
U Login with Google fails on Firefox and the logout button is missing on mobile.
E src/auth/google.ts | popup | redirect
$ npm run test => Tests: 18 passed, 18 total
C Google login works in Firefox again. The logout button I haven't done yet.
U ok, do that one another time

= bugfix success
U ファイルをアップロードするとタイムアウトします。直してもらえますか？
R server/upload.go
E server/upload.go | 30 * time.Second | 10 * time.Minute
$ go test ./server => ok  	app/server	1.2s
C タイムアウトを10分に延ばし、直りました。
U ありがとうございます。助かりました。

= feature success
U Add an endpoint to cancel an order, with a reason that is stored.
R api/orders.py
E api/orders.py | def create | def cancel
$ pytest api/test_orders.py => 15 passed in 1.1s
C POST /orders/{id}/cancel stores the reason; 15 tests pass.
U great

= feature success
U Please implement autosave in the editor every 30 seconds.
R src/editor.ts
E src/editor.ts | setState | setInterval(save, 30000)
$ npm run lint && npm test => Tests: 52 passed, 52 total
$ git commit -am "Autosave every 30 s" => [feat/autosave 1f2e3d4] Autosave every 30 s
C Autosave is in place and committed.

= feature partial
U Add two-factor authentication: TOTP, recovery codes and a settings page.
W auth/totp.py
$ pytest auth => 20 passed in 2.0s
C TOTP and the recovery codes are implemented and tested. The settings page is still missing.

= feature failure
U Create a plugin system so that third parties can add exporters.
W plugins/loader.py
$ pytest plugins !! ImportError: cannot import name 'entry_points'\\n3 failed
X
U this is too complicated, undo everything please
$ git reset --hard => HEAD is now at 1234567

= feature success
U Peux-tu ajouter un bouton pour copier le lien de partage ?
R src/Share.vue
E src/Share.vue | <input | <button @click="copy">
$ npm run test:unit => Tests  9 passed (9)
C Le bouton est ajouté et copie le lien.
U Parfait merci

= refactor success
U Clean up the auth module: there's duplicated code in login and signup.
R auth/login.py
E auth/login.py | hash | from auth.common import hash
W auth/common.py
$ pytest auth => 44 passed in 3.0s
C The common parts moved to auth/common.py. All tests pass.
U thank you

= refactor failure
U Rewrite the build script in TypeScript.
R build.js
W build.ts
$ npx tsx build.ts !! Error: Cannot find module './plugins'
E build.ts | ./plugins | ./plugins.js
$ npx tsx build.ts !! ReferenceError: __dirname is not defined in ES module scope
C It doesn't run yet: the plugins are CommonJS.
U forget it, keep the JS version

= test success
U Please add tests for the CSV parser, especially quoted fields and empty lines.
R lib/csv.rb
W test/csv_test.rb
$ bundle exec rake test => 11 runs, 24 assertions, 0 failures, 0 errors
C 11 tests, including quoted fields and empty lines.
U nice

= test failure
U Écris des tests d'intégration pour le service d'envoi d'e-mails.
W tests/test_mail.py
$ pytest tests/test_mail.py !! ConnectionRefusedError: [Errno 111]\\n4 failed
C Je n'ai pas réussi à faire passer les tests : il n'y a pas de serveur SMTP ici.

= docs success
U Write documentation for the configuration file, all keys with defaults.
R src/config.rs
W docs/configuration.md
C docs/configuration.md lists all 34 keys.
U perfect, thanks

= research success
U Can you research how other projects handle schema versioning and recommend something for us?
S schema versioning strategies
F https://martinfowler.com/articles/evodb.html
C Most use expand and contract migrations. I recommend that with a version table.
U Very useful, thank you

= debug success
U Find out why the tests are slow since last week.
$ pytest --durations=5 => 34.2s call tests/test_api.py::test_all
R tests/conftest.py
C The fixture `db` was changed from session to function scope last Tuesday, so the database is rebuilt for every test.
U thanks, that's the reason indeed

= debug partial
U The app uses 100% CPU when idle. Investigate please.
$ py-spy dump --pid 4121 => poll_loop (worker.py:31)
R worker.py
C It is the poll loop in worker.py, which never sleeps when the queue is empty. Whether there's a second cause I haven't checked yet.
U good, let's look at the rest tomorrow

= setup success
U Set up ESLint and Prettier with a pre-commit hook.
W eslint.config.js
W .prettierrc
$ npm install -D eslint prettier husky => added 88 packages
$ npx eslint . =>
C ESLint, Prettier and the hook are set up.
U works, thanks

= setup failure
U Installe PostgreSQL en local et configure la connexion.
$ apt-get install -y postgresql !! E: Unable to locate package postgresql
$ brew install postgresql !! bash: brew: command not found
C Impossible d'installer PostgreSQL ici : aucun gestionnaire de paquets n'y a accès.
U tant pis

= bugfix success
U Our cron job sends the weekly digest on Sunday instead of Monday. Can you correct it?
G digest
R jobs/digest.yml
R jobs/digest.py
E jobs/digest.py | weekday() == 6 | weekday() == 0
$ python -m pytest tests/test_digest.py -q => 5 passed in 0.12s
C The check compared weekday() with 6, which is Sunday. It compares with 0 now.\\n\\nNext steps: you may want to tell the subscribers.
U Perfect, thanks!

= bugfix failure
U The iframe widget won't load on customer sites because of CSP. Fix it please.
R widget/embed.js
E widget/embed.js | eval( | Function(
$ npx playwright test widget !! 2 failed\\n  Refused to evaluate a string as JavaScript
E widget/embed.js | Function( | import(
$ npx playwright test widget !! 2 failed\\n  Refused to load the script
C It still doesn't load: the customer's policy allows no script from our domain at all. This cannot be solved on our side.
U hmm that's disappointing

= bugfix success
U Les prix s'affichent avec un point au lieu d'une virgule pour les clients français. Corrige stp.
E src/price.ts | toFixed(2) | toLocaleString(locale)
$ npm test -- price !! Expected: "12,50"\\nTests: 1 failed, 3 passed, 4 total
E src/price.ts | toLocaleString(locale) | toLocaleString(locale, { minimumFractionDigits: 2 })
$ npm test -- price => Tests: 4 passed, 4 total
C Les prix suivent maintenant la langue du client.
U merci, c'est bon

= bugfix success
U ダークモードで文字が見えない問題を修正してください
R src/theme.css
E src/theme.css | color: #111 | color: var(--fg)
$ npm run build => ✓ built in 2.0s
$ git commit -am "fix: dark mode text color" => [main 8c1d2e3] fix: dark mode text color
C 文字色を変数に置き換えて修正しました。

= feature success
U Add support for uploading multiple files at once in the dropzone
R src/Dropzone.jsx
E src/Dropzone.jsx | files[0] | files.map
W src/Dropzone.test.jsx
$ npm test Dropzone => Tests: 7 passed, 7 total
C The dropzone accepts several files at once and shows a progress bar for each.
U amazing work

= feature success
U I want a `--watch` mode for our build command
R build/cli.ts
E build/cli.ts | program.option | program.option("--watch")
W build/watch.ts
$ pnpm typecheck && pnpm test => Tests  61 passed (61)
$ gh pr create --fill => https://github.com/acme/build/pull/91
C `--watch` rebuilds what changed; PR #91 is open.

= feature partial
U Implement role based permissions for the admin area: roles, assignment UI, and enforcement in the API
W src/roles.ts
E src/api/guard.ts | allow | hasRole
$ npm test => Tests: 130 passed, 130 total
C Roles and the enforcement in the API are done and tested. I have not built the assignment UI yet.
U ok good, the UI comes next week

= feature failure
U Add real-time collaboration to the editor with Yjs
E package.json | "react" | "yjs", "react"
$ npm install => added 9 packages
W src/collab.ts
$ npm run build !! TypeError: Cannot read properties of undefined (reading 'getMap')
X
U no. this breaks everything, roll it back
$ git checkout . => Updated 2 paths from the index

= feature success
U 注文履歴ページにページネーションを追加して
E src/orders/History.tsx | orders.map | page(orders)
$ npm test => Tests: 29 passed, 29 total
C 20件ごとのページネーションを追加しました。
U ありがとう！

= refactor success
U Please refactor the notification code: email, SMS and push each duplicate the template logic.
R notify/email.py
W notify/template.py
E notify/email.py | render | template.render
E notify/sms.py | render | template.render
$ pytest notify => 36 passed in 1.7s
C The template logic is in one place now, used by all three channels.
U great, that's much cleaner

= refactor success
U Split the 2000-line main.go into packages
R main.go
W server/server.go
W store/store.go
E main.go | func | package
$ go build ./... !! main.go:14:2: undefined: newStore
E main.go | newStore | store.New
$ go build ./... && go test ./... => ok  	app/server	0.4s
C main.go is 60 lines; the rest lives in server, store and cmd.

= test success
U Could you add unit tests for the permission helper? It's critical code.
R lib/can.js
W lib/can.test.js
$ npx jest lib/can => Tests: 15 passed, 15 total
C All roles and the deny rules are tested, 15 cases.
U thanks!

= test partial
U Increase test coverage for the api package to 90%
$ go test -cover ./api => coverage: 61.0% of statements
W api/users_test.go
W api/orders_test.go
$ go test -cover ./api => ok  	app/api	coverage: 82.3% of statements
C Coverage went from 61% to 82%. The remaining gaps are the error paths of the S3 client, which need a fake server.

= docs success
U The API reference is out of date, regenerate it and document the new /refunds endpoint
R src/routes/refunds.ts
E docs/api.md | ## Orders | ## Refunds
$ npm run docs:build => ✓ docs built
C docs/api.md covers /refunds, and the rest was regenerated.
U looks great

= research success
U What's the best way to do background jobs in Rails 8, Sidekiq or Solid Queue?
S rails 8 solid queue vs sidekiq
F https://github.com/rails/solid_queue
C Solid Queue for you: no Redis, the default in Rails 8, and enough for your 20 jobs a second.
U ok great, thank you

= research success
U How is authentication implemented here? Just explain, no changes.
G authenticate
R src/auth/index.ts
R src/auth/jwt.ts
C Requests carry a JWT that auth/index.ts verifies; refresh tokens are in Redis for 30 days.

= debug success
U Why do we get random 502s from the gateway? Please find the root cause.
$ kubectl logs deploy/gateway --tail=50 => upstream prematurely closed connection
R k8s/api.yaml
$ kubectl describe pod api-7d9 => Last State: Terminated, Reason: OOMKilled
C Root cause: the API pods are OOMKilled at 512Mi, and the gateway answers 502 until the next one is ready.
U excellent, thanks

= debug failure
U Figure out why the Android app loses its login after an update
R app/src/main/java/Session.kt
$ adb logcat -d !! adb: no devices/emulators found
G SharedPreferences
C I couldn't determine the cause without a device: nothing in the code clears the preferences.
U alright, leave it then

= setup success
U Dockerize this app: Dockerfile and docker-compose with postgres
W Dockerfile
W docker-compose.yml
$ docker compose up -d => Container app-web-1  Started
$ curl -s localhost:8000 => <html>
C The app runs with `docker compose up`.
U awesome, it works

= setup partial
U Upgrade all dependencies to their latest versions
E package.json | "react": "^17" | "react": "^19"
$ npm install => changed 210 packages
$ npm test !! Tests: 4 failed, 120 passed, 124 total
C Everything is at the latest version. 120 tests pass, 4 still fail in the charts, whose library changed its API.
U ok, I'll look at the charts myself
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
