//! The cache of a Laravel application, as far as it holds what is asked of workers.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use auditq_config::{Application, Cache};
#[cfg(feature = "mysql")]
use auditq_mysql::mysql_async::{self, prelude::Queryable as _};
#[cfg(feature = "postgres")]
use auditq_postgres::tokio_postgres::types::{ToSql, Type};

use crate::settlement::SettleError;

/// Longer than anything that is kept under the keys that are read.
const BYTES_MAX: u64 = 1 << 16;

/// A cache that other processes see.
#[derive(Debug)]
pub(crate) struct ApplicationCache {
    place: Place,
    prefix: String,
}

#[derive(Debug)]
enum Place {
    Files(PathBuf),
    #[cfg(feature = "sqlite")]
    Sqlite(auditq_sqlite::Database),
    #[cfg(feature = "mysql")]
    Mysql(auditq_mysql::Database),
    #[cfg(feature = "postgres")]
    Postgres(auditq_postgres::Database),
    #[cfg(feature = "redis")]
    Redis(auditq_queue::redis::RedisCache),
}

impl ApplicationCache {
    /// Opens the cache of an application; `None` when other processes do not see it.
    ///
    /// # Errors
    /// `Misconfigured` when its place can never be read. A server is not asked anything yet.
    pub(crate) fn open(application: &Application, cache: &Cache) -> Result<Option<Self>, SettleError> {
        let place = match cache {
            Cache::Files(folder) => Place::Files(folder.clone()),
            Cache::Database(url) => match url.scheme() {
                #[cfg(feature = "sqlite")]
                auditq_config::Scheme::Sqlite => Place::Sqlite(crate::sqlite::open(url)?),
                #[cfg(feature = "mysql")]
                auditq_config::Scheme::Mysql => Place::Mysql(crate::mysql::open(url)?),
                #[cfg(feature = "postgres")]
                auditq_config::Scheme::Postgres => Place::Postgres(crate::postgres::open(url)?),
                _ => return Ok(None),
            },
            #[cfg(feature = "redis")]
            Cache::Redis(url) => Place::Redis(auditq_queue::redis::RedisCache::open(url.with_password())?),
            _ => return Ok(None),
        };
        Ok(Some(Self { place, prefix: application.cache_prefix.clone() }))
    }

    /// What is kept under a key, as the application wrote it; `None` when there is nothing, or no longer.
    ///
    /// # Errors
    /// What the cache's engine says, for people.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        // Up to Laravel 10 the Redis store puts a colon behind the prefix, and which one this is, nobody says.
        let keys = [format!("{}{key}", self.prefix), format!("{}:{key}", self.prefix)];
        match &self.place {
            Place::Files(folder) => in_file(folder, key),
            #[cfg(feature = "sqlite")]
            Place::Sqlite(database) => in_sqlite(database, keys).await.map_err(|error| error.to_string()),
            #[cfg(feature = "mysql")]
            Place::Mysql(database) => in_mysql(database, &keys).await.map_err(|error| error.to_string()),
            #[cfg(feature = "postgres")]
            Place::Postgres(database) => in_postgres(database, &keys).await.map_err(|error| error.to_string()),
            #[cfg(feature = "redis")]
            Place::Redis(cache) => {
                for key in &keys {
                    if let Some(value) = cache.get(key).await.map_err(|error| error.to_string())? {
                        return Ok(Some(value));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// `aa/bb/SHA1`: ten digits say until when it holds, and then comes the value. The prefix is not part of it.
fn in_file(folder: &Path, key: &str) -> Result<Option<Vec<u8>>, String> {
    let name = sha1_smol::Sha1::from(key).digest().to_string();
    let file = folder.join(&name[..2]).join(&name[2..4]).join(&name);
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    match std::fs::metadata(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(metadata) if metadata.len() > BYTES_MAX => return Err(format!("{} is over 64 KiB", file.display())),
        Ok(_) => {}
    }
    let text = match std::fs::read(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(unreadable)?,
    };
    let until = text.get(..10).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
    Ok(until.filter(|until| *until > unix_now()).map(|_| text[10..].to_vec()))
}

#[cfg(feature = "sqlite")]
async fn in_sqlite(database: &auditq_sqlite::Database, keys: [String; 2]) -> auditq_sqlite::Result<Option<Vec<u8>>> {
    use auditq_sqlite::rusqlite::OptionalExtension as _;
    let now = i64::try_from(unix_now()).unwrap_or(i64::MAX);
    let get = move |connection: &auditq_sqlite::rusqlite::Connection| {
        let sql = "SELECT CAST(value AS BLOB) FROM cache WHERE key IN (?1, ?2) AND expiration > ?3";
        connection.prepare_cached(sql)?.query_row((&keys[0], &keys[1], now), |row| row.get(0)).optional()
    };
    database.read("read the application's cache", get).await
}

#[cfg(feature = "mysql")]
async fn in_mysql(database: &auditq_mysql::Database, keys: &[String; 2]) -> auditq_mysql::Result<Option<Vec<u8>>> {
    let run = database.single("read the application's cache");
    auditq_mysql::attempt!(run, connection => get_in_mysql(connection, keys).await)
}

#[cfg(feature = "mysql")]
async fn get_in_mysql(connection: &mut mysql_async::Conn, keys: &[String; 2]) -> mysql_async::Result<Option<Vec<u8>>> {
    let sql = "SELECT value FROM cache WHERE `key` IN (?, ?) AND expiration > ?";
    connection.exec_first(sql, (&keys[0], &keys[1], unix_now())).await
}

#[cfg(feature = "postgres")]
async fn in_postgres(
    database: &auditq_postgres::Database,
    keys: &[String; 2],
) -> auditq_postgres::Result<Option<Vec<u8>>> {
    let sql = "SELECT value::text FROM cache WHERE key = ANY($1) AND expiration > $2";
    let (keys, now) = (keys.as_slice(), i64::try_from(unix_now()).unwrap_or(i64::MAX));
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&keys, Type::TEXT_ARRAY), (&now, Type::INT8)];
    let run = database.single("read the application's cache");
    let row = auditq_postgres::attempt!(run, connection => {
        connection.query_typed_opt(sql, &values).await.map_err(Into::into)
    })?;
    Ok(row.map(|row| row.get::<_, String>(0).into_bytes()))
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_a_file_is_read_until_it_has_run_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ee/2f/ee2f842aa7bb1f53edf3a2ed2c09a1807ffa6c90");
        let get = || in_file(folder.path(), "illuminate:queue:restart");
        assert_eq!(get(), Ok(None));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "9999999999i:1795433115;").unwrap();
        assert_eq!(get(), Ok(Some(b"i:1795433115;".to_vec())));
        for gone in ["1000000000i:1795433115;", "", "999", "never 1234i:1;"] {
            std::fs::write(&file, gone).unwrap();
            assert_eq!(get(), Ok(None), "{gone}");
        }
        std::fs::write(&file, vec![b'9'; 1 << 17]).unwrap();
        assert!(get().is_err());
    }
}
