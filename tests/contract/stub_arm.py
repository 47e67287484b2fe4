"""An arm for the tests of arms as processes: `stub_arm.py PORT [MODE]`, raw sockets only, so it starts at once.

It answers `/v1/models/toy` that it is ready and `/slow` after half a second. SIGTERM: no new request, those under way
are answered, then it ends. Modes: `dies` ends at once with last words, `loads` never is ready, `deaf` ignores SIGTERM,
`mute` does not listen.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time


def _answer(connection: socket.socket, mode: str) -> None:
    with connection:
        path = connection.recv(65_536).split(b" ")[1]
        if path == b"/slow":
            print("took it", flush=True)  # noqa: T201 - the log of the arm is how the test knows
            time.sleep(0.5)
        body = json.dumps({"ready": mode != "loads"}).encode()
        connection.sendall(b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


def main(port: int, mode: str) -> None:
    """Serves until SIGTERM."""
    if mode == "dies":
        sys.exit("no such bundle")
    if mode == "mute":
        signal.pause()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()

    def end(*_: object) -> None:
        listener.close()

    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "deaf" else end)
    under_way: list[threading.Thread] = []
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            break
        under_way.append(threading.Thread(target=_answer, args=(connection, mode)))
        under_way[-1].start()
    for one in under_way:
        one.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
