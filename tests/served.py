"""A server of files on this machine.

It knows ranges and versions unless a test switches them off.
"""

import hashlib
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served:
    """State of a server: its files by name, how it answers, and the requests so far."""

    def __init__(self, address):
        self.address = address
        self.files = {}
        self.status = 200
        self.ranges = self.versions = True
        self.asked = []
        self.sent = 0

    def url(self, name):
        return f"http://{self.address[0]}:{self.address[1]}/{name}"


@contextmanager
def serving():
    """Yield a server that runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.answer(with_content=False)

        def do_GET(self):
            self.answer(with_content=True)

        def answer(self, *, with_content):
            content = served.files.get(self.path.lstrip("/"))
            served.asked.append((self.command, self.path))
            if content is None or served.status != 200:
                self.send_response(404 if content is None else served.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            part = content
            if found and served.ranges:
                part = content[int(found[1]) : int(found[2]) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {found[1]}-{found[2]}/{len(content)}")
            else:
                self.send_response(200)
            if served.versions:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if with_content:
                served.sent += len(part)
                self.wfile.write(part)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(server.server_address)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
