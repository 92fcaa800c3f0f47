"""Who may use the server: loopback alone, or whoever knows the key."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from wholepose.errors import ConfigError
from wholepose.serving.problems import ApiError

API_KEY_VARIABLE = "WHOLEPOSE_API_KEY"
_SHORTEST_KEY = 16
_LONGEST_KEY = 1024
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def read_api_key(path: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key that clients must present, from a file or the environment; never from the command line, which all see.

    Args:
        path: The file, or None: the environment variable ``WHOLEPOSE_API_KEY``.
        environment: Of the process.

    Returns:
        The key, or None where neither is given.

    Raises:
        ConfigError: The file cannot be read, or the key is too short or is not printable ASCII without spaces. The
            message does not show it.
    """
    if path is not None:
        where = f"the API key in {path}"
        try:
            with path.open("rb") as file:
                key = file.read(_LONGEST_KEY + 2).decode("latin-1").strip()
        except OSError as error:
            raise ConfigError(f"{where} cannot be read: {error.strerror}") from error
    elif API_KEY_VARIABLE in environment:
        where = f"the API key in {API_KEY_VARIABLE}"
        key = environment[API_KEY_VARIABLE].strip()
    else:
        return None
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise ConfigError(f"{where} must have {_SHORTEST_KEY} to {_LONGEST_KEY} characters, not {len(key)}")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(f"{where} must be printable ASCII without spaces; `openssl rand -hex 32` makes a good one")
    return key


def is_loopback(host: str) -> bool:
    """Whether a name or address to listen at reaches this machine alone.

    Raises:
        ConfigError: There is no such name.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {host!r} is no address of this machine: {error}") from error
    return all(ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_loopback for address in found)


def check_host(headers: Headers) -> None:
    """Refuses requests that a browser was led to send here under another name (DNS rebinding).

    Raises:
        ApiError: The ``Host`` header is no name of loopback.
    """
    try:
        name = urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:  # such as a broken IPv6 address
        name = None
    if name not in _LOOPBACK_NAMES:
        raise ApiError(
            "misdirected_request",
            "this server answers to localhost alone; to reach it by another name, give it an API key",
        )


def check_key(headers: Headers, key: str) -> None:
    """Compares the key that a request presents, in a time that does not tell how much of it is right.

    Raises:
        ApiError: It is missing or another.
    """
    scheme, _, presented = headers.get("authorization", "").partition(" ")
    # Of hashes, so that the length does not tell either.
    same = hmac.compare_digest(_digest(presented.strip()), _digest(key))
    if scheme.lower() != "bearer" or not same:
        raise ApiError(
            "unauthorized",
            "this server needs its API key, as in 'Authorization: Bearer KEY'",
            {"WWW-Authenticate": "Bearer"},
        )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
