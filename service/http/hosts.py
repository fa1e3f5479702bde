"""By which names the service may be called, and from which web pages, where no key is needed to ask it.

Where keys are needed a page has none, so nothing of this is asked.
"""

import ipaddress
from collections.abc import Collection, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from service.errors import CorsRefused, WrongHost

ALL = "*"
# Who owns a name in the Internet can have it lead to this machine (DNS rebinding), so that a browser takes his page and this
# service for one. Addresses are no names, and these endings nobody can own (RFC 6761, 6762, 8375, and .internal of ICANN).
OURS = (".localhost", ".local", ".internal", ".home.arpa")
CHANGING = ("POST", "DELETE")


class Hosts:
    """allowed: further names, without a port; "*": all. origins: of the pages that may ask, as browsers name them; "*": all."""

    def __init__(self, allowed: Collection[str] = (), origins: Collection[str] = ()) -> None:
        self.allowed = frozenset(name.lower() for name in allowed)
        self.origins = frozenset(origins)

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """headers: names in lower case.

        Raises:
            WrongHost: called by a name that somebody else may own.
            CorsRefused: sent by a page of another origin, which may not read the answer but had it computed and kept.
        """
        host = headers.get("host", "")
        if ALL not in self.allowed and not is_ours(host) and name_of(host) not in self.allowed:
            raise WrongHost(
                f"the service is not called {host[:100]!r}; ask it by its address, or name the host in HUBEL_ALLOWED_HOSTS"
            )
        if method in CHANGING and self._is_foreign(host, headers):
            raise CorsRefused(
                f"pages of {headers.get('origin', 'another origin')[:100]!r} may not send this; name the origin in "
                "HUBEL_CORS_ORIGINS, or ask for keys (HUBEL_API_KEYS_FILE)"
            )

    def _is_foreign(self, host: str, headers: Mapping[str, str]) -> bool:
        """Whether a browser says that a page of another origin sends it."""
        origin = headers.get("origin")
        if ALL in self.origins or origin in self.origins:
            return False
        if origin is not None:
            return origin.partition("://")[2] != host
        return headers.get("sec-fetch-site", "") == "cross-site"


@lru_cache(1024)
def name_of(host: str) -> str:
    """A Host header without its port, in small letters; "" where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


@lru_cache(1024)
def is_ours(host: str) -> bool:
    """Whether nobody else can own the name in a Host header: an address, a name without a dot, or none at all."""
    name = name_of(host)
    if "." not in name or name.endswith(OURS):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False
