"""The guard: checks Host and browser origin of each request before routing, and adds CORS headers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Scope

from llmos.abi.error import BadHost, HostNotAllowed, LlmosError, OriginNotAllowed
from llmos.config import Config, is_loopback

AUTHORITY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s\[\]:/?#@\\,]+)(?::(?P<port>[0-9]{0,5}))?")  # RFC 3986, 3.2
OWN_SITES = ("same-origin", "none")  # values of Sec-Fetch-Site: our own page, and an address typed by the user
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
JUDGED = (b"host", b"origin", b"sec-fetch-site")
HOSTS_KEPT = 64
Address = tuple[str, int | None]
MAX_AGE_S = "600"  # how long a browser may cache a preflight


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """The decision on a request: `answer` replaces routing; `origin` may read the response."""

    answer: Response | LlmosError | None = None
    origin: str | None = None


ROUTED = GuardVerdict()


class Guard:
    """Decides by headers that a browser sets and pages cannot change: Host, Origin and Sec-Fetch-Site.

    In DNS rebinding, a page of another site still sends its own name as Host. A page of another site that sends a form
    or a request has its own Origin, or `cross-site` or `same-site` as Sec-Fetch-Site. X-Forwarded-Host and similar
    headers are ignored: any client can send them.
    """

    def __init__(self, config: Config) -> None:
        self._scheme, self._port = ("http", 80) if config.tls_cert is None else ("https", 443)
        self._hosts = {*map(bare, config.allowed_hosts), bare(config.host)}
        self._origins = frozenset(config.allowed_origins)
        self._host_once = lru_cache(maxsize=HOSTS_KEPT)(self._host)  # it caches only accepted hosts

    @property
    def knows_origins(self) -> bool:
        """Whether pages of other origins may call, so that responses depend on the origin."""
        return bool(self._origins)

    def judge(self, scope: Scope) -> GuardVerdict:
        """Decide whether this request is routed, refused, or a preflight that is answered here."""
        judged = [pair for pair in scope["headers"] if pair[0] in JUDGED]
        server = scope.get("server")
        try:
            # for clients other than browsers, which send the same Host in every request
            if len(judged) == 1 and judged[0][0] == b"host":
                self._host_once((judged[0][1].decode("latin-1"),), server)
                return ROUTED
            return self._verdict(Headers(scope=scope), server, is_options=scope.get("method") == "OPTIONS")
        except LlmosError as error:
            return GuardVerdict(error)

    def _verdict(self, headers: Headers, server: Address | None, *, is_options: bool) -> GuardVerdict:
        origin = self._origin(headers, self._host_once(tuple(headers.getlist("host")), server))
        if origin is None:
            return ROUTED
        is_preflight = is_options and "access-control-request-method" in headers
        return GuardVerdict(_preflight(headers) if is_preflight else None, origin)

    def _host(self, given: Sequence[str], server: Address | None) -> tuple[str, int]:
        """The host and port of the request; raises unless they are this daemon's."""
        found = AUTHORITY.fullmatch(given[0].strip()) if len(given) == 1 else None
        if found is None:
            said = repr(given[0][:100]) if len(given) == 1 else f"{len(given)} of them"
            raise BadHost(f"A request has one Host header, a name or address with or without a port; got {said}")
        host = bare(found["host"])
        if not (is_loopback(host) or host in self._hosts or (server is not None and _same_address(host, server[0]))):
            raise HostNotAllowed(
                f"The Host {host[:100]!r} is not one that this daemon answers to. Use localhost, or name it in the "
                f"setting allowed_hosts",
                key="allowed_hosts",
                value=host[:100],
            )
        return host, int(found["port"] or self._port)

    def _origin(self, headers: Headers, authority: tuple[str, int]) -> str | None:
        """The origin that needs CORS headers; None for our own page and for non-browsers; raises for any other."""
        given = headers.getlist("origin")
        if len(given) == 1 and given[0] in self._origins:
            return given[0]
        if given and not (len(given) == 1 and self._authority_of(given[0]) == authority):
            raise _not_allowed("Origin", ", ".join(given))
        for site in headers.getlist("sec-fetch-site"):
            if site not in OWN_SITES:
                raise _not_allowed("Sec-Fetch-Site", site)
        return None

    def _authority_of(self, origin: str) -> tuple[str, int] | None:
        """Host and port of an origin with the daemon's own scheme; None for any other."""
        scheme, _, rest = origin.partition("://")
        found = AUTHORITY.fullmatch(rest) if scheme.lower() == self._scheme else None
        return None if found is None else (bare(found["host"]), int(found["port"] or self._port))


def let_read(origin: str | None, raw_headers: list[tuple[bytes, bytes]]) -> None:
    """Add the headers that let pages of this origin read the response (WHATWG Fetch, CORS protocol).

    The Vary header is added without an origin too, so that no cache serves one origin's response to another.
    """
    headers = MutableHeaders(raw=raw_headers)
    if origin is not None:
        exposed = [name for name in dict.fromkeys(headers.keys()) if name != "vary"]
        headers["access-control-allow-origin"] = origin
        headers["access-control-expose-headers"] = ", ".join([*exposed, "date"])
    headers.add_vary_header("Origin")


def bare(host: str) -> str:
    """A host for comparison: lower case, without brackets and trailing dot."""
    return host.strip("[]").rstrip(".").lower()


def _preflight(headers: Headers) -> Response:
    """The response to a preflight: all of our methods, and the headers that the page asks for.

    Credentials are not allowed: there are no cookies, and a page may send Authorization without that permission.
    """
    allowed = {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers") or "Authorization, Content-Type",
        "Access-Control-Max-Age": MAX_AGE_S,
        "Vary": "Access-Control-Request-Headers",
    }
    if headers.get("access-control-request-private-network") == "true":  # a public page that calls a local address
        allowed["Access-Control-Allow-Private-Network"] = "true"
    return Response(status_code=204, headers=allowed)


def _same_address(host: str, bound: str) -> bool:
    """Whether the host is the IP address to which the client connected: an address cannot be rebound."""
    try:
        mapped = getattr(ip_address(bound), "ipv4_mapped", None)  # of a dual-stack socket
        return ip_address(host) == (mapped or ip_address(bound))
    except ValueError:
        return False


def _not_allowed(header: str, value: str) -> OriginNotAllowed:
    return OriginNotAllowed(
        f"{header} is {value[:100]!r}: a page of another origin may not use this daemon. Name its origin in the "
        "setting allowed_origins, if it may",
        key="allowed_origins",
        value=value[:100],
    )
