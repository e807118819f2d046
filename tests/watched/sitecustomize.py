"""Notes how TensorFlow and Keras come into a process: for the processes that have this folder in PYTHONPATH.

A line of the file in FIRST_IMPORTS for each first import: the library, whether it came in through
`job.libraries.import_tensorflow`, and what asked for it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

NOTES = os.environ.get("FIRST_IMPORTS")


class Watch:
    """A finder that finds nothing; it is asked for what is not imported yet."""

    def find_spec(self, name: str, *_: Any, **__: Any) -> None:
        if name in ("tensorflow", "keras") and NOTES:
            frame, places = sys._getframe(1), []
            while frame is not None:
                places.append(f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}")
                frame = frame.f_back
            if "importlib.util.find_spec" in places:  # somebody asks where it is
                return
            through = "job.libraries.import_tensorflow" in places
            asked = next(place for place in places if not place.startswith("importlib."))
            with open(NOTES, "a", encoding="utf-8") as file:
                file.write(f"{name} {'through' if through else 'past'} {asked}\n")


sys.meta_path.insert(0, Watch())
