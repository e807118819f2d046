"""`follow`, beside a test that changes what it follows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from job.deploy.api import Api
from job.deploy.follow import follow
from job.errors import ClusterError

NAME = "cells-0123456789ab"


class Following:
    """`follow`, in a thread of its own."""

    def __init__(self, api: Api, said: list[str]) -> None:
        self.said, self.code, self.error = said, None, None
        self._thread = threading.Thread(target=self._follow, args=(api,), daemon=True)
        self._thread.start()

    def _follow(self, api: Api) -> None:
        try:
            self.code = follow(api, NAME, self.said)
        except ClusterError as error:
            self.error = error

    def hears(self, text: str) -> str:
        return until(lambda: next((line for line in self.said if text in line), None), lambda: str(self.said))

    def ends(self) -> int | None:
        self._thread.join(20)
        assert not self._thread.is_alive(), self.said
        return self.code


def until(found: Callable[[], Any], told: Callable[[], str] = lambda: "") -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.005)
    raise AssertionError(told())
