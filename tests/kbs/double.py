#!/usr/bin/python3
"""A key broker for tests, written from Trustee's protocol and sharing nothing with what it judges.

It verifies: versions, sessions, nonces, report data, the quote's signature, nonce, PCR digest and selection, whether the
attestation key is registered, and a policy on PCR values. `self-test` makes it prove itself on recorded traffic first.

    double.py serve CONFIG.json      prints {"port": N}; ends when its standard input does
    double.py judge CONFIG.json      judges one attestation from standard input: {"nonce": .., "attestation": ..}
    double.py self-test DIRECTORY    compares itself with the recordings
"""

import base64
import hashlib
import http.server
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

ERRORS = "https://github.com/confidential-containers/kbs/errors/"
PREFIX = "/kbs/v0"
ALGORITHM = "ECDH-ES+A256KW"


class Refused(Exception):
    """Evidence that proves nothing; the text says why, for the log only."""


class Failure(Exception):
    """An answer with an error's body."""

    def __init__(self, kind, detail, status=401, why=""):
        super().__init__(why or detail)
        self.kind, self.detail, self.status = kind, detail, status


# Encodings


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def canonical(value):
    """RFC 8785 for strings and objects with ASCII names."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


def url_encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def url_decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# JWE (RFC 7516, RFC 7518)


def wrapping_key(shared):
    name = ALGORITHM.encode()
    info = len(name).to_bytes(4, "big") + name + bytes(4) + bytes(4) + (256).to_bytes(4, "big")
    return hashlib.sha256((1).to_bytes(4, "big") + shared + info).digest()


def protected_header(x, y):
    header = {"alg": ALGORITHM, "enc": "A256GCM", "epk": {"crv": "P-256", "kty": "EC", "x": x, "y": y}}
    return url_encode(compact(header).encode())


def seal(plaintext, jwk):
    ours = ec.generate_private_key(ec.SECP256R1())
    numbers = ours.public_key().public_numbers()
    protected = protected_header(*(url_encode(c.to_bytes(32, "big")) for c in (numbers.x, numbers.y)))
    shared = ours.exchange(ec.ECDH(), point(jwk))
    content_key, iv = os.urandom(32), os.urandom(12)
    sealed = AESGCM(content_key).encrypt(iv, plaintext, protected.encode())
    return {
        "protected": protected,
        "encrypted_key": url_encode(aes_key_wrap(wrapping_key(shared), content_key)),
        "iv": url_encode(iv),
        "ciphertext": url_encode(sealed[:-16]),
        "tag": url_encode(sealed[-16:]),
    }


def unseal(envelope, private):
    header = json.loads(url_decode(envelope["protected"]))
    shared = private.exchange(ec.ECDH(), point(header["epk"]))
    content_key = aes_key_unwrap(wrapping_key(shared), url_decode(envelope["encrypted_key"]))
    sealed = url_decode(envelope["ciphertext"]) + url_decode(envelope["tag"])
    return AESGCM(content_key).decrypt(url_decode(envelope["iv"]), sealed, envelope["protected"].encode())


def point(jwk):
    if jwk.get("kty") != "EC" or jwk.get("crv") != "P-256":
        raise Refused("tee-pubkey is not on P-256")
    x, y = (int.from_bytes(url_decode(jwk[name]), "big") for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


# Evidence


def judge(version, tee, nonce, attestation):
    """The session's key and the platform's claims, if the attestation holds."""
    if version == "0.2.0":
        jwk, evidence = attestation["tee-pubkey"], attestation["tee-evidence"]
        runtime = {"nonce": nonce, "tee-pubkey": jwk}
        if set(attestation) != {"tee-pubkey", "tee-evidence"}:
            raise Refused("members of another version")
    else:
        runtime_data, tee_evidence = attestation["runtime-data"], attestation["tee-evidence"]
        jwk, evidence = runtime_data["tee-pubkey"], tee_evidence["primary_evidence"]
        additional = tee_evidence["additional_evidence"]
        runtime = {"additional-evidence": additional, "nonce": nonce, "tee-pubkey": jwk}
        if runtime_data["nonce"] != nonce:
            raise Refused("nonce of another session")
        if additional != "":
            raise Refused("additional evidence is not judged here")
    if jwk.get("alg") != ALGORITHM or set(jwk) != {"kty", "crv", "alg", "x", "y"}:
        raise Refused("tee-pubkey is not for " + ALGORITHM)
    point(jwk)
    report_data = hashlib.sha384(canonical(runtime)).digest()
    return jwk, {"tpm": judge_tpm, "sample": judge_sample}[tee](evidence, report_data)


def judge_sample(evidence, report_data):
    if base64.b64decode(evidence["report_data"]) != report_data:
        raise Refused("report data")
    return {"tee": "sample"}


def judge_tpm(evidence, report_data):
    quote = evidence["tpm_quote"]
    if set(evidence) != {"tpm_quote", "ak_public"} or set(quote) != {"signature", "message", "pcrs"}:
        raise Refused("members")
    message, signature, spki = (
        base64.b64decode(text, validate=True) for text in (quote["message"], quote["signature"], evidence["ak_public"])
    )
    check_signature(message, signature, spki, report_data[:32])
    facts = read_attest(message)
    if facts["extra_data"] != report_data[:32]:
        raise Refused("nonce of the quote")
    if facts["selection"] != [(0x000B, bytes([255, 255, 255]))]:
        raise Refused("selection of the quote")
    values = [bytes.fromhex(value) for value in quote["pcrs"]]
    if len(values) != 24 or any(len(value) != 32 for value in values):
        raise Refused("number of PCRs")
    if hashlib.sha256(b"".join(values)).digest() != facts["digest"]:
        raise Refused("PCR digest")
    pcrs = {f"pcr{number:02}": value.hex() for number, value in enumerate(values)}
    return {"tee": "tpm", "ak_public": evidence["ak_public"], "report_data": report_data[:32].hex(), **pcrs}


def check_signature(message, signature, spki, nonce):
    """By tpm2-tools: signature, magic number and nonce."""
    key = serialization.load_der_public_key(spki)
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("key.pem", pem), ("message", message), ("signature", signature)):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
        command = ["tpm2_checkquote", "-u", "key.pem", "-m", "message", "-s", "signature", "-q", nonce.hex(), "-g", "sha256"]
        checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if checked.returncode != 0:
        raise Refused("tpm2_checkquote: " + checked.stderr.strip())


def read_attest(message):
    """TPMS_ATTEST of a quote (TPM 2.0 Part 2, 10.12.12)."""
    rest = message

    def take(count):
        nonlocal rest
        if len(rest) < count:
            raise Refused("quote is cut off")
        head, rest = rest[:count], rest[count:]
        return head

    def number(count):
        return int.from_bytes(take(count), "big")

    if take(4) != b"\xffTCG" or number(2) != 0x8018:
        raise Refused("not a quote")
    take(number(2))
    extra_data = take(number(2))
    take(8 + 4 + 4 + 1 + 8)
    selection = [(number(2), take(number(1))) for _ in range(number(4))]
    digest = take(number(2))
    if rest:
        raise Refused("bytes behind the quote")
    return {"extra_data": extra_data, "selection": selection, "digest": digest}


# The broker


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


# Serving, and faults on demand


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


# Recordings


def message(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8", newline="") as file:
        head, _, body = file.read().replace("\r\n", "\n").partition("\n\n")
    start, *lines = head.split("\n")
    headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
    return start, headers, body.rstrip("\n")


def same(what, ours, recorded):
    assert ours == recorded, f"{what}:\n ours     {ours}\n recorded {recorded}"
    print("ok", what)


def self_test(folder):
    for case, tee, auth, attest, get in (
        ("tpm-affirming", "tpm", "01-post-auth", "02-post-attest", "03-get-resource_default_disk_root"),
        ("sample-affirming", "sample", "04-post-auth", "05-post-attest", "06-get-resource_default_disk_root2"),
        ("policy-deny", "sample", "09-post-auth", "10-post-attest", "11-get-resource_default_disk_root2"),
    ):
        where = os.path.join(folder, case)
        denied = case == "policy-deny"
        broker = Broker({
            "tees": [tee], "resources": {"default/disk/root": "eA==", "default/disk/root2": "eA=="},
            **({"registered_aks": []} if denied else {}),
        })
        start, headers, body = message(where, auth + ".response.txt")
        broker.next_nonce = json.loads(body)["nonce"]
        broker.next_session = headers["set-cookie"].partition("kbs-session-id=")[2].partition(";")[0]

        def play(name):
            request, request_headers, request_body = message(where, name + ".request.txt")
            method, path, _ = request.split(" ")
            cookie = request_headers.get("cookie", "").partition("kbs-session-id=")[2]
            status, headers, answer, why = broker.answer(method, path, cookie, request_body)
            return status, dict(headers), answer.decode(), why

        status, ours, answer, why = play(auth)
        same(f"{case}: challenge", (status, answer), (200, body))
        same(f"{case}: cookie", ours["set-cookie"].split(";")[0], headers["set-cookie"].split(";")[0])
        status, _, answer, why = play(attest)
        assert status == 200, why
        _, _, body = message(where, attest + ".response.txt")
        same(f"{case}: members of the token's answer", list(json.loads(answer)), list(json.loads(body)))
        payload = json.loads(url_decode(json.loads(body)["token"].split(".")[1]))
        theirs = payload["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
        if tee == "tpm":
            claims = dict(broker.sessions[broker.next_session]["claims"])
            same(f"{case}: report data", claims.pop("report_data"), theirs["report_data"])
            del claims["tee"]
            same(f"{case}: claims", claims, theirs["tpm"])
        start, _, body = message(where, get + ".response.txt")
        status, _, answer, why = play(get)
        if denied:
            same(f"{case}: denial", (status, answer), (int(start.split(" ")[1]), body))
        else:
            assert status == 200, why
            theirs = json.loads(body)
            same(f"{case}: members of the envelope", list(json.loads(answer)), list(theirs))
            epk = json.loads(url_decode(theirs["protected"]))["epk"]
            same(f"{case}: protected header", protected_header(epk["x"], epk["y"]), theirs["protected"])
    where = os.path.join(folder, "tpm-affirming")
    with open(os.path.join(where, "tee-key.pem"), "rb") as file:
        private = serialization.load_pem_private_key(file.read(), None)
    envelope = json.loads(message(where, "03-get-resource_default_disk_root.response.txt")[2])
    same("the recorded envelope opens", unseal(envelope, private), b"this-is-the-luks-passphrase-for-root\n")
    jwk = json.loads(message(where, "02-post-attest.request.txt")[2])["runtime-data"]["tee-pubkey"]
    same("an envelope of ours opens", unseal(seal(b"x", jwk), private), b"x")
    start, _, body = message(os.path.join(folder, "sample-affirming"), "03-get-resource_default_disk_root2.response.txt")
    status, _, answer, _ = Broker({}).answer("GET", PREFIX + "/resource/default/disk/root2", "", b"")
    same("without a session", (status, answer.decode()), (int(start.split(" ")[1]), body))
    refuses_forgeries(os.path.join(folder, "tpm-affirming"))


def refuses_forgeries(where):
    """Each part of recorded evidence, changed: a judge that accepts it is none."""
    recorded = json.loads(message(where, "02-post-attest.request.txt")[2])
    nonce = recorded["runtime-data"]["nonce"]
    judge("0.4.0", "tpm", nonce, recorded)

    def change_text(text):
        return ("B" if text[0] == "A" else "A") + text[1:]

    def changed(change):
        copy = json.loads(json.dumps(recorded))
        change(copy, copy["tee-evidence"]["primary_evidence"])
        return copy

    def set_pcr(_, evidence):
        evidence["tpm_quote"]["pcrs"][11] = "00" * 32

    def set_message(_, evidence):
        evidence["tpm_quote"]["message"] = change_text(evidence["tpm_quote"]["message"])

    def set_signature(_, evidence):
        quote = evidence["tpm_quote"]
        quote["signature"] = quote["signature"][:40] + change_text(quote["signature"][40:])

    def set_key(copy, _):
        other = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
        copy["runtime-data"]["tee-pubkey"]["x"] = url_encode(other.x.to_bytes(32, "big"))
        copy["runtime-data"]["tee-pubkey"]["y"] = url_encode(other.y.to_bytes(32, "big"))

    for what, change in (("PCR value", set_pcr), ("message", set_message), ("signature", set_signature), ("key", set_key)):
        try:
            judge("0.4.0", "tpm", nonce, changed(change))
        except Refused as refused:
            print("ok", f"another {what} is refused:", str(refused).split("\n", 1)[0][:60])
        else:
            raise AssertionError(f"another {what} is accepted")
    try:
        judge("0.4.0", "tpm", base64.b64encode(bytes(32)).decode(), recorded)
    except Refused as refused:
        print("ok another nonce is refused:", refused)
    else:
        raise AssertionError("another nonce is accepted")


def main():
    command, argument = sys.argv[1:]
    if command == "self-test":
        self_test(argument)
        return
    with open(argument, encoding="utf-8") as file:
        config = json.load(file)
    {"serve": serve, "judge": judge_one}[command](config)


if __name__ == "__main__":
    main()
