"""The broker on recorded traffic of a real one: the same answers, the same verdicts; and every forgery is refused."""

import base64
import json
import os

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from envelope import protected_header, seal, unseal, url_decode, url_encode
from evidence import Refused, judge


def message(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8", newline="") as file:
        head, _, body = file.read().replace("\r\n", "\n").partition("\n\n")
    start, *lines = head.split("\n")
    headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
    return start, headers, body.rstrip("\n")


def same(what, ours, recorded):
    assert ours == recorded, f"{what}:\n ours     {ours}\n recorded {recorded}"
    print("ok", what)


def self_test(folder, broker_of):
    for case, tee, auth, attest, get in (
        ("tpm-affirming", "tpm", "01-post-auth", "02-post-attest", "03-get-resource_default_disk_root"),
        ("sample-affirming", "sample", "04-post-auth", "05-post-attest", "06-get-resource_default_disk_root2"),
        ("policy-deny", "sample", "09-post-auth", "10-post-attest", "11-get-resource_default_disk_root2"),
    ):
        where = os.path.join(folder, case)
        denied = case == "policy-deny"
        broker = broker_of({
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
    status, _, answer, _ = broker_of({}).answer("GET", "/kbs/v0/resource/default/disk/root2", "", b"")
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
