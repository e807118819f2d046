"""Proxies that a network's people have set, and the addresses that must not be asked for through them.

gRPC, by which TensorFlow's workers talk with each other, asks a proxy even for an address of this machine, and waits
without end where that does not answer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
EXCEPTIONS = ("no_proxy", "no_grpc_proxy")
"""What gRPC reads: the second in place of the first, where it is set."""
HERE = ("localhost", "127.0.0.1", "::1")
CONNECTS = 2.0
"""Seconds in which a worker that is there takes a connection."""


def past_proxies(hosts: Iterable[str]) -> None:
    """Exempts these hosts (without ports) from the proxies of this process and of those that it starts."""
    if not set_proxies():
        return
    wanted = [host for host in dict.fromkeys((*HERE, *hosts)) if host]
    for name in EXCEPTIONS:
        told = os.environ.get(name) or os.environ.get(name.upper()) or ""
        if told.strip() == "*" or (name != "no_proxy" and not told):
            continue
        known = [entry.strip() for entry in told.split(",") if entry.strip()]
        value = ",".join([*known, *(host for host in wanted if host not in known)])
        for spelling in (name, *([name.upper()] if name.upper() in os.environ else [])):
            os.environ[spelling] = value


def set_proxies() -> dict[str, str]:
    """The variables that name proxies, as they are set; passwords are left out."""
    spellings = [spelling for name in PROXIES for spelling in (name, name.upper())]
    return {name: _without_password(value) for name in spellings if (value := os.environ.get(name))}


def told_of_proxies() -> str:
    """As `http_proxy=http://proxy:3128, no_proxy=localhost`; "" where no proxy is set."""
    proxies = set_proxies()
    excepted = {name: value for name in EXCEPTIONS if (value := os.environ.get(name))}
    return ", ".join(f"{name}={value}" for name, value in {**proxies, **excepted}.items()) if proxies else ""


def not_formed(addresses: list[str], proxies: str, seconds: float) -> str:
    """Why a group of workers may not have come together in so long; `proxies` as of `told_of_proxies`, in a worker."""
    away, among = unreachable(addresses), ", ".join(addresses)
    found = f"nobody answers at {', '.join(away)}" if away else "each takes a connection, but they do not get on"
    check = f", and the proxies ({proxies})" if proxies else ""
    return (
        f"The {len(addresses)} training workers ({among}) did not come together in {seconds:g} s: {found}. "
        f"Check network policies and firewalls between the workers{check}."
    )


def host_of(address: str) -> str:
    """`10.0.0.1:80` -> `10.0.0.1`, `[::1]:80` -> `::1`."""
    return address.rpartition(":")[0].strip("[]")


def unreachable(addresses: Iterable[str]) -> list[str]:
    """Those at which nobody takes a connection that is made without a proxy, and why."""
    found = []
    for address in addresses:
        try:
            socket.create_connection((host_of(address), int(address.rpartition(":")[2])), CONNECTS).close()
        except OSError as error:
            found.append(f"{address} ({error})")
    return found


def _without_password(value: str) -> str:
    scheme, separator, rest = value.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
