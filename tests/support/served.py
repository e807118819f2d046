"""The server of `thaw serve`, in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from job.serving.server import Application, http_server, listen


@contextmanager
def served(predictor: Any, model: str, host: str = "127.0.0.1", told: list[str] | None = None) -> Iterator[str]:
    """Yields the page's URI. What is said on the terminal goes into `told`."""
    with listen(host, 0) as listener:
        uri = f"http://{host}:{listener.getsockname()[1]}/"
        say = [].append if told is None else told.append
        server = http_server(Application(predictor, model=model, uri=uri, say=say))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield uri
        finally:
            server.should_exit = True
            thread.join()
