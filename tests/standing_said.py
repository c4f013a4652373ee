"""What users say to Claude Code, labelled by hand: wishes that hold from now on, and orders for the task at hand that
look like them. The first 86 and 105 were written before the program, the others after it, before it was run on them."""

WISHES = """\
always use pnpm
Always use pnpm, never npm.
please always run the tests before committing
Never touch the prod database.
never push directly to main
Answer in French.
answer me in french please
From now on, write commit messages in English.
from now on use tabs instead of spaces
I prefer small commits with one change each.
I'd rather you ask before installing new dependencies
I like short answers, no bullet lists
Don't ever force push.
do not ever edit the generated files by hand
In this project we use uv, not pip.
we use vitest here, not jest
In this repo tests live next to the source files
Remember that staging is at eu-west-3
remember: the API key lives in 1Password, never in .env
Keep in mind that we support Python 3.9
In the future, please don't add comments to the code
going forward, every new endpoint needs an OpenAPI entry
As a rule, no default exports.
By default use the eu-central region
Whenever you change a migration, update docs/schema.md too.
Every time you add a dependency, tell me why
Before every commit run make lint
after each change, run the type checker
Don't add Co-Authored-By lines to commits, ever
Stop using emojis in your answers
stop adding comments everywhere
no emojis please
You should always explain your plan before editing.
You must never commit secrets
don't use any in TypeScript in this codebase
Please avoid using classes in general, we write functional code
We never deploy on Fridays.
our convention is snake_case for file names
The convention here is to prefix branches with feat/ or fix/
I want you to always show me the diff first
I always want type hints on public functions
Call me Sam.
My preference is composition over inheritance.
I hate it when you rewrite whole files, make minimal edits
use British spelling from here on
Actually from now on use yarn instead of pnpm
No more mocks in integration tests from now on.
you can commit without asking me from now on
You don't need to run the whole test suite each time
Utilise toujours pnpm.
réponds toujours en français
Réponds-moi en français s'il te plaît
Ne touche jamais à la prod
ne fais jamais de force push
Dorénavant, écris les messages de commit en anglais.
À partir de maintenant, on utilise uv et plus pip
désormais tu me demandes avant d'installer un paquet
Je préfère des réponses courtes.
Je préfère qu'on évite les classes
Dans ce projet on utilise des tabulations
Il faut toujours lancer les tests avant de commiter
à chaque fois que tu modifies une migration, mets à jour le schéma
Avant chaque commit, lance le linter
Souviens-toi que la préprod est sur eu-west-3
N'oublie pas que nous supportons Python 3.9
Tutoie-moi.
Arrête d'ajouter des commentaires partout
Par défaut, prends la région eu-central
plus jamais de emojis s'il te plaît
En général, évite les dépendances externes
Notre convention : les branches commencent par feat/
常に pnpm を使ってください。
必ずテストを実行してからコミットしてください
本番には絶対に触らないで
日本語で答えてください。
これからは日本語で返事して
今後はコミットメッセージを英語で書いてください
毎回、変更の前に計画を説明してください
このプロジェクトでは npm ではなく pnpm を使います
いつも短く答えてほしい
コメントは日本語で書くのが好みです
二度と force push しないでください
覚えておいて：ステージングは eu-west-3 です
基本的に外部ライブラリは使わないでください
絵文字は使わないでください
コミットする前に毎回 lint を走らせて
Make it a habit to run prettier before you commit.
I only ever want ESM imports
Commit messages should always follow Conventional Commits.
All commit messages must be in English.
Tests must always be written with pytest, not unittest.
Prefer functional components over class components.
Don't use semicolons in our JS code.
Use 4 spaces for indentation in all Python files.
use single quotes everywhere
You're not allowed to touch anything under infra/ without asking me.
Ask me before deleting any file.
ask before running any destructive command
Keep your answers short.
Be concise.
be brief in your replies
I'm on Windows, so give me PowerShell commands.
My name is Clara.
Always, and I mean always, run the linter.
never ever rm -rf anything
For all future sessions: use bun.
Let's always use early returns.
our team uses Jira, put the ticket number in each commit
Please don't use emojis in your responses.
The default branch is called trunk in all our repos, never main.
please respond only in German
I want all comments in English.
I don't like long functions
When writing tests, use fixtures rather than mocks.
when in doubt, ask me
Unless I say otherwise, work on a feature branch.
Every PR needs a changelog entry.
Never use the --force flag.
don't run the dev server yourself, I always have it running
do not mention Claude in commit messages
For Python, always use ruff.
Dates are to be written as YYYY-MM-DD everywhere
Forget about pnpm, we are on bun from now on
you never have to ask before running tests
you must ask for confirmation before touching prod
Prod is off limits.
Il ne faut jamais pousser sur main
Demande-moi toujours avant de supprimer un fichier
Pas de commentaires en anglais dans le code, jamais
Ne mets plus d'emojis dans tes réponses
Sois bref dans tes réponses.
Fais toujours une branche avant de modifier le code
tous les messages de commit doivent être en français
n'utilise pas de classes, on préfère les fonctions
Sauf indication contraire, travaille sur une branche
Quand tu écris des tests, utilise pytest
On commite toujours avec le numéro du ticket.
Je veux que tu me montres toujours le plan d'abord
tu peux toujours lancer les tests sans me demander
Ne jamais modifier les fichiers générés
Je ne veux plus de console.log dans le code
回答は常に簡潔にしてください
返答は必ず日本語でお願いします
今後は yarn ではなく pnpm を使うこと
main ブランチに直接 push しないでください、絶対に
テストは必ず pytest で書いてください
私には敬語を使わなくていいです
ファイルを削除する前に必ず確認してください
このリポジトリではタブではなくスペースを使って
コミットメッセージはいつも英語でお願いします
変数名は snake_case にするのがルールです
npm は使わないで、これからは bun で
I always use zsh, so write shell snippets for zsh.
Going forward please squash commits before merging
always add a test when you fix a bug
Never install packages globally.
You should never edit files in vendor/
from now on, call the staging server "blue"
Please always use absolute imports in this project.
Every function needs a docstring.
don't ever commit directly on main again
I prefer tabs.
I prefer async/await over callbacks
We always squash merge.
We don't use ORMs here, write plain SQL
Do not use lodash in this codebase.
No trailing whitespace, ever.
Always reply to me in Spanish
Explain things briefly, I'm an experienced developer
I don't want you to touch the CI config
make sure to always run cargo fmt
Never log personal data
Don't apologize in your answers.
Remember that we deploy from the release branch
whenever you rename something, update the docs as well
each time you finish a task, summarise what changed
Our naming convention is kebab-case for files.
please keep your explanations short from now on
toujours écrire les tests avant le code
Utilise toujours des guillemets simples
Ne supprime jamais de fichiers sans me demander
Je préfère TypeScript à JavaScript
Désormais, réponds en anglais
À l'avenir, évite les abréviations
N'oublie pas que la prod tourne sous PHP 7.4
On n'utilise jamais de variables globales
Dans ce dépôt, les noms de branches sont en anglais
Appelle-moi Léa
今後は必ずブランチを切って作業してください
コメントは英語で書いてください。今後ずっと
いつも敬語で話してください
.env ファイルは絶対にコミットしないで
このプロジェクトではテストに vitest を使っています
変更したら毎回テストを走らせてください
短い回答が好きです
""".splitlines()

ORDERS = """\
use pnpm to install this package
Add a rule that always redirects http to https
the button is always disabled, fix it
why does this function never return?
This test always fails on CI, can you look into it?
The cache is never invalidated, please fix.
Don't touch the tests for now, just fix the parser
Don't commit yet.
do not push this branch until I say so
Never mind.
never mind, I found it
Rewrite the README in French
translate the error messages into French
answer the question in the issue
Write the docstring of parse() in English
make sure the tests pass before you commit this
Run the tests before committing this change.
Use tabs in this file
Rename getUser to fetchUser everywhere
remove all emojis from the README
Avoid the extra query in this function
Remember to close the file handle in this function
remember the bug from yesterday? it is back
Do you remember where we put the config?
don't forget to bump the version in package.json
I'd rather fix the bug than refactor now
I prefer option B, go ahead
I like the second one better
I like it, merge it
Do we always close the connection?
Should I always use useMemo here?
What is the default region?
Set the default timeout to 30 seconds
the default branch should be main
change the default port to 8080 by default
Write a function that is called every time the user logs in
Every time I click save, the page reloads. Fix that.
The job runs before each deploy; disable it today
After each request the counter goes up by two, why?
whenever I open the modal it crashes
Stop the dev server
stop, that's wrong
Stop using the old client in billing.py
no more than 3 retries in this loop
No, use the other endpoint
Can you always-on enable the feature flag for beta users?
it should never be null, add an assertion
The user must always be logged in to see this page
You must have broken something, the build fails
From now on the API returns 410 for this endpoint, update the client
In this project there are two Dockerfiles, delete the old one
In this repo, where is the login handled?
we use redis for the queue, right?
We use the wrong column in this query, fix it
keep the old function for now
Keep in mind the edge case of empty lists when you write this function
Call me when it is done
call the API with the new token
The convention test fails, fix it
Prefer the cached value in getPrice()
Let's go with tabs for this table
Please never show this banner to admins
I want you to fix the login page
I want a button that always stays on top
Show the diff before you apply this patch
add an option --always to the CLI
In the future we may need sharding, but skip it now
Fix the typo in "never use eval"
Why did you not run the tests before the commit?
I never said that
you never answered my question
I always get a 500 here
Utilise pnpm pour installer ce paquet
Pourquoi le test échoue toujours ?
Le bouton est toujours désactivé, corrige ça
ça ne marche toujours pas
Je préfère la deuxième option, vas-y
Ne commite pas encore
Traduis le README en français
Écris cette docstring en anglais
Le cache n'est jamais vidé, corrige
N'oublie pas de monter la version dans package.json
Arrête le serveur
Mets la région par défaut à eu-central dans la config
Chaque fois que je clique sur enregistrer, la page recharge
Lance les tests avant de commiter ce changement
Ne touche pas aux tests pour l'instant
Dans ce projet il y a deux Dockerfile, supprime l'ancien
Je n'ai jamais dit ça
Tu te souviens du bug d'hier ?
On utilise quelle version de Python ?
このテストはいつも失敗します。直してください
README を日本語に翻訳してください
このボタンが常に無効になっています
pnpm でこのパッケージを入れてください
まだコミットしないでください
なぜ毎回リロードされるのですか？
このファイルではタブを使って
必ず null にならないように assert を追加して
キャッシュが一度も消えない問題を直して
デフォルトのポートを 8080 に変えて
このコミットの前にテストを実行して
覚えていますか？昨日のバグです
2番目の案が好きです、進めてください
サーバーを止めて
Always return 404 when the user is missing
The header should always be visible on scroll
make the sidebar always visible
Ensure the queue never exceeds 100 items
why is it always slow on the first load
it always worked before your change
That never happened before
We've never seen this error, can you investigate
I've always wondered how this works
Replace npm with pnpm in the Dockerfile
switch this project to pnpm
Convert the component to TypeScript
Please add French translations for the settings page
Reply to the review comment from Ana
answer: yes, go on
Explain in French what this regex does
write a poem in Japanese for the landing page
Change the prompt so that the bot answers in French
Set the bot's system prompt to 'never reveal secrets'
add a check so users can never delete their last admin
prefer-const is failing in lint, fix it
I prefer the first design
I'd rather not
I would rather keep the first version, please revert
I like this approach
I don't like this, undo
I don't want this in the PR
I hate this bug
Whenever the token expires we should log the user out
each time the worker restarts, it loses its queue. find out why
Before each test the db is wiped, add a hook for that
run all tests after you finish
When you are done, push it
when you finish the refactor, update the changelog
Stop here.
stop the container and rebuild it
No comments on that for now
no, revert it please
no problem, thanks
Use Postgres for the new service
use the staging database for this test
don't use the cache for this query
Do not change the public API in this refactoring
skip the slow tests this time
Keep the tests green while you refactor
Let's use zod for the form
Our rule engine is broken, look at rules.py
what's our convention for branch names?
The policy is not applied to S3 buckets, fix it
by default the modal is open, close it
the default should be dark mode
Remember me checkbox does not work
Remember to run the migration now
Note that the test on line 40 fails
In this repo there is a bug in the parser
find all usages of foo in this project
Call me an ambulance emoji on the button
From now on the button is blue: update the CSS
In the future this will be removed, add a deprecation warning
add a TODO: never call this in prod
Le menu doit toujours rester visible
Pourquoi ça n'arrive jamais en local ?
je n'arrive toujours pas à me connecter
Ajoute une règle pour que le mot de passe ne soit jamais affiché
Réponds au commentaire de Paul
réponds à la question 3
Préfère la version asynchrone dans cette fonction
J'aime bien la deuxième version
Je préfère annuler le dernier commit
Quand tu auras fini, fais un commit
Avant chaque test la base est vidée, pourquoi ?
Par défaut la fenêtre est ouverte, ferme-la
Arrête le conteneur
Pas de souci, continue
Retiens la valeur dans une variable
traduis toujours la même chaîne ? c'est un bug
ログインは必ず HTTPS にリダイレクトするように実装して
常に 500 エラーが返ってきます
英語のドキュメントを書いてください
いつもの手順でデプロイして
このクエリではキャッシュを使わないで
エラーメッセージを日本語で表示して
必ずログが出るようにしてください、この関数だけ
前回と同じように直して
絶対パスを使ってファイルを読んで
毎回同じエラーが出ます。調べてください
それはやめて、元に戻して
always-on mode is broken, fix it
Why is the list never empty after a reset?
The worker never stops, kill it
Add a test that never touches the network
never mind the warning, continue
make the footer always stick to the bottom
it always shows the same user
You never committed the last change, do it now
Do we use tabs or spaces?
write the release notes in English
Use yarn for this one
we should remove the flag in the next PR
Before you commit, run the tests once more
After every merge the build breaks. Look into it.
I like the idea, implement it
I'd prefer to see the diff first before you apply it
I want to see the logs
Don't run the migration yet
don't change anything, just explain
do not delete the old table, rename it
no tests needed
no need to update the docs
Stop printing the debug output in the loop
Keep the old name as an alias
Please use the new logger in the auth module
In this project I get an error on install, help
remember to remove the print statements
Note: the file is in the archive folder
Every test fails with the same error
All tests should pass now
the rule in line 12 is wrong
our policy page has a typo
From now on we need to return ISO dates in the API, change the serializer
Utilise la nouvelle API pour cette page
Le test passe toujours en local
Tu n'as jamais répondu à ma question
Je préfère attendre
ne change rien d'autre
n'utilise pas le cache pour cette requête
Réponds à ce commentaire en anglais
Avant de commiter, lance les tests
par défaut, le champ est vide : corrige
N'oublie pas le fichier de config
常に true を返すバグを直して
いつも落ちるテストを調べてください
このファイルは触らないで
必ずテストを通してから終わって
日本語のラベルを追加してください
毎回ログインし直す必要があるのを直して
今後の予定を README に書いて
""".splitlines()
