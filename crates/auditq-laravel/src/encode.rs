//! Jobs as Laravel's own workers read them.

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::crypt::{AppKey, CryptError};
use crate::envelope::{CALL_QUEUED_HANDLER, JobLimits};
use crate::php::{Limits, Object, TooDeep, Value, write};

/// A job to be run by a Laravel application. Written for one queue: Redis wants keys of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob<'a> {
    /// Its identity, which it keeps however often it is tried.
    pub uuid: Uuid,
    /// The job as an object: only the properties that differ from the class's defaults.
    pub command: Object<'a>,
    /// When it is dispatched, Unix seconds.
    pub created_at: i64,
    /// What it says of its own tries.
    pub limits: JobLimits,
    /// In Redis the id of the element, which Laravel makes of 32 letters and digits. None for a table.
    pub redis_id: Option<&'a str>,
}

/// How a command is encrypted.
#[derive(Clone, Debug)]
pub enum Cipher<'k> {
    /// AES-CBC with this key and a random initialisation vector.
    Cbc(&'k AppKey, [u8; 16]),
    /// AES-GCM with this key and an initialisation vector that no other text has.
    Gcm(&'k AppKey, [u8; 12]),
}

/// A job that Laravel could not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Nested too deeply.
    #[error(transparent)]
    Depth(#[from] TooDeep),
    /// JSON holds no such text.
    #[error("cannot write the job {0}: it holds bytes that are not UTF-8; encrypt it, or encode them in base64")]
    Utf8(String),
    /// It cannot be encrypted.
    #[error("cannot encrypt the job: {0}")]
    Crypt(#[from] CryptError),
}

impl NewJob<'_> {
    /// Writes the payload.
    ///
    /// # Errors
    /// When it is nested too deeply, or holds bytes that are not UTF-8.
    pub fn payload(&self) -> Result<String, EncodeError> {
        let command = self.serialized()?;
        let command = String::from_utf8(command).map_err(|_| EncodeError::Utf8(self.command.class.to_string()))?;
        Ok(self.envelope(&command))
    }

    /// Writes the payload of a job that implements `ShouldBeEncrypted`; any bytes may be in it.
    ///
    /// # Errors
    /// When it is nested too deeply or too long.
    pub fn encrypted_payload(&self, cipher: &Cipher<'_>) -> Result<String, EncodeError> {
        // Laravel serializes what it encrypts a second time.
        let mut plain = Vec::new();
        write(&Value::Str(self.serialized()?.into()), 0, &mut plain)?;
        let command = match cipher {
            Cipher::Cbc(key, iv) => key.encrypt_cbc(&plain, *iv),
            Cipher::Gcm(key, iv) => key.encrypt_gcm(&plain, *iv)?,
        };
        Ok(self.envelope(&command))
    }

    fn serialized(&self) -> Result<Vec<u8>, EncodeError> {
        let mut command = Vec::new();
        write(&Value::Object(self.command.clone()), Limits::default().depth, &mut command)?;
        Ok(command)
    }

    fn envelope(&self, command: &str) -> String {
        let limits = &self.limits;
        let class = self.command.class.as_ref();
        let backoff = limits.backoff.as_ref().map(|seconds| {
            let seconds: Vec<String> = seconds.iter().map(ToString::to_string).collect();
            seconds.join(",")
        });
        let payload = json!({
            "uuid": self.uuid.as_hyphenated().to_string(),
            "displayName": class,
            "job": CALL_QUEUED_HANDLER,
            "maxTries": limits.tries,
            "maxExceptions": limits.max_exceptions,
            "failOnTimeout": limits.fail_on_timeout,
            "backoff": backoff,
            "timeout": limits.timeout,
            "retryUntil": limits.retry_until,
            "data": {"commandName": class, "command": command},
            "createdAt": self.created_at,
            // More than null would be taken for the wait before the next try.
            "delay": null,
        });
        let mut payload = match payload {
            Json::Object(payload) => payload,
            _ => Map::new(),
        };
        if let Some(id) = self.redis_id {
            // Without them Redis loses the job in the middle of a pop.
            payload.insert("id".to_owned(), id.into());
            payload.insert("attempts".to_owned(), 0.into());
        }
        Json::Object(payload).to_string()
    }
}
