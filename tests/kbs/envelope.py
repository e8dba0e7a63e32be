"""Encodings, and the JWE in which resources travel (RFC 7515, 7516, 7518)."""

import base64
import hashlib
import json
import os

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

ALGORITHM = "ECDH-ES+A256KW"


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def canonical(value):
    """RFC 8785 for strings and objects with ASCII names."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


def url_encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def url_decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


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
        raise ValueError("not on P-256")
    x, y = (int.from_bytes(url_decode(jwk[name]), "big") for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
