"""rlm.py reads downward: its contents list is true, no name is used above its definition, floors keep to their job."""
from __future__ import annotations

import ast
import re
import symtable
import unittest
from collections import Counter
from collections.abc import Iterator

from tests.support import RLM

with open(RLM, encoding="utf-8") as file:
    SOURCE = file.read()
TREE = ast.parse(SOURCE)
BANNER = re.compile(r"^# =+\n# +(\d+)\. (.+)\n# =+$", re.MULTILINE)
CONTENTS = re.compile(r"^ +(\d+)\. (.+)$", re.MULTILINE)
MAX_FUNCTION_LINES = 60
MAX_UNTOLD_LINES = 12
# A function earns its name by a second caller, or by hiding something difficult; so small a one hides little. The
# ceiling is what there is: lower it, never raise it.
SMALL_LINES = 8
MAX_SMALL_WITH_ONE_CALLER = 44


def n_lines(node: ast.FunctionDef) -> int:
    """The lines of a function from its def (decorators not counted) to its end."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def names_called_once(tree: ast.Module) -> set[str]:
    """The names that are called at one place and used at no other (as a table's rows are), but for their own bodies."""
    uses: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for top in tree.body:
        for node in ast.walk(top):
            if isinstance(node, ast.Name) and node.id != getattr(top, "name", ""):
                uses[node.id] += 1
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                calls[node.func.id] += 1
    return {name for name in uses if uses[name] == calls[name] == 1}


def module_level_lines() -> dict[str, int]:
    """The module's own functions, classes and constants with the line that defines them."""
    lines: dict[str, int] = {}
    for node in TREE.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            lines[node.name] = node.lineno
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                lines.update({n.id: node.lineno for n in ast.walk(target) if isinstance(n, ast.Name)})
    return lines


def blocks(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """Every scope within the table."""
    for child in table.get_children():
        yield child
        yield from blocks(child)


def section_of(line: int) -> int:
    """The number of the section that the line is in."""
    starts = [(SOURCE.count("\n", 0, m.start()) + 1, int(m[1])) for m in BANNER.finditer(SOURCE)]
    return max((n for n in starts if n[0] <= line), default=(0, 0))[1]


def sections_using(*names: str) -> set[int]:
    """The sections in which one of these names or attributes ("os.environ") is used."""
    used = set()
    for node in ast.walk(TREE):
        name = ast.unparse(node) if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in names:
            used.add(section_of(node.lineno))
    return used


class LayoutTest(unittest.TestCase):
    def test_contents_list_matches_the_banners(self) -> None:
        contents = CONTENTS.findall(ast.get_docstring(TREE, clean=False) or "")
        self.assertEqual(contents, BANNER.findall(SOURCE))
        self.assertGreater(len(contents), 10)

    def test_no_name_is_used_above_its_definition(self) -> None:
        defined, offences = module_level_lines(), set()
        for block in blocks(symtable.symtable(SOURCE, "rlm.py", "exec")):
            for symbol in block.get_symbols():
                if symbol.is_global() and defined.get(symbol.get_name(), 0) > block.get_lineno():
                    offences.add(f"{block.get_name()} -> {symbol.get_name()}")
        self.assertEqual(offences, set())

    def test_no_module_level_name_is_defined_twice(self) -> None:
        names = [node.name for node in TREE.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        names += [node.targets[0].id for node in TREE.body
                  if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
        self.assertEqual(sorted(n for n in set(names) if names.count(n) > 1), [])

    def test_functions_are_small(self) -> None:
        functions = [node for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef)]
        self.assertEqual([f.name for f in functions if n_lines(f) > MAX_FUNCTION_LINES], [])

    def test_small_functions_with_one_caller_do_not_become_more(self) -> None:
        small = {node.name for node in TREE.body if isinstance(node, ast.FunctionDef) and n_lines(node) <= SMALL_LINES
                 and not node.decorator_list}
        found = small & names_called_once(TREE)
        self.assertLessEqual(len(found), MAX_SMALL_WITH_ONE_CALLER, sorted(found))

    def test_what_a_name_does_not_say_a_docstring_says(self) -> None:
        functions = [node for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef)]
        nested = {inner for f in functions for inner in ast.walk(f) if inner is not f}
        outer = [f for f in functions if f not in nested and not f.name.startswith("__")]
        bare = [f.name for f in outer if not ast.get_docstring(f) and n_lines(f) > MAX_UNTOLD_LINES]
        self.assertEqual(bare, [])

    def test_only_the_floor_for_it_reads_the_environment(self) -> None:
        # 14 and 17 hand the whole environment on to programs.
        self.assertEqual(sections_using("os.environ", "os.getenv"), {3, 14, 17})

    def test_only_the_floor_for_it_writes_files(self) -> None:
        writers = ("os.replace", "os.unlink", "os.write", "os.fsync", "os.ftruncate", "os.makedirs", "os.rename")
        self.assertEqual(sections_using(*writers), {5})

    def test_only_the_outer_floors_touch_standard_streams(self) -> None:
        self.assertLessEqual(sections_using("sys.stdin", "sys.stdout", "print", "sys.stdin.buffer"),
                             {17, 18, 19, 20})

    def test_nothing_outside_the_standard_library_is_imported_and_only_the_floor_for_it_opens_sockets(self) -> None:
        lines = {(alias.name, node.lineno) for node in ast.walk(TREE) if isinstance(node, ast.Import)
                 for alias in node.names}
        lines |= {(node.module or "", node.lineno) for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom)}
        imported = {name.split(".")[0] for name, _ in lines}
        import sys
        known = getattr(sys, "stdlib_module_names", None)  # Python 3.10
        if known:
            self.assertEqual(imported - set(known) - {"__future__"}, set())
        self.assertEqual(imported & {"socket", "ssl", "asyncio"}, set())
        self.assertEqual({section_of(line) for name, line in lines if name in ("http.client", "urllib.request")}, {14})

    def test_sqlite_is_only_read_and_only_by_the_import(self) -> None:
        importers = {section_of(node.lineno) for node in ast.walk(TREE) if isinstance(node, ast.Import)
                     for alias in node.names if alias.name == "sqlite3"}
        self.assertEqual(importers, {19})
        self.assertIn("mode=ro", SOURCE)

    def test_no_line_is_longer_than_120_characters(self) -> None:
        self.assertEqual([i for i, line in enumerate(SOURCE.split("\n"), 1) if len(line) > 120], [])


if __name__ == "__main__":
    unittest.main()
