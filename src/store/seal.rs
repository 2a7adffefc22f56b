//! Seals secrets' values: AES-256-GCM, the value's place in the database being part of what is sealed.

use super::{SecretKey, StoreError};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Seals and opens values with the installation's key.
pub(super) struct Sealer(LessSafeKey);

/// A sealed value.
pub(super) struct Sealed {
    /// Random, used once.
    pub nonce: Vec<u8>,
    /// The value's ciphertext with its tag.
    pub ciphertext: Vec<u8>,
}

impl Sealer {
    /// Takes the key.
    pub fn new(key: &SecretKey) -> Result<Self, StoreError> {
        let key = UnboundKey::new(&AES_256_GCM, &key.0).map_err(|_| StoreError::Sealed)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals a value for one place.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<Sealed, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|e| StoreError::Database(format!("no random numbers for sealing: {e}")))?;
        let mut ciphertext = value.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut ciphertext)
            .map_err(|_| StoreError::Database("the value is too large to be sealed".into()))?;
        Ok(Sealed { nonce: nonce.to_vec(), ciphertext })
    }

    /// Opens what was sealed for this place with this key.
    pub fn open(&self, place: &str, sealed: Sealed) -> Result<Vec<u8>, StoreError> {
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(|_| StoreError::Sealed)?;
        let mut value = sealed.ciphertext;
        let length = self.0.open_in_place(nonce, Aad::from(place), &mut value).map_err(|_| StoreError::Sealed)?.len();
        value.truncate(length);
        Ok(value)
    }
}

/// The place of a secret's value.
pub(super) fn secret_place(uid: &str, key: &str) -> String {
    format!("secret_values|{uid}|{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_with_its_key_and_in_its_place() {
        let sealer = Sealer::new(&SecretKey([1; 32])).unwrap();
        let seal = || sealer.seal("a|b", b"hunter2").unwrap();
        assert_eq!(sealer.open("a|b", seal()).unwrap(), b"hunter2");
        assert!(matches!(sealer.open("a|c", seal()), Err(StoreError::Sealed)));
        let other = Sealer::new(&SecretKey([2; 32])).unwrap();
        assert!(matches!(other.open("a|b", seal()), Err(StoreError::Sealed)));
        assert_ne!(seal().ciphertext, seal().ciphertext, "a nonce is never used twice");
    }
}
