use base64ct::{Base64, Encoding};
use proptest::prelude::*;

use super::*;
use crate::base::secret::Secret;
use crate::provision::signing_key::SigningKey;

fn signature(base64: &str) -> Signature {
    Signature::new(Base64::decode_vec(base64).unwrap()).unwrap()
}

#[test]
fn signatures_of_openssl_hold_and_change_with_every_bit() {
    for (pem, id, made) in GOLDEN {
        let key = PublicKey::from_pem(pem).unwrap();
        assert_eq!(key.id().to_string(), id);
        let made = signature(made);
        assert!(key.verify(MESSAGE, &made), "{key:?}");
        assert!(!key.verify(b"a message of somebody else", &made), "{key:?}");
        for position in 0..made.bytes().len() {
            let mut bytes = made.bytes().to_vec();
            bytes[position] ^= 1;
            assert!(!key.verify(MESSAGE, &Signature::new(bytes).unwrap()), "{key:?} {position}");
        }
    }
}

#[test]
fn no_key_accepts_the_signature_of_another() {
    for (pem, _, _) in GOLDEN {
        let key = PublicKey::from_pem(pem).unwrap();
        let accepted = GOLDEN.iter().filter(|(_, _, made)| key.verify(MESSAGE, &signature(made))).count();
        assert_eq!(accepted, 1, "{key:?}");
    }
}

#[test]
fn a_key_is_written_as_it_was_read() {
    for (pem, _, _) in GOLDEN {
        assert_eq!(PublicKey::from_pem(pem).unwrap().to_pem().trim(), pem);
    }
}

#[test]
fn keys_that_nobody_should_use_are_refused_with_the_reason() {
    for (pem, error) in [
        (P384, KeyError::Curve),
        (RSA_1024, KeyError::Modulus),
        (RSA_EXPONENT_3, KeyError::Exponent),
        (X25519, KeyError::Algorithm),
        (EC_PRIVATE, KeyError::Label("PRIVATE KEY".to_owned())),
    ] {
        assert_eq!(PublicKey::from_pem(pem), Err(error));
    }
    assert!(matches!(PublicKey::from_pem("owner.pub"), Err(KeyError::Pem(_))));
}

#[test]
fn what_we_sign_holds_under_the_public_half_that_openssl_derives() {
    let key = SigningKey::from_pem(&Secret::copy_of(EC_PRIVATE.as_bytes())).unwrap();
    let (pem, id, _) = GOLDEN[0];
    assert_eq!((key.public().to_pem().trim(), key.public().id().to_string().as_str()), (pem, id));
    let made = key.sign(MESSAGE).unwrap();
    assert!(PublicKey::from_pem(pem).unwrap().verify(MESSAGE, &made));
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(PublicKey::from_der(&bytes).is_err());
    }

    #[test]
    fn any_change_of_a_key_is_refused_or_another_key(position in 0_usize..91, bit in 0_u8..8) {
        let key = PublicKey::from_pem(GOLDEN[0].0).unwrap();
        let mut bytes = key.der.clone();
        bytes[position] ^= 1 << bit;
        if let Ok(other) = PublicKey::from_der(&bytes) {
            prop_assert_ne!(other.id(), key.id());
            prop_assert!(!other.verify(MESSAGE, &signature(GOLDEN[0].2)));
        }
    }
}

const MESSAGE: &[u8] = b"a message of the owner";

// openssl 3.0.22:
//   openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k
//   (RSA: rsa_keygen_bits:2048; Ed25519: no option)
//   openssl pkey -in k -pubout
//   openssl pkey -in k -pubout -outform DER | sha256sum
//   printf 'a message of the owner' > m; openssl dgst -sha256 -sign k m | base64 -w0
//   (Ed25519: openssl pkeyutl -sign -inkey k -rawin -in m | base64 -w0)
const GOLDEN: [(&str, &str, &str); 3] = [
    (
        "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE52zQbabF2RHGe9UWst19eFNfCniU\n\
Et5gPehcmDQo6SHBh7MY7/tMqbV47w67oB1wP1n+msqDWdsffdW5F2WkOg==\n\
-----END PUBLIC KEY-----",
        "b17370e9647053fb701409389d4935d37b15e7c118cb8708fa29e3afb875e3dc",
        "\
MEUCIGQjKEOs3pYGmKFSbei5GKcV5kMk4Lr24EJx6x1dZNJHAiEA92cX7UfX7pM20s9yFUwXIx7aPhoV4mS6QdvqSPJCbpE=",
    ),
    (
        "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA54H8FPWzgO3aAD2PnNDJ\n\
0tiw/APwXD0uJ7IpCvRH/et33ODmrTQa+yiiH73ZH1Y35zkXjmj2WwgxpbnwmPrD\n\
TuL6bikf4HSAsyChVkp6KVQIkOJ+TgmR2F/ZNub/22ap8cZrOSYOCrD3GRiXlp9u\n\
egQfrDySn67FbN8R5X11m2mW7ocsql+ohSnVmAb8uxk63oyLH1cmVut3kMR4Lqj6\n\
Z4/F6cfnOF1T7yeLS45X+U8bKRBYEwAD4sfYhzMNXJoLN1ZQTSJT0LTce6uEiMdO\n\
HgJK4WMPpdihIVWqSFEpDC6c5bwV66Tqm+GPByvJJ6ZmqGI8Xbz8rO4T1Kr7SpLR\n\
JwIDAQAB\n\
-----END PUBLIC KEY-----",
        "0c24c418abed64d1df8656301de8c105409a07977c858d6b1e4ca6d6b923322e",
        "\
xnJGuEgHGiLz5iiMCFLkQ0zV8VsRKdhT1+qOTsm+qIkVJe/QvaEpAt48NuqBsJpuQoNyurvhbK+KLsEgv4VYrAlwxr6yMcjF527e\
AUkyfkDREi4C5aXXm8IM19fBozNNksJihZdGUC80B7DvcIKilexYpGbvBYQABNWWnVH2qmhDfLfsI0TnrDKtqdt23HUB0VWtOp9Q\
d5xuEwvxk24H79QW/tw3R6gfyh16jqm40E35GEpHyh/BUpefeJ8wuIHcWPYOt0aiamWpMC4R7nQWmMaTaGfvSU4NvthKzLsEiHUR\
ttbbk+1O1f1ssWL3NCmOIAi9gtAzjRftbXzMxb5oSA==",
    ),
    (
        "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEAOVPQVtbWM+9eK+TgyKsOTLG89mh1448zSFk2NZLS/gY=\n\
-----END PUBLIC KEY-----",
        "4f60a130a2dc4f3017a54ad6de0b900c8d6723727779e48b6467c481c451ec88",
        "\
rIS39pNFT0RmMhmLeZiAcCYdGGP6rXmk6DCLcfzRN3LzpQhEwZIi4hKDj8sYTWUoySf8vOoGa314tG5gcdmSDg==",
    ),
];
const P384: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEx4svCGr8hA0TVIzLUdP3exZ/RBFcxhb5\n\
ECxw/fPOKLCB7QV55ipcQiZ508GhPJfa54YdEdZ5vxEqEa8RzzAf1JIIQXN6SJgC\n\
s4VdyR42NuhWIWoA1Ya/9XImM6ZnxOQt\n\
-----END PUBLIC KEY-----";
const RSA_1024: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC0kXvkfOCoLPcCXAa9dqwuhxjj\n\
hronNrQp4RQJAWqmHgFO6CzlAyhAPbO1LAipIrL+wOB+cqi+bMp5oj/vxHF8gW0R\n\
XSytQGsGEqbfGq01s+eGWSa523LSwX6eYA3f12fqGRT74bUWnC8G6qGCH+l3y2d9\n\
l8D9JWr/Wy5soJbG/wIDAQAB\n\
-----END PUBLIC KEY-----";
const RSA_EXPONENT_3: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIDANBgkqhkiG9w0BAQEFAAOCAQ0AMIIBCAKCAQEAvqGVPbf+FkEa673pNUmk\n\
rl1P9NEZDHoiDc6R2P3Cp7lfeqzu/U+bDdoyXbnEtATPSKqxLwqT8x5fNab6+58q\n\
PQ+P4viRajShhfKuyPT+UPNS53ortXhS2+0Jw6FjdP/oOVF7Z4KHDjCuxL1RXaN8\n\
vTMIKnplML0BSexJp1H3LguxYfgdl2sxDYv2MgzB0ikclom8U1insrzNIYznVZHu\n\
EwDJw8n4xEWi7sfOi7VLXJyNJtcRvHLT8GRK46d6IYaM+daOrZePmfPfE+aL5scT\n\
oplPFYHV+6IYZ9JdPMy2WEcpLm0fyDihmOf3rE7mkhT1J8VwzlOLJbKFm7uE+qhL\n\
0QIBAw==\n\
-----END PUBLIC KEY-----";
const X25519: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VuAyEARVhWPU7S/9+xivcZTS3e3Dq2uqTdDeMSOfuDeDOsIiA=\n\
-----END PUBLIC KEY-----";
/// The private half of the first golden key, made for this test.
const EC_PRIVATE: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgHGTE9DqW3A1G9BI4\n\
V9CVWSRph9aqTeT/8vdvnZnai9yhRANCAATnbNBtpsXZEcZ71Ray3X14U18KeJQS\n\
3mA96FyYNCjpIcGHsxjv+0yptXjvDrugHXA/Wf6ayoNZ2x991bkXZaQ6\n\
-----END PRIVATE KEY-----";
