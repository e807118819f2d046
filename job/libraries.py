"""TensorFlow and Keras, as every process of ours imports them: once, quietly, and without what they can do without.

Whatever may be the first in its process to import one of them calls `import_tensorflow` before.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.metadata import PackageNotFoundError, version
from typing import Any

DEBUG = "THAW_DEBUG"
"""Variable that `--debug` sets, for this process and those that it starts."""
KEPT_OUT = frozenset(
    {
        "IPython",  # Keras's editor of files of weights
        "PIL",  # Keras: pictures from files
        "cv2",  # Keras: boxes drawn on pictures
        "googleapiclient",  # TensorFlow: TPUs of Google's cloud
        "huggingface_hub",  # Keras: models at hf://
        "jax",  # TensorFlow Lite of JAX's models; Keras's checkpoints with Orbax
        "matplotlib",  # Keras: galleries of pictures
        "pandas",  # Keras: data frames in `fit`
        "pydot",  # Keras: drawings of models
        "scipy",  # the Keras of old that is in TensorFlow: sparse matrices in `fit`
        "sklearn",  # Keras: wrappers for scikit-learn
    }
)
"""What the two import where they find it, for what we never ask of them; both do without where it is not installed.

h5py is another one, but files of weights in HDF5 need it.
"""
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
"""glibc reads this variable as a process starts. TensorFlow gives its large buffers back after each step: with huge
pages it takes a 25th of the page faults.
"""
CLOUDS = frozenset({"boto3", "google.cloud"})
"""What tensorboardX imports where it finds it, to write to buckets by itself."""
TENSORFLOW = ("tensorflow", "tensorflow-cpu")
"""The distributions that bring TensorFlow, with CUDA's kernels and without."""
_importing = threading.Lock()


def import_tensorflow() -> None:
    """Imports TensorFlow and Keras, unless that is done, without the libraries of `KEPT_OUT`.

    Those that were imported before stay, and all can be imported afterwards; Keras alone goes on as if they were not
    installed. What is written to standard error meanwhile is lost, but for --debug.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "0"  # Ray asks for legacy Keras in its workers
    with _importing:
        if "tensorflow" in sys.modules and "keras" in sys.modules:
            return
        with no_stderr(), _kept_out(KEPT_OUT), _no_collection():
            import_module("tensorflow")  # it wants to be first: it looks for Keras when all of it is there
            import_module("keras")


def import_tensorboardx() -> None:
    """Imports tensorboardX, whose messages alone we use, without the clients of clouds that it looks for."""
    with _importing, _kept_out(CLOUDS):
        import_module("tensorboardX")


def import_arrow() -> None:
    """Imports Arrow without pandas, which it imports else as soon as it is given a list; it can still be asked for data
    frames.
    """
    with _importing, _kept_out(frozenset({"pandas"})):
        import_module("pyarrow").array([])


def library_version(name: str) -> str:
    """The version of an installed distribution; for TensorFlow, of whichever distribution brings it. Raises
    PackageNotFoundError.
    """
    for brings in TENSORFLOW if name == "tensorflow" else ():
        try:
            return version(brings)
        except PackageNotFoundError:
            continue
    return version(name)


@contextmanager
def no_stderr() -> Iterator[None]:
    """Closes the process's standard error, below Python, for as long as it lasts.

    Not so with --debug.
    """
    if os.environ.get(DEBUG):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


class _NotHere(MetaPathFinder):
    """Finds none of these, for the thread that made it: others may import them at the same time."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names, self._thread = names, threading.get_ident()

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname in self._names and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{fullname} is kept out of what is imported now", name=fullname)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which would look again and again at hundreds of thousands of objects that stay: a
    tenth of the import. It is spared them afterwards as well, and all objects as the process ends: that is a second.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.freeze)
        if was_on:
            gc.enable()


@contextmanager
def _kept_out(names: frozenset[str]) -> Iterator[None]:
    finder = _NotHere(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
