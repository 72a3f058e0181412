"""Starts, kills and stops one broker, on a port and a data folder of its own.

Two kinds: `millstream` (the binary of this workspace) and `kafka` (Apache Kafka from Maven, by apache-kafka.sh), so that
every check can also be run against the broker that it describes. A check that Kafka fails is a wrong check.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Far longer than either takes.
START_S, STOP_S = 180, 180


def millstream_binary():
    """The release binary, or the one that FOREIGN_MILLSTREAM names."""
    return os.environ.get("FOREIGN_MILLSTREAM", str(ROOT / "target" / "release" / "millstream"))


def reserved_port():
    """A socket on a free port that does not listen: while it is there nobody gets the port but who names it, also while the broker
    is away."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Broker:
    """One broker. `settings` are broker settings by their Kafka names."""

    def __init__(self, kind, folder, settings=()):
        self.kind = kind
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.output = self.folder / "broker.out"
        self.held = reserved_port()
        self.port = self.held.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.settings = dict(settings)
        self.process = None

    def command(self):
        """The command line of a broker in the foreground."""
        pairs = [f"{key}={value}" for key, value in self.settings.items()]
        if self.kind == "kafka":
            return ["bash", str(HERE / "apache-kafka.sh"), str(self.port), str(self.data), *pairs]
        sets = [word for pair in pairs for word in ("--set", pair)]
        listen = ["--listen", self.address, "--http", "off", "--data-dir", str(self.data)]
        return [millstream_binary(), "serve", "--json", *listen, *sets]

    def start(self):
        """Starts it and waits until it answers; answers the seconds that took."""
        began = time.monotonic()
        with open(self.output, "ab") as output:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() - began > START_S:
                raise SystemExit(f"the broker did not start:\n{self.log_tail()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def kill(self):
        """SIGKILL: the process has no say."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """A graceful stop; anything but exit code 0 (143 for Java) in good time is a failure."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=STOP_S)
        if code not in ((0, 143) if self.kind == "kafka" else (0,)):
            raise SystemExit(f"the broker ended with {code} on SIGTERM:\n{self.log_tail()}")

    def log_tail(self):
        """The last lines that it printed."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-40:])

    def segments(self):
        """Every segment file in the data folder."""
        return set(self.data.rglob("0*.log"))


def answers(port):
    """Whether a broker answers ApiVersions version 0 on this port."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(4)) == 4
    except OSError:
        return False


@contextlib.contextmanager
def running(kind, settings=()):
    """A started broker in a folder that is removed afterwards; on a failure its last lines are shown."""
    # Told to end, a suite must not leave its broker behind.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="millstream-foreign-")
    broker = Broker(kind, folder, settings)
    try:
        broker.start()
        yield broker
    except BaseException:
        print(f"--- the broker's last lines ---\n{broker.log_tail()}", flush=True)
        raise
    finally:
        if broker.process is not None and broker.process.poll() is None:
            broker.kill()
        broker.held.close()
        shutil.rmtree(folder, ignore_errors=True)


def add_broker_option(parser):
    """`--broker millstream|kafka`."""
    parser.add_argument("--broker", choices=["millstream", "kafka"], default="millstream")
