//! Texts that Laravel's `Encrypter` wrote under `APP_KEY`.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes256};
use aes_gcm::aead::{Aead, Payload as Sealed};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit as _};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::Value as Json;
use sha2::Sha256;

const CBC_IV_BYTES: usize = 16;
const GCM_IV_BYTES: usize = 12;
const GCM_TAG_BYTES: usize = 16;

/// A key that a Laravel application encrypts with. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AppKey {
    bytes: Vec<u8>,
}

/// A text that is no `APP_KEY`; it is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot use the application key: it has {0}; give it as it stands in the application's .env behind APP_KEY=: \
     \"base64:\" and 32 bytes (16 for AES-128) in base64"
)]
pub struct KeyError(String);

/// An encrypted command that cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CryptError {
    /// Nobody said which key.
    #[error("it is encrypted and no key is known; give the application's APP_KEY")]
    NoKey,
    /// It is not what Laravel writes.
    #[error("it is neither a serialized object nor an encrypted one: {0}")]
    Malformed(&'static str),
    /// Another key, or other bytes.
    #[error(
        "none of the {keys} known keys fits: the job was changed on its way, or the application had another APP_KEY when \
         it wrote it; give that one too, in APP_PREVIOUS_KEYS"
    )]
    WrongKey {
        /// How many were tried.
        keys: usize,
    },
    /// The key fits and the text inside is cut.
    #[error("the key fits, and what it opens is damaged")]
    Damaged,
}

impl AppKey {
    /// Reads a key as it stands in `.env`.
    ///
    /// # Errors
    /// When it has neither 16 nor 32 bytes.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let bytes = match text.strip_prefix("base64:") {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| KeyError("no base64 behind it".to_owned()))?,
            None => text.as_bytes().to_vec(),
        };
        match bytes.len() {
            16 | 32 => Ok(Self { bytes }),
            other => Err(KeyError(format!("{other} bytes"))),
        }
    }

    /// Encrypts as Laravel's `Encrypter` does with AES-CBC. `iv` must be random and new each time.
    #[must_use]
    pub fn encrypt_cbc(&self, plain: &[u8], iv: [u8; CBC_IV_BYTES]) -> String {
        let value = match sized::<32>(&self.bytes) {
            Some(key) => cbc::Encryptor::<Aes256>::new(&key.into(), &iv.into()).encrypt_padded_vec::<Pkcs7>(plain),
            None => {
                let key = sized::<16>(&self.bytes).unwrap_or_default();
                cbc::Encryptor::<Aes128>::new(&key.into(), &iv.into()).encrypt_padded_vec::<Pkcs7>(plain)
            }
        };
        let (iv, value) = (STANDARD.encode(iv), STANDARD.encode(value));
        let mac = self.mac(&iv, &value).map(|mac| hex(&mac.finalize().into_bytes())).unwrap_or_default();
        sealed(&iv, &value, &mac, "")
    }

    /// Encrypts as Laravel's `Encrypter` does with AES-GCM. `iv` must never have been used with this key.
    ///
    /// # Errors
    /// A text longer than the cipher can take, about 64 GB.
    pub fn encrypt_gcm(&self, plain: &[u8], iv: [u8; GCM_IV_BYTES]) -> Result<String, CryptError> {
        let plain = Sealed { msg: plain, aad: &[] };
        let both = match sized::<32>(&self.bytes) {
            Some(key) => Aes256Gcm::new(&key.into()).encrypt(&iv.into(), plain),
            None => Aes128Gcm::new(&sized::<16>(&self.bytes).unwrap_or_default().into()).encrypt(&iv.into(), plain),
        };
        let both = both.map_err(|_| CryptError::Malformed("it is too long"))?;
        let (value, tag) = both.split_at(both.len().saturating_sub(GCM_TAG_BYTES));
        Ok(sealed(&STANDARD.encode(iv), &STANDARD.encode(value), "", &STANDARD.encode(tag)))
    }

    /// The MAC over what stands in the text, not over what it encodes: so does Laravel.
    fn mac(&self, iv: &str, value: &str) -> Option<Hmac<Sha256>> {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.bytes).ok()?;
        mac.update(iv.as_bytes());
        mac.update(value.as_bytes());
        Some(mac)
    }

    fn open_cbc(&self, iv: [u8; CBC_IV_BYTES], value: &[u8]) -> Option<Vec<u8>> {
        match sized::<32>(&self.bytes) {
            Some(key) => cbc::Decryptor::<Aes256>::new(&key.into(), &iv.into()).decrypt_padded_vec::<Pkcs7>(value).ok(),
            None => {
                let key = sized::<16>(&self.bytes)?;
                cbc::Decryptor::<Aes128>::new(&key.into(), &iv.into()).decrypt_padded_vec::<Pkcs7>(value).ok()
            }
        }
    }

    fn open_gcm(&self, iv: [u8; GCM_IV_BYTES], both: &[u8]) -> Option<Vec<u8>> {
        let both = Sealed { msg: both, aad: &[] };
        match sized::<32>(&self.bytes) {
            Some(key) => Aes256Gcm::new(&key.into()).decrypt(&iv.into(), both).ok(),
            None => Aes128Gcm::new(&sized::<16>(&self.bytes)?.into()).decrypt(&iv.into(), both).ok(),
        }
    }
}

impl std::fmt::Debug for AppKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AppKey(…)")
    }
}

/// Opens what Laravel's `Encrypter` wrote, with the first key that fits: its own before its previous ones.
///
/// With AES-CBC the MAC is checked, in constant time, before anything is decrypted; AES-GCM checks as it decrypts.
///
/// # Errors
/// When it is no such text, no key fits, or what is inside is damaged.
pub fn decrypt(text: &str, keys: &[AppKey]) -> Result<Vec<u8>, CryptError> {
    let sealed = Parts::read(text)?;
    if keys.is_empty() {
        return Err(CryptError::NoKey);
    }
    let wrong = CryptError::WrongKey { keys: keys.len() };
    if !sealed.tag.is_empty() {
        let iv = unbase64(&sealed.iv)?.try_into().map_err(|_| CryptError::Malformed("its iv has not 12 bytes"))?;
        let mut both = unbase64(&sealed.value)?;
        let tag = unbase64(&sealed.tag)?;
        if tag.len() != GCM_TAG_BYTES {
            return Err(CryptError::Malformed("its tag has not 16 bytes"));
        }
        both.extend(tag);
        return keys.iter().find_map(|key| key.open_gcm(iv, &both)).ok_or(wrong);
    }
    let iv = unbase64(&sealed.iv)?.try_into().map_err(|_| CryptError::Malformed("its iv has not 16 bytes"))?;
    let said = unhex(&sealed.mac).ok_or(CryptError::Malformed("its mac is not 64 hexadecimal digits"))?;
    let fits = |key: &&AppKey| key.mac(&sealed.iv, &sealed.value).is_some_and(|mac| mac.verify_slice(&said).is_ok());
    let key = keys.iter().find(fits).ok_or(wrong)?;
    key.open_cbc(iv, &unbase64(&sealed.value)?).ok_or(CryptError::Damaged)
}

/// `{"iv":…,"value":…,"mac":…,"tag":…}`.
struct Parts {
    iv: String,
    value: String,
    mac: String,
    tag: String,
}

impl Parts {
    fn read(text: &str) -> Result<Self, CryptError> {
        let json = STANDARD.decode(text).map_err(|_| CryptError::Malformed("it is not base64"))?;
        let json: Json = serde_json::from_slice(&json).map_err(|_| CryptError::Malformed("there is no JSON in it"))?;
        let part = |name: &str| json.get(name).and_then(Json::as_str).map(str::to_owned);
        Ok(Self {
            iv: part("iv").ok_or(CryptError::Malformed("it has no iv"))?,
            value: part("value").ok_or(CryptError::Malformed("it has no value"))?,
            mac: part("mac").unwrap_or_default(),
            tag: part("tag").unwrap_or_default(),
        })
    }
}

fn sealed(iv: &str, value: &str, mac: &str, tag: &str) -> String {
    // None of these can hold what JSON would escape.
    STANDARD.encode(format!("{{\"iv\":\"{iv}\",\"value\":\"{value}\",\"mac\":\"{mac}\",\"tag\":\"{tag}\"}}"))
}

fn unbase64(text: &str) -> Result<Vec<u8>, CryptError> {
    STANDARD.decode(text).map_err(|_| CryptError::Malformed("a part of it is not base64"))
}

fn sized<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<AppKey> {
        vec![AppKey::parse("0123456789abcdef").unwrap(), AppKey::parse(&"k".repeat(32)).unwrap()]
    }

    #[test]
    fn what_was_encrypted_is_opened_under_each_cipher_and_key() {
        for key in keys() {
            for plain in [&b""[..], b"x", &[0xFF; 16], &[7; 1000]] {
                let (cbc, gcm) = (key.encrypt_cbc(plain, [1; 16]), key.encrypt_gcm(plain, [1; 12]).unwrap());
                assert_eq!(decrypt(&cbc, &keys()).unwrap(), plain);
                assert_eq!(decrypt(&gcm, &keys()).unwrap(), plain);
            }
        }
    }

    #[test]
    fn another_key_fits_neither_cipher_and_none_is_told() {
        let key = &keys()[0];
        for text in [key.encrypt_cbc(b"x", [1; 16]), key.encrypt_gcm(b"x", [1; 12]).unwrap()] {
            assert_eq!(decrypt(&text, &keys()[1..]), Err(CryptError::WrongKey { keys: 1 }));
            assert_eq!(decrypt(&text, &[]), Err(CryptError::NoKey));
        }
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let key = &keys()[1];
        for text in [key.encrypt_cbc(b"plain text", [1; 16]), key.encrypt_gcm(b"plain text", [1; 12]).unwrap()] {
            let json = STANDARD.decode(&text).unwrap();
            for at in 0..json.len() {
                let mut changed = json.clone();
                changed[at] ^= 1;
                let opened = decrypt(&STANDARD.encode(&changed), &keys());
                // The case of a hexadecimal digit says nothing, and a name may be another's.
                assert!(opened.is_err() || opened.as_deref() == Ok(b"plain text"), "{at}: {opened:?}");
            }
            for end in 0..text.len() {
                assert!(decrypt(&text[..end], &keys()).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn a_key_is_read_as_it_stands_in_env_and_never_shown() {
        let key = AppKey::parse(" base64:KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=\n").unwrap();
        assert_eq!(key.bytes, [b'*'; 32]);
        assert_eq!(format!("{key:?}"), "AppKey(…)");
        for text in ["", "base64:", "base64:!", "secret", "base64:c2VjcmV0"] {
            let error = AppKey::parse(text).unwrap_err().to_string();
            assert!(error.contains("behind APP_KEY=") && !error.contains("secret"), "{error}");
        }
    }
}
