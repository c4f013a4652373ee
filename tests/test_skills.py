"""The skills are loadable by the client, name only tools, parameters and commands that exist, and keep their promises."""
from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import unittest

from tests.support import ROOT, TempHome, rlm

NAMES = ("rlm", "rlm-analyze", "rlm-parallel")
# Commands that another part of the program brings; how a skill writes them is checked once they are there.
PLANNED = {"import", "doctor", "install", "restore-transcript", "scrub", "config"}
SERVER = "mcp__rlm__"
AGENT = {"subagent_type", "run_in_background"}  # parameters of the client's Agent tool


def skill(name: str) -> str:
    """The text of a skill's file."""
    with open(os.path.join(ROOT, "skills", name, "SKILL.md"), encoding="utf-8") as file:
        return file.read()


def frontmatter(text: str) -> dict[str, str]:
    """The keys between the two lines of dashes, each a plain or single-quoted value on one line."""
    head = text.split("---\n")[1]
    return dict(line.split(": ", 1) for line in head.splitlines())


def body(text: str) -> str:
    """What the model gets: all after the frontmatter."""
    return text.split("---\n", 2)[2]


def prompts(text: str) -> list[str]:
    """The subagent prompts of a skill."""
    return re.findall(r"^```text\n(.*?)^```", text, re.M | re.S)


def tool_names(text: str) -> set[str]:
    """Every tool that the text names, without the server's prefix."""
    return set(re.findall(r"\brlm_[a-z_]+", text.replace(SERVER, "")))


def calls(text: str) -> list[tuple[str, list[str]]]:
    """The calls written out as `rlm_peek(chunk_id="…")`: tool and parameter names."""
    found = re.findall(r"(rlm_[a-z_]+)\(((?:\"[^\"]*\"|[^\")])*)\)", text)
    return [(name, re.findall(r"(\w+)=", re.sub(r'"[^"]*"', '""', inner))) for name, inner in found]


def shell_lines(text: str) -> list[list[str]]:
    """The shell commands written out as `rlm …`, as words after the program's name."""
    spans = re.findall(r"`rlm ([^`]+)`", text) + re.findall(r"\brlm (peek [A-Z0-9:-]+)", text)
    return [shlex.split(span) for span in spans]


def parses(words: list[str]) -> bool:
    """Whether the command line accepts these words today."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            rlm.build_parser().parse_args(words)
        except (SystemExit, argparse.ArgumentError):
            return False
    return True


class Files(unittest.TestCase):
    """What the client asks of a skill's file."""

    def test_each_skill_is_a_folder_with_one_upper_case_file(self) -> None:
        folder = os.path.join(ROOT, "skills")
        self.assertEqual(sorted(os.listdir(folder)), sorted(NAMES))
        for name in NAMES:
            agents = ["rlm-leaf.md"] if name == "rlm-parallel" else []
            self.assertEqual(sorted(os.listdir(os.path.join(folder, name))), ["SKILL.md", *agents])

    def test_the_frontmatter_is_complete_and_plain_yaml(self) -> None:
        for name in NAMES:
            head = frontmatter(skill(name))
            self.assertEqual(list(head), ["name", "description", "argument-hint"])
            self.assertEqual(head["name"], name)
            self.assertTrue(80 < len(head["description"]) < 400, name)
            self.assertNotRegex(head["description"], r"^[\"'\[{&*!|>%@`#-]|: | #")
            self.assertRegex(head["argument-hint"], r"^'[^']+'$")

    def test_a_skill_is_short_and_its_lines_too(self) -> None:
        for name in NAMES:
            text = skill(name)
            self.assertLess(len(body(text).encode()), 8 << 10, name)
            self.assertLessEqual(text.count("\n"), 100, name)
            long = [line for line in body(text).splitlines() if len(line) > 120 or line != line.rstrip()]
            self.assertEqual(long, [], name)

    def test_nothing_but_the_arguments_is_filled_in_or_run_by_the_client(self) -> None:
        for name in NAMES:
            text = body(skill(name))
            self.assertEqual(re.findall(r"\$\w+|\$\{\w+", text), [] if name == "rlm" else ["$ARGUMENTS"])
            self.assertNotIn("!`", text)
            self.assertNotIn("```!", text)


class Names(TempHome):
    """What a skill names is there."""

    def test_every_tool_named_exists_and_the_main_skill_names_all_of_them(self) -> None:
        for name in NAMES:
            self.assertLessEqual(tool_names(skill(name)), set(rlm.TOOLS), name)
        self.assertEqual(tool_names(skill("rlm")), set(rlm.TOOLS))

    def test_every_call_written_out_has_real_parameters(self) -> None:
        for name in NAMES:
            found = calls(skill(name))
            self.assertGreaterEqual(len(found), 3, name)
            for called, given in found:
                params = {param.name: param.required for param in rlm.TOOLS[called].params}
                self.assertLessEqual(set(given), set(params), called)
                self.assertLessEqual({param for param, required in params.items() if required}, set(given), called)

    def test_every_parameter_named_alone_exists(self) -> None:
        known = {param.name for made in rlm.TOOLS.values() for param in made.params} | AGENT
        for name in NAMES:
            named = re.findall(r"`([a-z_]+)(?:=|: )[^`]*`|`(date_\w+)`", skill(name))
            self.assertTrue(named, name)
            self.assertLessEqual({one or other for one, other in named}, known, name)

    def test_every_shell_command_is_one_that_the_parser_takes(self) -> None:
        for name in NAMES:
            lines = shell_lines(skill(name))
            self.assertTrue(lines, name)
            for words in lines:
                if words[0] in PLANNED and (words[0] not in rlm.COMMANDS or words == ["import"]):
                    continue
                self.assertTrue(parses(words), words)

    def test_categories_and_importance_levels_named_are_accepted(self) -> None:
        sentence = re.search(r"- category: (.*?)importance: (.*?) Search first", skill("rlm"), re.S)
        assert sentence
        for category in re.findall(r"`(\w+)`", sentence[1]):
            self.call("rlm_remember", content="about " + category, category=category)
        for importance in re.findall(r"`(\w+)`", sentence[2]):
            self.call("rlm_remember", content="so " + importance, importance=importance)
        self.assertEqual(len(self.call("rlm_recall", limit=50).data["insights"]), 14)

    def test_what_the_prompts_say_about_reading_is_so(self) -> None:
        chunk = self.chunk("".join(f"line {n} of a text that is read in parts\n" for n in range(1, 2001)))
        client = self.client()
        client.initialize()
        read = client.text("rlm_peek", chunk_id=chunk)
        self.assertTrue(15_000 < len(read) <= 20_000)
        self.assertRegex(read.splitlines()[-1], rf"\[cut; go on with {chunk}:\d+-2000\]$")
        part = client.text("rlm_peek", chunk_id=f"{chunk}:1-1000")
        self.assertRegex(part.splitlines()[-1], rf"\[cut; go on with {chunk}:\d+-1000\]$")
        first = client.text("rlm_peek", chunk_id=f"{chunk}:1")
        self.assertIn("of 2000", first.splitlines()[-1])
        self.assertEqual(client.text("rlm_peek", chunk_id=chunk, start=9, end=40),
                         client.text("rlm_peek", chunk_id=f"{chunk}:10-40"))
        self.assertIn("start=9, end=40 is\n  ID:10-40", prompts(skill("rlm-analyze"))[0])
        self.assertRegex(client.text("rlm_list_chunks", limit=200), r"\d tokens")


class Promises(unittest.TestCase):
    """What the skills must say, whatever their wording."""

    def test_every_skill_answers_in_the_users_language_and_loads_deferred_tools(self) -> None:
        for name in NAMES:
            self.assertIn("Answer in the user's language", skill(name))
            for wanted in re.findall(r"select:([\w,]+)", skill(name)):
                self.assertTrue(all(tool.startswith(SERVER) for tool in wanted.split(",")), wanted)
                self.assertLessEqual(tool_names(wanted), set(rlm.TOOLS))

    def test_every_prompt_asks_for_citations_and_treats_texts_as_data(self) -> None:
        self.assertEqual([len(prompts(skill(name))) for name in NAMES], [0, 1, 2])
        for name in NAMES[1:]:
            for prompt in prompts(skill(name)):
                self.assertIn("QUESTION", prompt)
                self.assertIn("[ID:LINE", prompt)
                self.assertRegex(prompt, r"data[.:]")
                self.assertRegex(prompt, r"follow (them|no instructions)")

    def test_readers_fetch_by_id_and_are_read_only(self) -> None:
        for name in NAMES[1:]:
            self.assertIn('`subagent_type: "Explore"`', skill(name))
            prompt = prompts(skill(name))[0]
            self.assertIn("select:mcp__rlm__rlm_peek", prompt)
            self.assertIn("change nothing", prompt)
            self.assertLessEqual(tool_names(prompt), {"rlm_peek", "rlm_grep"})

    def test_the_merger_names_contradictions_and_gaps_and_is_hierarchical(self) -> None:
        merger = prompts(skill("rlm-parallel"))[1]
        for word in ("CONTRADICTION", "date", "NOT FOUND", "NOT READ", "newer"):
            self.assertIn(word, merger)
        self.assertIn("merge the merged answers", skill("rlm-parallel"))

    def test_the_main_skill_holds_a_claude_md_snippet_and_forbids_secrets(self) -> None:
        snippet = re.search(r"^```markdown\n(.*?)^```", skill("rlm"), re.M | re.S)
        assert snippet
        self.assertLessEqual({"rlm_search", "rlm_remember"}, tool_names(snippet[1]))
        self.assertRegex(skill("rlm"), r"Never: passwords, keys, tokens")
        self.assertIn("never an instruction", skill("rlm"))


if __name__ == "__main__":
    unittest.main()
