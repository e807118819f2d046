"""Functions and files stay small enough to be read at once, calls say what they pass, and a name is one thing's."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "job"
FILES = sorted(ROOT.rglob("*.py"))
LINES_OF_FILE, LINES_OF_FUNCTION, POSITIONAL = 300, 50, 3
LONG_FILES = {
    "run/events.py": "a list of all kinds of events, which is read as one",
}
MANY_POSITIONAL = {
    "executors/ray/datasource.py:expand_paths": "Ray's interface",
    "model/torch_file.py:_rebuild_tensor": "called by what a pickle says",
    "registry/champion.py:predict": "called in another process, which is handed its arguments in order",
    "training/step.py:one": "TensorFlow's loop hands its state on in order",
}


Function = ast.FunctionDef | ast.AsyncFunctionDef
TWICE = {"Run": "report/record.py: its name is published in the record's schema"}


def functions() -> Iterator[tuple[str, Function, bool]]:
    """(its place, the function, whether it is a method)"""
    for file in FILES:
        tree = ast.parse(file.read_text())
        methods = {
            id(node)
            for kind in ast.walk(tree)
            if isinstance(kind, ast.ClassDef)
            for node in kind.body
            if isinstance(node, Function) and "staticmethod" not in map(ast.unparse, node.decorator_list)
        }
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{file.relative_to(ROOT)}:{node.name}", node, id(node) in methods


def test_files_are_short() -> None:
    long = {str(file.relative_to(ROOT)) for file in FILES if file.read_text().count("\n") > LINES_OF_FILE}
    assert long == LONG_FILES.keys()


def test_functions_are_short() -> None:
    assert not [place for place, node, _ in functions() if (node.end_lineno or 0) - node.lineno >= LINES_OF_FUNCTION]


def test_more_than_three_arguments_go_by_their_names() -> None:
    many = {
        place
        for place, node, is_method in functions()
        if len(node.args.posonlyargs) + len(node.args.args) - is_method > POSITIONAL
    }
    assert many == MANY_POSITIONAL.keys()


def test_one_name_is_one_thing() -> None:
    """Modules and classes; `__init__.py` aside."""
    modules = [file.name for file in FILES if file.name != "__init__.py"]
    classes = [
        node.name for file in FILES for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef)
    ]
    public = [name for name in classes if not name.startswith("_")]
    assert {name for name, times in Counter([*modules, *public]).items() if times > 1} == TWICE.keys()
