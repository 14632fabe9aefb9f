"""A network that fails on demand between a client and a server: a TCP proxy, for any protocol of requests and replies.

A *request* is what the client sends from the moment the connection was idle until the server answers; a *reply* what
the server then sends (``100 Continue`` of HTTP is no answer yet). A fault waits for a request with ``match`` in it::

    with Proxy(server.port) as proxy:
        proxy.arm(Fault("lose", match=b"update"))       # it happens, and nobody hears of it
        ...
        assert proxy.faults[0].hits == 1

Kinds: ``lose`` the reply arrives at the proxy and the connection is closed · ``cut`` the same, after ``after`` bytes of
it were passed on · ``delay`` the reply comes ``seconds`` later · ``repeat`` the request is delivered twice, as by a
balancer that tries again; the client gets the second reply · ``echo`` the reply is delivered twice, so that the next
request seems to be answered already · ``refuse`` the connection is closed before the server sees the request · ``tear``
the connection is closed after ``after`` bytes of the request were passed on.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from dataclasses import dataclass, field

_QUIET_S = 0.05  # a reply of which nothing came for so long has ended
_SIZE = 1 << 16


@dataclass
class Fault:
    """See the module. ``times``: how many requests it hits; ``hits``: how many it has hit."""

    kind: str
    match: bytes = b""
    times: int = 1
    after: int = 0
    seconds: float = 0.0
    hits: int = field(default=0, compare=False)


class Closed(Exception):
    """A fault, or one of the two sides, has ended the connection."""


class Proxy:
    """Listens on ``port`` and connects to ``target``. ``down`` while it accepts nobody."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self.target, self.host = target, host
        self.faults: list[Fault] = []
        self.requests = 0
        self.down = False
        self._lock = threading.Lock()
        self.ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a connection did not end"

    def arm(self, fault: Fault) -> Fault:
        """Faults wait in order: the first that fits a request takes it."""
        with self._lock:
            self.faults.append(fault)
        return fault

    def cut_all(self) -> None:
        """Close every connection now, whatever is under way."""
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    # ---- inside --------------------------------------------------------------------------------------------------

    def _start(self, run: object, *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down or self.ended.is_set():
                client.close()
            else:
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:
            client.close()
            return
        with self._lock:
            self._sockets.update((client, server))
        try:
            _Connection(self, client, server).run()
        except (Closed, OSError):
            pass
        finally:
            with self._lock:
                self._sockets -= {client, server}
            client.close()
            server.close()

    def _connect(self) -> socket.socket:
        server = socket.create_connection((self.host, self.target), timeout=10)
        server.settimeout(None)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return server

    def fault_for(self, request: bytes, kinds: tuple[str, ...]) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.kind in kinds and fault.hits < fault.times and fault.match in request:
                    fault.hits += 1
                    return fault
        return None


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._request = b""
        self._answered = True

    def run(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._client, selectors.EVENT_READ)
            ready.register(self._server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    (self._from_client if key.fileobj is self._client else self._from_server)()

    def _from_client(self) -> None:
        data = _received(self._client)
        if self._answered:
            self._request, self._answered = b"", False
            self._proxy.requests += 1
        self._request += data
        fault = self._proxy.fault_for(self._request, ("refuse", "tear"))
        if fault is not None:
            self._server.sendall(data[: fault.after])
            raise Closed
        self._server.sendall(data)

    def _from_server(self) -> None:
        data = _received(self._server)
        if not self._answered and not data.startswith(b"HTTP/1.1 100"):
            self._answered = True
            data = self._meddled(data)
        self._client.sendall(data)

    def _meddled(self, reply: bytes) -> bytes:
        """The first bytes of a reply after whatever fault is due."""
        fault = self._proxy.fault_for(self._request, ("lose", "cut", "delay", "repeat", "echo"))
        if fault is None:
            return reply
        if fault.kind == "delay":
            if self._proxy.ended.wait(fault.seconds):
                raise Closed
            return reply
        reply += _rest(self._server)
        if fault.kind == "repeat":
            self._server.sendall(self._request)
            return _received(self._server) + _rest(self._server)
        if fault.kind == "echo":
            return reply + reply
        if fault.kind == "cut":
            self._client.sendall(reply[: fault.after])
        raise Closed


def _received(end: socket.socket) -> bytes:
    data = end.recv(_SIZE)
    if not data:
        raise Closed
    return data


def _rest(end: socket.socket) -> bytes:
    """What still comes of a reply."""
    data = b""
    end.settimeout(_QUIET_S)
    try:
        while more := end.recv(_SIZE):
            data += more
    except TimeoutError:
        pass
    finally:
        end.settimeout(None)
    return data
