"""A process imports TensorFlow and Keras in one way, and with little else."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from job import libraries
from job.libraries import DEBUG, no_stderr

ROOT = Path(__file__).parents[1] / "job"
LIBRARIES = {"tensorflow", "keras"}
ENTRIES = tuple(
    f"job.{room}"
    for room in (
        *("cli", "demo", "entry", "evaluation", "executors", "export", "features", "pipeline", "planning", "registry"),
        *("report", "run", "serving", "sweep", "telemetry", "training.worker"),
    )
)
"""Whose functions may be the first in their process to import one of them. What is below is called by these."""
PREPARED = {"job.run.strategy"}
"""Among those, the modules whose functions are called once `prepare_process` was."""
TOOLS = ("job.export.exporter", "job.export.formats.", "job.export.samples")
"""Among those, the modules that import them when they are imported: functions alone import these."""
FIRST = {"import_tensorflow", "prepare_process"}
"""What imports them as it should."""
MOST = 3000
"""Modules: 2,848 come in, and 4,079 with all that is kept out."""


def told_by(code: str) -> dict:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_we_do_not_use_stays_out_and_can_be_imported_afterwards() -> None:
    """Our own modules bring in Pillow, which reads the headers of pictures, and Ray pandas."""
    ours = [name for name in MODULES if name.startswith(("job.model.", "job.training.", *TOOLS))]
    found = told_by(f"""
import json, os, sys
from job.libraries import KEPT_OUT, import_tensorflow
def kept_out(): return sorted({{name.partition(".")[0] for name in sys.modules}} & KEPT_OUT)
import_tensorflow()
modules = set(sys.modules)
told = {{
    "libraries": sorted({{"tensorflow", "keras"}} & modules),
    "kept_out": kept_out(),
    "none": [name for name in modules if sys.modules[name] is None],
    "modules": len(modules),
    "legacy": os.environ["TF_USE_LEGACY_KERAS"],
    "finders": [type(finder).__module__ for finder in sys.meta_path],
}}
import_tensorflow()
told["again"] = len(sys.modules) - len(modules)
import {", ".join(ours)}
told["ours"] = kept_out()
import pandas, scipy.ndimage, sklearn.linear_model, PIL.Image
frame = pandas.DataFrame({{"x": [1.0, 2.0]}})
sklearn.linear_model.LinearRegression().fit(frame, scipy.ndimage.gaussian_filter(frame["x"], 1))
PIL.Image.fromarray(frame.to_numpy(dtype="uint8"))
print(json.dumps(told))
""")
    modules, finders, brought = (found.pop(name) for name in ("modules", "finders", "ours"))
    assert found == {"libraries": ["keras", "tensorflow"], "kept_out": [], "none": [], "legacy": "0", "again": 0}
    assert "job.libraries" not in finders
    assert modules < MOST
    assert set(brought) <= {"PIL", "pandas"}


def test_what_a_process_had_before_stays_and_keras_uses_it() -> None:
    found = told_by("""
import json, sys
import pandas, PIL.Image
from job.libraries import import_tensorflow
import_tensorflow()
import keras, numpy
frame = pandas.DataFrame({"x": [1.0, 2.0]})
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
print(json.dumps([sys.modules["pandas"] is pandas, model.predict(frame, verbose=0).shape,
                  keras.utils.array_to_img(numpy.zeros((2, 3, 3))).size]))
""")
    assert found == [True, [2, 1], [3, 2]]


def test_another_thread_can_import_at_the_same_time_what_is_kept_out() -> None:
    finder, heard = libraries._NotHere(frozenset({"pandas"})), []
    thread = threading.Thread(target=lambda: heard.append(finder.find_spec("pandas")))
    thread.start()
    thread.join()
    assert heard == [None]
    with pytest.raises(ModuleNotFoundError, match="pandas is kept out"):
        finder.find_spec("pandas")
    assert finder.find_spec("json") is None


def test_arrow_does_without_pandas_until_it_is_asked_for_data_frames() -> None:
    found = told_by("""
import json, sys
from job.libraries import import_arrow
import_arrow()
import pyarrow
table = pyarrow.table({"a": ["b"]})
found = ["pandas" in sys.modules, table.to_pandas().shape]
import pandas
print(json.dumps([*found, len(pyarrow.array(pandas.Series([1, 2])))]))
""")
    assert found == [False, [1, 1], 2]


def test_event_files_are_written_without_the_clients_of_clouds() -> None:
    found = told_by("""
import json, sys
from job.report.tfevents import restart
restart(3)
found = [name for name in ("boto3", "google.cloud") if name in sys.modules]
import boto3, google.cloud.storage
print(json.dumps([found, "tensorboardX" in sys.modules]))
""")
    assert found == [[], True]


def test_a_failed_import_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(libraries, "import_module", fail)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    finders = list(sys.meta_path)
    with pytest.raises(ImportError, match="tensorflow"):
        libraries.import_tensorflow()
    assert sys.meta_path == finders


@pytest.mark.parametrize("wheel", libraries.TENSORFLOW)
def test_the_version_is_that_of_whichever_wheel_is_there(wheel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != wheel:
            raise PackageNotFoundError(name)
        return "2.21.0"

    monkeypatch.setattr(libraries, "version", version)
    assert libraries.library_version("tensorflow") == "2.21.0"
    with pytest.raises(PackageNotFoundError):
        libraries.library_version("keras")


@pytest.mark.parametrize(
    ("code", "notes"),
    [
        ("import keras", ["keras past __main__.<module>"]),
        ("import importlib.util; importlib.util.find_spec('keras')", []),
        (
            "from job.libraries import import_tensorflow; import_tensorflow()",
            [f"{name} through job.libraries.import_tensorflow" for name in ("tensorflow", "keras")],
        ),
    ],
)
def test_the_watch_of_whole_runs_sees_who_imports(code: str, notes: list[str], tmp_path: Path) -> None:
    """With empty modules of these names."""
    for name in LIBRARIES:
        (tmp_path / f"{name}.py").touch()
    paths = [str(Path(__file__).parent / "watched"), str(tmp_path), str(ROOT.parent)]
    noted = tmp_path / "notes"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "FIRST_IMPORTS": str(noted)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (noted.read_text().splitlines() if noted.exists() else []) == notes


def modules() -> dict[str, ast.Module]:
    """Ours, by name."""
    parts = {file: ("job", *file.relative_to(ROOT).with_suffix("").parts) for file in sorted(ROOT.rglob("*.py"))}
    return {".".join(parts[file]).removesuffix(".__init__"): ast.parse(file.read_text()) for file in parts}


def imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return set()


def at_import(body: list[ast.stmt]) -> set[str]:
    """What a module imports when it is imported itself."""
    found: set[str] = set()
    for node in body:
        found |= imported(node)
        if isinstance(node, ast.If):
            found |= at_import(node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else node.body + node.orelse)
    return found


def brings(found: set[str], computing: set[str]) -> bool:
    return any(name in computing or name.partition(".")[0] in LIBRARIES for name in found)


def computing_modules() -> set[str]:
    """Ours that import TensorFlow or Keras, or a module that does, when they are imported."""
    known: set[str] = set()
    while more := {name for name in MODULES - known if brings(at_import(TREES[name].body), known)}:
        known |= more
    return known


TREES = modules()
MODULES = set(TREES)
COMPUTING = computing_modules()


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def calls_first(function: ast.FunctionDef, line: int) -> bool:
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return any(call.func.id in FIRST and call.lineno < line for call in calls)


def prepared(tree: ast.Module) -> set[ast.FunctionDef]:
    """The methods of classes whose objects begin with it."""
    found: set[ast.FunctionDef] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            begins = [method for method in functions(node) if method.name in ("__init__", "start")]
            if any(calls_first(method, sys.maxsize) for method in begins):
                found |= set(functions(node)) - set(begins)
    return found


def strays(tree: ast.Module) -> list[str]:
    """Functions that import one of the libraries, though their process may not have it as it should."""
    nodes = [node for node in ast.walk(tree) if brings(imported(node), COMPUTING)]
    made = {(alias.asname or alias.name).partition(".")[0] for node in nodes for alias in node.names}
    found = []
    for function in set(functions(tree)) - prepared(tree):
        lines = [node.lineno for node in ast.walk(function) if node in nodes]
        takes = {node.id for node in ast.walk(function.args) if isinstance(node, ast.Name)}
        if lines and not takes & made and not calls_first(function, min(lines)):
            found.append(function.name)
    return found


@pytest.mark.parametrize(
    "module", sorted(name for name in MODULES if name.startswith(ENTRIES) and name not in PREPARED)
)
def test_who_may_import_them_first_comes_through_one_place(module: str) -> None:
    """A function calls it before, or is given something that was made with them."""
    assert module.startswith(TOOLS) or module not in COMPUTING
    assert strays(TREES[module]) == []


@pytest.mark.parametrize(
    ("takes", "first", "second", "found"),
    [
        ("job: Job", "import keras", "import_tensorflow()", ["f"]),
        ("job: Job", "import_tensorflow()", "import keras", []),
        ("network: keras.Model", "import keras", "", []),
        ("job: Job", "from job.model.cut import cut_named", "", ["f"]),
        ("job: Job", "from job.model.resolved import known_base", "", []),
    ],
)
def test_a_function_that_comes_past_it_is_found(takes: str, first: str, second: str, found: list[str]) -> None:
    assert strays(ast.parse(f"def f({takes}):\n    {first}\n    {second}")) == found


def test_standard_error_is_back_after_an_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEBUG, raising=False)
    with pytest.raises(OSError, match="bad"), no_stderr():  # noqa: PT012
        os.write(2, b"kept back")
        raise OSError("bad")
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"
