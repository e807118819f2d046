"""The network's proxies, and exemptions for addresses that must not be reached through them.

gRPC, by which TensorFlow's workers communicate, uses a proxy even for addresses of this machine, and waits without end
where the proxy does not answer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
EXCEPTIONS = ("no_proxy", "no_grpc_proxy")
"""The variables with exemptions. gRPC reads the second instead of the first where it is set."""
HERE = ("localhost", "127.0.0.1", "::1")
CONNECTS = 2.0
"""Seconds in which a reachable worker accepts a connection."""


def bypass_proxies(hosts: Iterable[str]) -> None:
    """Exempts these hosts (without ports) from the proxies of this process and of its child processes."""
    if not configured_proxies():
        return
    exempt = [host for host in dict.fromkeys((*HERE, *hosts)) if host]
    for name in EXCEPTIONS:
        current = os.environ.get(name) or os.environ.get(name.upper()) or ""
        if current.strip() == "*" or (name != "no_proxy" and not current):
            continue
        known = [entry.strip() for entry in current.split(",") if entry.strip()]
        value = ",".join([*known, *(host for host in exempt if host not in known)])
        for spelling in (name, *([name.upper()] if name.upper() in os.environ else [])):
            os.environ[spelling] = value


def configured_proxies() -> dict[str, str]:
    """The variables that name proxies, by name, without passwords."""
    spellings = [spelling for name in PROXIES for spelling in (name, name.upper())]
    return {name: _without_password(value) for name in spellings if (value := os.environ.get(name))}


def proxies_in_words() -> str:
    """The proxy settings, such as `http_proxy=http://proxy:3128, no_proxy=localhost`; "" where no proxy is set."""
    proxies = configured_proxies()
    excepted = {name: value for name in EXCEPTIONS if (value := os.environ.get(name))}
    return ", ".join(f"{name}={value}" for name, value in {**proxies, **excepted}.items()) if proxies else ""


def explain_unformed(addresses: list[str], proxies: str, seconds: float) -> str:
    """The error text for a group of workers that did not connect in time. `proxies` are a worker's proxy settings."""
    away, among = unreachable(addresses), ", ".join(addresses)
    finding = f"nobody answers at {', '.join(away)}" if away else "each takes a connection, but they do not get on"
    check = f", and the proxies ({proxies})" if proxies else ""
    return (
        f"The {len(addresses)} training workers ({among}) did not come together in {seconds:g} s: {finding}. "
        f"Check network policies and firewalls between the workers{check}."
    )


def host_of(address: str) -> str:
    """The host of an address: `10.0.0.1:80` -> `10.0.0.1`, `[::1]:80` -> `::1`."""
    return address.rpartition(":")[0].strip("[]")


def unreachable(addresses: Iterable[str]) -> list[str]:
    """The addresses that accept no connection without a proxy, each with the error."""
    failures = []
    for address in addresses:
        try:
            socket.create_connection((host_of(address), int(address.rpartition(":")[2])), CONNECTS).close()
        except OSError as error:
            failures.append(f"{address} ({error})")
    return failures


def _without_password(value: str) -> str:
    scheme, separator, rest = value.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
