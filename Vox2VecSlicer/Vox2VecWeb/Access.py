"""Who may talk to the server: scans are patient data.

Every request has to name this server as its host, and a page of another site must not reach it even though the
browser runs on the same computer (WebSockets are not held back by browsers). Beyond this computer, a token is needed.
"""

import hmac
import ipaddress
import secrets
from urllib.parse import urlsplit

from aiohttp import web

COOKIE = "vox2vec-token"
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")
HEADERS = {
    # What the page may load and where it may connect to: only here. Vue compiles the page in the browser.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'self'; "
    "form-action 'self'; object-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def isLocal(host: str) -> bool:
    """Whether an address can only be reached from this computer."""
    if host in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Access:
    """Decides about every request.

    :param host: address that is listened on.
    :param needsToken: ask for a token on this computer, too.
    """

    def __init__(self, host: str, needsToken: bool = False) -> None:
        self.host = host
        self.token = secrets.token_urlsafe(24) if needsToken or not isLocal(host) else None

    def url(self, port: int) -> str:
        """Where the page is."""
        shown = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        shown = f"[{shown}]" if ":" in shown and not shown.startswith("[") else shown
        return f"http://{shown}:{port}/" + (f"?token={self.token}" if self.token else "")

    def refusal(self, host: str, origin: str | None, tokens: list[str]) -> str | None:
        """One sentence why a request is refused, or ``None``.

        :param host: its ``Host`` header.
        :param origin: its ``Origin`` header.
        :param tokens: what it brought as tokens.
        """
        name = urlsplit(f"//{host}").hostname or ""
        if self.token is None and not isLocal(name):
            return "This server answers only to the address of this computer itself."
        if origin is not None and urlsplit(origin).netloc != host:
            return "Pages of other sites may not use this server."
        if self.token is not None and not any(hmac.compare_digest(self.token.encode(), t.encode()) for t in tokens):
            return "Open the address that 'vox2vec view' has printed: it holds the token that is needed here."
        return None

    @web.middleware
    async def middleware(self, request: web.Request, handler):
        """Refuse what is not allowed; keep the token in a cookie, so that it is needed in the address only once."""
        given = request.query.get("token")
        tokens = [token for token in (given, request.cookies.get(COOKIE)) if token]
        reason = self.refusal(request.headers.get("Host", ""), request.headers.get("Origin"), tokens)
        if reason is not None:
            return web.Response(status=403, text=reason + "\n", headers=HEADERS)
        if given is not None and request.path == "/":
            response = web.HTTPFound("/index.html")
            response.set_cookie(COOKIE, given, httponly=True, samesite="Strict")
            return response
        return await handler(request)
