"""One server each: start it, wait until it is ready, kill it, start it again on the same data and port."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.servers.environment import binaries

HOST = "127.0.0.1"
GRPC_OFFSET = 10_000  # SeaweedFS listens on each port plus this one, too
ACCESS_KEY, SECRET_KEY, BUCKET = "testkey", "testsecret123", "dreamlake-test"
READY_S = 60.0  # a restart after kill -9 took up to 18 s


class Server:
    """A server of its own. ``folder`` holds its data and its log, and is the caller's to remove."""

    kind = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def arguments(self) -> Sequence[str]:
        """What ``ready.py`` needs to know."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers. Raises ``RuntimeError`` with the end of its log."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        tied = str(Path(__file__).with_name("tied.py"))
        command = [sys.executable, "-I", "-S", tied, str(os.getpid()), *self.command()]
        with open(self.folder / "log.txt", "ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, "TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Until it answers. Raises ``RuntimeError`` when it does not, or has ended."""
        script, python = Path(__file__).with_name("ready.py"), binaries() / "python"
        command = [str(python), "-I", str(script), str(READY_S), self.kind, *self.arguments()]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
            assert self._process is not None and waiting.stderr is not None, "not begun"
            while waiting.poll() is None:
                if self._process.poll() is not None:
                    waiting.kill()
                time.sleep(0.02)
            said = waiting.stderr.read()
        if waiting.returncode != 0:
            self.kill()
            raise RuntimeError(f"the {self.kind} server did not come up: {said}{self.log()[-2000:]}")

    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def kill(self) -> None:
        """kill -9, as a crash would: everything it started ends with it. May be repeated."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def suspend(self) -> None:
        """Make it hang: it accepts connections and answers nothing."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class MongoServer(Server):
    """SecantusDB: a one-node replica set.

    Args:
        durable: what it acknowledged survives its death; slower.
        options: more of its own, e.g. ``--auth``.
    """

    kind = "mongo"

    def __init__(self, folder: Path, *, durable: bool = False, options: Sequence[str] = ()) -> None:
        super().__init__(folder)
        self.port = free_ports(1)[0]
        self._options = [*(["--sync-on-commit"] if durable else []), "--enable-test-commands", *options]

    @property
    def url(self) -> str:
        """Without a database: add ``/NAME`` before the ``?``, see ``database``."""
        return f"mongodb://{HOST}:{self.port}/?directConnection=true"

    def database(self, name: str, userinfo: str = "") -> str:
        return f"mongodb://{userinfo}{HOST}:{self.port}/{name}?directConnection=true"

    def ask_for_users(self) -> None:
        """From the next start on: only users that were created before may come in."""
        self._options.append("--auth")

    def command(self) -> Sequence[str]:
        place = ["--host", HOST, "--port", str(self.port), "--storage-path", str(self.folder / "data")]
        return [str(binaries() / "secantusd-py"), *place, "--log-level", "WARNING", *self._options]

    def arguments(self) -> Sequence[str]:
        return [self.url]


class S3Server(Server):
    """SeaweedFS with one bucket and one pair of keys."""

    kind = "s3"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._master, self._volume, self._filer, self.port = free_ports(4)
        credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "test", "credentials": credentials, "actions": actions}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (folder / "data").mkdir(exist_ok=True)

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        ports = [
            f"-master.port={self._master}", f"-volume.port={self._volume}", f"-filer.port={self._filer}",
            f"-s3.port={self.port}", "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]  # fmt: skip
        place = [f"-dir={self.folder / 'data'}", f"-ip={HOST}", f"-ip.bind={HOST}", "-s3"]
        place += [f"-s3.config={self.folder / 's3.json'}"]
        place += ["-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"]  # relative: the length of one is limited
        limits = ["-master.volumeSizeLimitMB=256", "-volume.max=40", "-master.telemetry=false"]
        return [str(binaries() / "weed"), "server", *place, *ports, *limits]

    def arguments(self) -> Sequence[str]:
        return [self.endpoint, ACCESS_KEY, SECRET_KEY, BUCKET]

    def kill(self) -> None:
        super().kill()
        ports = {"master": self._master, "volume": self._volume, "filer": self._filer, "s3": self.port}
        for name, port in ports.items():  # no option puts these elsewhere
            Path(f"/tmp/seaweedfs-{name}-grpc-{port + GRPC_OFFSET}.sock").unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, each with its neighbour at ``GRPC_OFFSET``; below those that the system gives out."""
    found: list[int] = []
    deadline = time.monotonic() + 30
    while len(found) < count:
        port = random.randrange(12_000, 22_000)
        if port not in found and _free(port) and _free(port + GRPC_OFFSET):
            found.append(port)
        elif time.monotonic() > deadline:
            raise RuntimeError("no free ports on this machine")
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
