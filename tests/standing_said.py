"""What users say to Claude Code, labelled by hand before the program was written: wishes that hold from now on, and
orders for the task at hand that look like them. Further sentences are kept aside by whoever reviews."""

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
""".splitlines()
