"""Receives one request and verifies it with the published library: `receiver.py SECRET`. Prints its URL, then waits.

Ends with 0 only if the request is accepted, and the same request with another body is not.
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError


def accepts(body, headers):
    try:
        Webhook(sys.argv[1]).verify(body, headers)
        return True
    except WebhookVerificationError as error:
        print(error, file=sys.stderr)
        return False


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.right = accepts(body, headers) and not accepts(body + b" ", headers)
        self.send_response(204 if self.server.right else 400)
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
server.right = False
print(f"http://127.0.0.1:{server.server_port}/hook", flush=True)
server.handle_request()
sys.exit(0 if server.right else 1)
