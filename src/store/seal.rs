//! Envelope encryption with AES-256-GCM: a record's values are sealed with its data key, data keys are wrapped with the
//! installation's keys. What is sealed is bound to its place in the database.

use super::{SecretKey, StoreError};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// What [`Wrapping::proof`] seals.
const PROOF: &[u8] = b"devsanctum";

/// Something sealed.
pub(super) struct Sealed {
    /// Random, used once.
    pub nonce: Vec<u8>,
    /// The ciphertext with its tag.
    pub ciphertext: Vec<u8>,
}

impl SecretKey {
    /// A random key.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn random() -> Result<Self, StoreError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(no_chance)?;
        Ok(Self(bytes))
    }

    /// What the key is called wherever it is spoken of: the first 64 bits of its SHA-256, in hexadecimal. It follows from
    /// the key, so it cannot be given wrongly, and the key does not follow from it.
    pub fn id(&self) -> String {
        let digest = Sha256::new_with_prefix("devsanctum secret key\n").chain_update(self.0).finalize();
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is wrong with the key, if it cannot be a random one.
    pub(super) fn weakness(&self) -> Option<&'static str> {
        let (bytes, (left, right)) = (&self.0, self.0.split_at(16));
        let distinct = bytes.iter().collect::<std::collections::BTreeSet<_>>().len();
        let steps = |pair: &[u8]| pair[1].wrapping_sub(pair[0]);
        let first = steps(&bytes[..2]);
        if distinct == 1 {
            return Some("is one byte again and again");
        }
        // One random key in more than a billion billions has as few.
        let even = bytes.windows(2).all(|pair| steps(pair) == first);
        (distinct < 12 || left == right || even).then_some("is a pattern, not a random key")
    }

    fn cipher(&self) -> Result<LessSafeKey, StoreError> {
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).map_err(|_| StoreError::Sealed)?))
    }

    /// Seals for one place.
    fn seal(&self, place: &str, value: &[u8]) -> Result<Sealed, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(no_chance)?;
        let mut ciphertext = value.to_vec();
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut ciphertext)
            .map_err(|_| StoreError::Database("the value is too large to be sealed".into()))?;
        Ok(Sealed { nonce: nonce.to_vec(), ciphertext })
    }

    /// Opens what was sealed for this place with this key.
    fn open(&self, place: &str, sealed: &Sealed) -> Result<Vec<u8>, StoreError> {
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(|_| StoreError::Sealed)?;
        let mut value = sealed.ciphertext.clone();
        let length = self.cipher()?.open_in_place(nonce, Aad::from(place), &mut value).map_err(|_| StoreError::Sealed)?.len();
        value.truncate(length);
        Ok(value)
    }
}

fn no_chance(error: getrandom::Error) -> StoreError {
    StoreError::Database(format!("no random numbers for sealing: {error}"))
}

/// A place in the database. Each part goes with its length, so that no two places read the same.
fn place(table: &str, uid: &str, part: &str) -> String {
    format!("devsanctum 2|{table}|{}:{uid}|{}:{part}", uid.len(), part.len())
}

/// A key that seals the values of one record.
pub(super) struct DataKey(SecretKey);

impl DataKey {
    /// A new one.
    pub fn random() -> Result<Self, StoreError> {
        SecretKey::random().map(Self)
    }

    /// Seals a value of the record `uid`.
    pub fn seal(&self, uid: &str, key: &str, value: &[u8]) -> Result<Sealed, StoreError> {
        self.0.seal(&place("secret_values", uid, key), value)
    }

    /// Opens a value of the record `uid`.
    pub fn open(&self, uid: &str, key: &str, sealed: &Sealed) -> Result<Vec<u8>, StoreError> {
        self.0.open(&place("secret_values", uid, key), sealed)
    }
}

/// A key of the installation, which wraps data keys.
pub(super) struct Wrapping {
    key: SecretKey,
    id: String,
}

impl Wrapping {
    /// Takes the key.
    pub fn new(key: SecretKey) -> Self {
        Self { id: key.id(), key }
    }

    /// What it is called.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key itself, for its file.
    pub fn key(&self) -> &SecretKey {
        &self.key
    }

    /// Wraps the data key of the record `uid`.
    pub fn wrap(&self, uid: &str, key: &DataKey) -> Result<Sealed, StoreError> {
        self.key.seal(&place("data_keys", uid, &self.id), &key.0.0)
    }

    /// Unwraps the data key of the record `uid`.
    pub fn unwrap(&self, uid: &str, wrapped: &Sealed) -> Result<DataKey, StoreError> {
        let bytes = self.key.open(&place("data_keys", uid, &self.id), wrapped)?;
        Ok(DataKey(SecretKey(bytes.try_into().map_err(|_| StoreError::Sealed)?)))
    }

    /// A known text, sealed: tells later whether a key is this one.
    pub fn proof(&self) -> Result<Sealed, StoreError> {
        self.key.seal(&place("wrapping_keys", "", &self.id), PROOF)
    }

    /// Whether the proof is this key's.
    pub fn proves(&self, proof: &Sealed) -> bool {
        self.key.open(&place("wrapping_keys", "", &self.id), proof).is_ok()
    }

    /// Whether values were sealed with this key itself, before there were data keys.
    pub fn is_old_key(&self, check: &Sealed) -> bool {
        self.key.open("meta|key_check", check).is_ok()
    }

    /// Opens a value that was sealed with this key itself.
    pub fn open_old(&self, uid: &str, key: &str, sealed: &Sealed) -> Result<Vec<u8>, StoreError> {
        self.key.open(&format!("secret_values|{uid}|{key}"), sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(sealed: &Sealed) -> Sealed {
        Sealed { nonce: sealed.nonce.clone(), ciphertext: sealed.ciphertext.clone() }
    }

    #[test]
    fn a_value_opens_only_with_its_key_and_in_its_place() {
        let (one, two) = (DataKey::random().unwrap(), DataKey::random().unwrap());
        let sealed = one.seal("a", "b", b"hunter2").unwrap();
        assert_eq!(one.open("a", "b", &sealed).unwrap(), b"hunter2");
        for (uid, key) in [("a", "c"), ("c", "b"), ("", "ab"), ("ab", ""), ("b", "a")] {
            assert!(matches!(one.open(uid, key, &sealed), Err(StoreError::Sealed)), "{uid} {key}");
        }
        assert!(matches!(two.open("a", "b", &sealed), Err(StoreError::Sealed)));
        assert_ne!(sealed.ciphertext, one.seal("a", "b", b"hunter2").unwrap().ciphertext, "a nonce is never used twice");
        for at in 0..sealed.ciphertext.len() {
            let mut damaged = again(&sealed);
            damaged.ciphertext[at] ^= 1;
            assert!(one.open("a", "b", &damaged).is_err(), "byte {at}");
            let cut = Sealed { nonce: sealed.nonce.clone(), ciphertext: sealed.ciphertext[..at].to_vec() };
            assert!(one.open("a", "b", &cut).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn a_data_key_unwraps_only_with_its_key_and_in_its_place() {
        let [one, two] = [(); 2].map(|()| Wrapping::new(SecretKey::random().unwrap()));
        let data = DataKey::random().unwrap();
        let wrapped = one.wrap("a", &data).unwrap();
        let value = data.seal("a", "b", b"hunter2").unwrap();
        assert_eq!(one.unwrap("a", &wrapped).unwrap().open("a", "b", &value).unwrap(), b"hunter2");
        assert!(one.unwrap("b", &wrapped).is_err() && two.unwrap("a", &wrapped).is_err());
        // The same key under another id.
        let renamed = Wrapping { key: one.key.clone(), id: two.id.clone() };
        assert!(renamed.unwrap("a", &wrapped).is_err());
        assert!(one.proves(&one.proof().unwrap()) && !one.proves(&two.proof().unwrap()));
    }

    #[test]
    fn a_key_that_cannot_be_random_is_noticed() {
        let halves: [u8; 32] = std::array::from_fn(|i| (i as u8 % 16).wrapping_mul(37) ^ 0x5a);
        for weak in [[0; 32], [255; 32], [7; 32], std::array::from_fn(|i| i as u8), std::array::from_fn(|i| b"ab"[i % 2]), halves]
        {
            assert!(SecretKey(weak).weakness().is_some(), "{weak:?}");
        }
        for _ in 0..1000 {
            let key = SecretKey::random().unwrap();
            assert_eq!(key.weakness(), None);
            assert!(key.id().len() == 16 && !format!("{key:?}").contains(&key.id()));
        }
    }
}
