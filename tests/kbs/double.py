#!/usr/bin/python3
"""A key broker for tests, written from Trustee's protocol and sharing nothing with what it judges.

It verifies: versions, sessions, nonces, report data, the quote's signature, nonce, PCR digest and selection, whether the
attestation key is registered, and a policy on PCR values. `self-test` makes it prove itself on recorded traffic first.

    double.py serve CONFIG.json      prints {"port": N}; ends when its standard input does
    double.py judge CONFIG.json      judges one attestation from standard input: {"nonce": .., "attestation": ..}
    double.py self-test DIRECTORY    compares itself with the recordings
"""

import base64
import http.server
import json
import os
import socket
import socketserver
import ssl
import sys
import threading
import time
import uuid

sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
from cryptography.hazmat.primitives.asymmetric import ec

from envelope import compact, seal, url_encode
from evidence import Refused, judge
from recordings import self_test

ERRORS = "https://github.com/confidential-containers/kbs/errors/"
PREFIX = "/kbs/v0"


class Failure(Exception):
    """An answer with an error's body."""

    def __init__(self, kind, detail, status=401, why=""):
        super().__init__(why or detail)
        self.kind, self.detail, self.status = kind, detail, status


class Broker:
    """Sessions and answers; knows nothing of sockets."""

    def __init__(self, config):
        self.config = config
        self.version = config.get("version", "0.4.0")
        self.sessions = {}
        # For recordings only.
        self.next_nonce = self.next_session = None

    def answer(self, method, path, cookie, body):
        """Status, headers, body, and why for the log."""
        try:
            return self.route(method, path, cookie, body)
        except Failure as failure:
            text = compact({"type": ERRORS + failure.kind, "detail": failure.detail})
            return failure.status, [], text.encode(), str(failure)

    def route(self, method, path, cookie, body):
        if (method, path) == ("POST", PREFIX + "/auth"):
            return self.auth(body)
        if (method, path) == ("POST", PREFIX + "/attest"):
            return self.attest(self.sessions.get(cookie), cookie, body)
        if method == "GET" and path.startswith(PREFIX + "/resource/"):
            return self.resource(self.sessions.get(cookie), path[len(PREFIX + "/resource/"):])
        raise Failure("InvalidRequestPath", "Invalid request path", 404)

    def auth(self, body):
        try:
            request = json.loads(body)
            version, tee = request["version"], request["tee"]
            assert set(request) == {"version", "tee", "extra-params"}
        except (ValueError, KeyError, AssertionError) as error:
            raise Failure("AttestationError", "RCAR handshake Auth failed: deserialize Request") from error
        if version != self.version:
            mismatch = f"expect ={self.version} while the request is {version}"
            raise Failure("AttestationError", "KBS Client Protocol Version Mismatch: " + mismatch)
        if self.config.get("starting", 0) > 0:
            self.config["starting"] -= 1
            raise Failure("AttestationError", "RCAR handshake Auth failed: generate challenge", why="starting up")
        if tee not in self.config.get("tees", ["tpm"]):
            raise Failure("AttestationError", "RCAR handshake Auth failed: deserialize Request", why="unknown tee")
        nonce = self.next_nonce or base64.b64encode(os.urandom(32)).decode()
        session = self.next_session or uuid.uuid4().hex
        self.sessions[session] = {"nonce": nonce, "tee": tee, "claims": None}
        return 200, [self.cookie(session)], compact({"nonce": nonce, "extra-params": ""}).encode(), ""

    def attest(self, session, cookie, body):
        if session is None:
            raise Failure("AttestationError", "RCAR handshake Attest failed", why="no session")
        if session["claims"] is None:
            try:
                judged = judge(self.version, session["tee"], session["nonce"], json.loads(body))
            except (Refused, ValueError, KeyError, TypeError) as error:
                raise Failure("AttestationError", "RCAR handshake Attest failed", why=f"evidence: {error}") from error
            session["key"], session["claims"] = judged
        return 200, [self.cookie(cookie)], compact({"token": "not.a.token"}).encode(), ""

    def resource(self, session, path):
        if session is None or session["claims"] is None:
            raise Failure("TokenNotFound", "Attestation Token not found")
        why = self.denial(session["claims"])
        if why:
            raise Failure("PolicyDeny", "Access denied by policy", why=why)
        resource = self.config.get("resources", {}).get(path)
        if resource is None or path.count("/") != 2:
            raise Failure("PluginInternalError", "Plugin resource internal error")
        return 200, [], compact(seal(base64.b64decode(resource), session["key"])).encode(), ""

    def denial(self, claims):
        registered = self.config.get("registered_aks")
        if registered is not None and claims.get("ak_public") not in registered:
            return "policy: attestation key is not registered"
        for number, allowed in self.config.get("pcrs", {}).items():
            if claims.get(f"pcr{int(number):02}") not in allowed:
                return f"policy: PCR {number}"
        return ""

    @staticmethod
    def cookie(session):
        expires = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 300))
        return ("set-cookie", f"kbs-session-id={session}; Expires={expires}")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    broker = log = None
    numbers = iter(range(1 << 30))

    def setup(self):
        super().setup()
        self.connection_number = next(Handler.numbers)

    def do_GET(self):
        self.exchange()

    def do_POST(self):
        self.exchange()

    def exchange(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        cookie = (self.headers.get("cookie") or "").partition("kbs-session-id=")[2]
        step = self.path[len(PREFIX) + 1:].split("/")[0]
        fault = self.broker.config.get("faults", {}).get(step)
        if fault:
            self.record(f"fault: {fault}", 0, len(body))
            if not self.fault(fault, body):
                self.close_connection = True
                return
        status, headers, answer, why = self.broker.answer(self.command, self.path, cookie, body)
        if fault == "other-key":
            stranger = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
            jwk = {"kty": "EC", "crv": "P-256"}
            jwk.update({n: url_encode(getattr(stranger, n).to_bytes(32, "big")) for n in ("x", "y")})
            answer = compact(seal(b"a secret for somebody else", jwk)).encode()
        self.record(why, status, len(body), len(answer))
        self.reply(status, [*headers, ("content-type", "application/json")], answer)

    def fault(self, kind, _body):
        """Whether the proper answer shall follow."""
        if kind == "redirect":
            self.reply(302, [("location", PREFIX + "/elsewhere")], b"")
        elif kind == "huge":
            self.send_response(200)
            self.send_header("content-length", str(1 << 30))
            self.end_headers()
            try:
                for _ in range(1 << 14):
                    self.wfile.write(bytes(1 << 16))
            except OSError:
                pass
        elif kind == "huge-header":
            self.reply(200, [(f"x-{number}", "x" * 1000) for number in range(100)], b"")
        elif kind == "hang":
            time.sleep(600)
        elif kind == "drip":
            self.send_response(200)
            self.send_header("content-length", "100000")
            self.end_headers()
            try:
                for _ in range(100000):
                    self.wfile.write(b" ")
                    time.sleep(0.1)
            except OSError:
                pass
        elif kind == "html":
            self.reply(200, [], b"<html>It works!</html>")
        elif kind == "trouble":
            self.reply(503, [], b"no healthy upstream")
        elif kind == "not-http":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        elif kind == "garbage":
            self.reply(200, [], compact({name: "AAAA" for name in
                                         ("protected", "encrypted_key", "iv", "ciphertext", "tag")}).encode())
        else:
            return True
        return False

    def reply(self, status, headers, body):
        self.send_response(status)
        for name, value in [*headers, ("content-length", str(len(body)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def record(self, why, status, received, sent=0):
        line = {"connection": self.connection_number, "method": self.command, "path": self.path, "status": status,
                "why": why, "received": received, "sent": sent}
        self.log.write(compact(line) + "\n")
        self.log.flush()

    def log_message(self, *_arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    tls = tls_fault = None

    def __init__(self, address, handler):
        # `::` takes IPv4 as well.
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self):
        """Without asking name servers for our own name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def finish_request(self, request, client_address):
        if self.tls_fault:
            self.stall(request)
            return
        # In the connection's own thread: a client that hangs up during the handshake stops nobody else.
        if self.tls:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError):
                return
        super().finish_request(request, client_address)

    def stall(self, request):
        """A handshake that never gets anywhere: nothing at all, or a record of 16 KiB byte by byte."""
        try:
            if self.tls_fault == "drip":
                request.sendall(b"\x16\x03\x03\x40\x00")
            for _ in range(6000):
                if self.tls_fault == "drip":
                    request.sendall(b"\x02")
                time.sleep(0.1)
        except OSError:
            pass

    def handle_error(self, request, client_address):
        pass


def serve(config):
    Handler.broker = Broker(config)
    Handler.log = open(config["log"], "a", encoding="utf-8")
    server = Server((config.get("address", "127.0.0.1"), config.get("port", 0)), Handler)
    if "certificate" in config:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(config["certificate"], config["key"])
        server.tls_fault = config.get("tls_fault")
        if config.get("tls12"):
            server.tls.maximum_version = ssl.TLSVersion.TLSv1_2
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(compact({"port": server.server_address[1]}), flush=True)
    sys.stdin.read()


def judge_one(config):
    given = json.load(sys.stdin)
    try:
        _, claims = judge(config.get("version", "0.4.0"), "tpm", given["nonce"], given["attestation"])
        print(compact({"accepted": True, "denial": Broker(config).denial(claims)}))
    except Refused as refused:
        print(compact({"accepted": False, "why": str(refused)}))


def main():
    command, argument = sys.argv[1:]
    if command == "self-test":
        self_test(argument, Broker)
        return
    with open(argument, encoding="utf-8") as file:
        config = json.load(file)
    {"serve": serve, "judge": judge_one}[command](config)


if __name__ == "__main__":
    main()
