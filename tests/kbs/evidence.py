"""What an attestation proves: report data, quote, key. Says why not, where it does not."""

import base64
import hashlib
import os
import subprocess
import tempfile

from cryptography.hazmat.primitives import serialization

from envelope import ALGORITHM, canonical, point


class Refused(Exception):
    """Evidence that proves nothing; the text says why, for the log only."""


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
