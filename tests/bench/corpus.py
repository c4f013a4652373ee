"""Real text to measure with: the sources of the running Python's standard library, cut at line ends to about 2 KB.

Some French is made up. Everything is the same in every run.
"""
from __future__ import annotations

import json
import os
import random
import sysconfig
import time
import uuid
from collections.abc import Iterator
from itertools import islice

CHUNK_CHARS = 2000
TEXTS: list[str] = []  # the first of source_texts, once they were read


def source_texts() -> Iterator[str]:
    """The library's source files, in an order that mixes topics but is always the same."""
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(sysconfig.get_paths()["stdlib"])
             for name in names if name.endswith((".py", ".txt", ".rst"))]
    random.Random(20261121).shuffle(paths)
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                yield file.read()
        except (OSError, ValueError):
            continue


def chunks(n_wanted: int) -> Iterator[str]:
    """That many different chunks. When the library is too small, its lines come again in another order."""
    seen: set[str] = set()
    for n_round in range(1000):
        rng = random.Random(n_round)
        for text in source_texts():
            lines = text.split("\n")
            if n_round:
                rng.shuffle(lines)
            part: list[str] = []
            for line in lines:
                part.append(line[:CHUNK_CHARS])
                if sum(map(len, part)) >= CHUNK_CHARS:
                    whole, part = "\n".join(part), []
                    if whole not in seen:
                        seen.add(whole)
                        yield whole
                        if len(seen) == n_wanted:
                            return


SUBJECTS = """le serveur|la base de données|cette requête|l'équipe|notre client|le connecteur|la sauvegarde|un test|la page
    d'accueil|le déploiement|une migration|la file d'attente|le cache|l'utilisateur|la réunion""".split("|")
VERBS = """a refusé|a été corrigé avec|dépend de|ne répond plus à|remplace|avait ralenti|doit vérifier|a perdu|enregistre
    |supprimera|attendait|bloque|a terminé|relance|mesure""".split("|")
OBJECTS = """la connexion|les mots de passe|le fichier de configuration|une erreur de lecture|des données incomplètes|l'index
    |la mémoire du processus|les délais d'attente|chaque étape|le certificat expiré|l'ancienne version|un numéro de série""".split("|")


def french_text(rng: random.Random) -> str:
    """A chunk of simple French sentences, no two chunks alike."""
    lines: list[str] = []
    while sum(map(len, lines)) < CHUNK_CHARS:
        subject, verb, thing = (" ".join(rng.choice(words).split()) for words in (SUBJECTS, VERBS, OBJECTS))
        lines.append(f"Le {rng.randint(1, 28)} mars, {subject} {verb} {thing} ({rng.randint(100, 99999)}).")
    return "\n".join(lines)


def mixed_chunks(n_wanted: int) -> Iterator[str]:
    """Different chunks, every tenth in French."""
    rng, real = random.Random(33), chunks(n_wanted)
    for i in range(n_wanted):
        yield french_text(rng) if i % 10 == 9 else next(real)


def write_jsonl(path: str, n_wanted: int, n_projects: int = 20) -> None:
    """A file for `rlm.py import` with that many chunks, spread over projects and the last 300 days."""
    rng = random.Random(1)
    with open(path, "w", encoding="utf-8") as file:
        for i, text in enumerate(mixed_chunks(n_wanted)):
            day = f"2026-{1 + i % 10:02d}-{1 + rng.randrange(28):02d}T12:00:00"
            file.write(json.dumps({"text": text, "project": f"project{i % n_projects}", "created_at": day}) + "\n")


def identity(rng: random.Random) -> str:
    """A UUID."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


class Talk:
    """A conversation with Claude Code as its client writes it down: prompts, calls, results with real text, noise."""

    def __init__(self, seed: int, cwd: str = "/home/dev/project") -> None:
        self.rng = random.Random(seed)
        self.session = identity(self.rng)
        self.cwd = cwd
        self.clock_s = 1795245228 + seed * 10_000
        self.parent = ""

    def text(self, n_chars: int) -> str:
        """So much real text, from line to line."""
        if not TEXTS:
            TEXTS.extend(islice((text for text in source_texts() if len(text) > 2000), 400))
        found = self.rng.choice(TEXTS)
        start = self.rng.randrange(max(1, len(found) - n_chars))
        return found[start : start + n_chars]

    def line(self, **fields: object) -> bytes:
        """A line with what all lines have."""
        self.clock_s += self.rng.randint(1, 20)
        own = identity(self.rng)
        whole = {"parentUuid": self.parent or None, "isSidechain": False, **fields, "uuid": own,
                 "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.123Z", time.gmtime(self.clock_s)), "userType": "external",
                 "entrypoint": "cli", "cwd": self.cwd, "sessionId": self.session, "version": "2.1.329",
                 "gitBranch": "main"}
        self.parent = own
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def assistant(self, block: object) -> bytes:
        """A line of one block."""
        usage = {"input_tokens": 100, "output_tokens": 20, "service_tier": "standard", "iterations": []}
        message = {"id": "msg_" + identity(self.rng)[:12], "type": "message", "role": "assistant",
                   "model": "claude-opus-5-5", "content": [block], "stop_reason": "tool_use", "usage": usage}
        return self.line(message=message, requestId="req_1", type="assistant")

    def call(self) -> Iterator[bytes]:
        """A tool call and its result, which the client writes down twice."""
        rng, made = self.rng, "toolu_" + identity(self.rng)[:12]
        text = self.text(rng.choice((200, 800, 2000, 6000, 20_000)))
        name, given, extra = rng.choice([
            ("Read", {"file_path": f"{self.cwd}/src/f{rng.randint(1, 99)}.py"}, {"type": "text", "file": {"content": text}}),
            ("Bash", {"command": f"pytest -q tests/{rng.randint(1, 50)}"}, {"stdout": text, "stderr": "", "interrupted": False}),
            ("Edit", {"file_path": f"{self.cwd}/src/f{rng.randint(1, 99)}.py", "old_string": self.text(300),
                      "new_string": self.text(400)}, {"filePath": "x", "originalFile": text, "structuredPatch": []})])
        yield self.assistant({"type": "thinking", "thinking": self.text(500), "signature": "Er" * 200})
        yield self.assistant({"type": "tool_use", "id": made, "name": name, "input": given})
        shown = "The file has been updated." if name == "Edit" else text
        content = [{"tool_use_id": made, "type": "tool_result", "content": shown}]
        yield self.line(promptId="p", type="user", message={"role": "user", "content": content}, toolUseResult=extra)

    def lines(self, n_bytes: int) -> Iterator[bytes]:
        """The conversation, some *n_bytes* of it."""
        n_written = 0
        while n_written < n_bytes:
            turn = [self.line(promptId="p", type="user", message={"role": "user", "content": self.text(300)}),
                    self.line(attachment={"type": "prompt_snapshot", "systemPrompt": [self.text(4000)]}, type="attachment")]
            for _ in range(self.rng.randint(1, 12)):
                turn += self.call()
            turn.append(self.assistant({"type": "text", "text": self.text(600)}))
            yield from turn
            n_written += sum(map(len, turn))


def write_transcript(folder: str, n_bytes: int, seed: int = 1, cwd: str = "/home/dev/project") -> str:
    """A transcript of about that size in the folder; its path."""
    talk = Talk(seed, cwd)
    path = os.path.join(folder, talk.session + ".jsonl")
    with open(path, "wb") as file:
        file.writelines(talk.lines(n_bytes))
    return path
