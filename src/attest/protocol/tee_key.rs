//! The key to which a key broker encrypts its answer: generated for one session, used once.

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;
use serde::Serialize;
use zeroize::Zeroizing;

/// A private key on P-256, consumed by one key agreement.
pub struct TeeKey {
    private: EphemeralPrivateKey,
    public: PublicJwk,
}

impl TeeKey {
    /// A new key; `None` if the kernel has no random numbers.
    #[must_use]
    pub fn generate() -> Option<Self> {
        let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).ok()?;
        let public = private.compute_public_key().ok()?;
        let public = PublicJwk::of(Point::from_bytes(public.as_ref())?);
        Some(Self { private, public })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PublicJwk {
        &self.public
    }

    /// The secret shared with the owner of `peer`; `None` if `peer` is not on the curve.
    #[must_use]
    pub fn agree(self, peer: &Point) -> Option<SharedSecret> {
        let peer = UnparsedPublicKey::new(&ECDH_P256, peer.0);
        agree_ephemeral(self.private, &peer, |secret| secret.try_into().ok().map(Zeroizing::new)).ok()?
    }
}

/// The x coordinate of the shared point (RFC 7518, 4.6.2: `Z`).
pub type SharedSecret = Zeroizing<[u8; COORDINATE]>;

/// An uncompressed point, not yet checked to be on P-256 (SEC 1, 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point([u8; POINT]);

impl Point {
    /// From base64url coordinates of exactly 32 bytes each (RFC 7518, 6.2.1).
    #[must_use]
    pub fn from_coordinates(x: &str, y: &str) -> Option<Self> {
        let mut bytes = [UNCOMPRESSED; POINT];
        let (_, coordinates) = bytes.split_first_mut()?;
        for (text, place) in [x, y].into_iter().zip(coordinates.chunks_exact_mut(COORDINATE)) {
            let decoded = Base64UrlUnpadded::decode(text, place).ok()?;
            if decoded.len() != COORDINATE {
                return None;
            }
        }
        Some(Self(bytes))
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// The public half as a JWK, with members in the order of Trustee's own client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicJwk {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    x: String,
    y: String,
}

impl PublicJwk {
    fn of(point: Point) -> Self {
        let (_, coordinates) = point.0.split_at(1);
        let (x, y) = coordinates.split_at(COORDINATE);
        let [x, y] = [x, y].map(Base64UrlUnpadded::encode_string);
        Self { kty: "EC", crv: "P-256", alg: ALGORITHM, x, y }
    }

    /// A recorded key.
    #[cfg(test)]
    pub(crate) fn from_coordinates(x: &str, y: &str) -> Self {
        Self::of(Point::from_coordinates(x, y).unwrap())
    }
}

/// RFC 7518, 4.1.
pub(super) const ALGORITHM: &str = "ECDH-ES+A256KW";
const COORDINATE: usize = 32;
const POINT: usize = 1 + 2 * COORDINATE;
const UNCOMPRESSED: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_keys_come_to_the_same_secret_and_a_third_does_not() {
        let (a, b, c) =
            (TeeKey::generate().unwrap(), TeeKey::generate().unwrap(), TeeKey::generate().unwrap());
        let point = |key: &TeeKey| Point::from_coordinates(&key.public.x, &key.public.y).unwrap();
        let (of_a, of_b) = (point(&a), point(&b));
        let shared = a.agree(&of_b).unwrap();
        assert_eq!(shared, b.agree(&of_a).unwrap());
        assert_ne!(shared, c.agree(&of_a).unwrap());
    }

    #[test]
    fn a_point_beside_the_curve_is_refused() {
        let x = Base64UrlUnpadded::encode_string(&[1; 32]);
        let point = Point::from_coordinates(&x, &x).unwrap();
        assert!(TeeKey::generate().unwrap().agree(&point).is_none());
    }

    #[test]
    fn coordinates_have_exactly_32_bytes() {
        let of = |count: usize| Base64UrlUnpadded::encode_string(&vec![7; count]);
        assert!(Point::from_coordinates(&of(32), &of(32)).is_some());
        for count in [0, 31, 33, 64] {
            assert!(Point::from_coordinates(&of(count), &of(32)).is_none(), "{count}");
            assert!(Point::from_coordinates(&of(32), &of(count)).is_none(), "{count}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(x in "[A-Za-z0-9_=+/-]{0,50}", y in ".{0,50}") {
            if let Some(point) = Point::from_coordinates(&x, &y) {
                let jwk = PublicJwk::of(point);
                prop_assert_eq!((jwk.x, jwk.y), (x, y));
            }
        }
    }
}
