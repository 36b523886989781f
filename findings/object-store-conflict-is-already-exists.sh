#!/usr/bin/env bash
# Date: 2026-11-28
# Guess: S3 answers a conditional put with 409 ConditionalRequestConflict while somebody else writes that key, and asks to try again.
#   A client library with a retry of its own tries again; at least, "already exists" means that the object is there.
# Seen (object_store as obstore 0.12.1 has it, against a server that answers each PUT with that 409): one request, no retry, and
#   AlreadyExistsError. The object is not there: a HEAD then says FileNotFoundError.
# Why a user cares: "create if absent, and whoever loses drops its copy" loses the data where the other writer failed. Who gets
#   AlreadyExists must read the object, and create again where there is none.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check obstore==0.12.1
cat > "$folder/conflict.py" <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore
from obstore.store import S3Store

requests = []
CONFLICT = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>ConditionalRequestConflict</Code><Message>A conflicting operation is under way; try again.</Message></Error>"""


class Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        requests.append((self.command, self.headers.get("if-none-match"), status))
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self):
        self.answer(409, CONFLICT)

    def do_HEAD(self):
        self.answer(404, b"")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
threading.Thread(target=server.serve_forever, daemon=True).start()
store = S3Store(
    "bucket",
    endpoint=f"http://127.0.0.1:{server.server_port}",
    access_key_id="key",
    secret_access_key="secret",
    region="us-east-1",
    client_options={"allow_http": True},
)


def outcome(work):
    try:
        work()
        return "done"
    except Exception as error:
        return type(error).__name__


print("put if absent:", outcome(lambda: obstore.put(store, "piece", b"data", mode="create")))
puts = [request for request in requests if request[0] == "PUT"]
print("requests:     ", puts)
print("head:         ", outcome(lambda: obstore.head(store, "piece")))
server.shutdown()
PYTHON

echo "obstore 0.12.1"
seen=$("$folder/venv/bin/python" "$folder/conflict.py")
echo "$seen"
expected="put if absent: AlreadyExistsError
requests:      [('PUT', '*', 409)]
head:          FileNotFoundError"
if [ "$seen" != "$expected" ]; then
    echo "this has changed; expected was:" >&2
    echo "$expected" >&2
    exit 1
fi
