//! How the jobs of a Laravel application are read, as the configuration says.

use auditq_config::Config;
use auditq_event::{Limits, Redaction};
use auditq_laravel::{AppKey, Decoder, Field, KeyError, Mapping};

/// Settings for Laravel that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaravelError {
    /// A key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A zone is none.
    #[error(
        "cannot use laravel.timezone {0:?}: there is no such zone; write it as in config/app.php, such as UTC or Europe/Berlin"
    )]
    Timezone(String),
}

/// Makes the reader of a Laravel application's jobs.
///
/// # Errors
/// When `APP_KEY` is no key, or `laravel.timezone` no zone.
pub fn laravel_decoder(config: &Config, redaction: Redaction, limits: Limits) -> Result<Decoder, LaravelError> {
    let laravel = &config.laravel;
    let mut mapping = Mapping::new(redaction);
    mapping.limits = limits;
    for (key, names) in &laravel.map {
        if let Some(field) = Field::ALL.iter().find(|field| field.key() == key) {
            mapping = mapping.with_names(*field, names);
        }
    }
    mapping.property.clone_from(&laravel.property);
    mapping.app.clone_from(&config.capture.app);
    let mapping = mapping.with_timezone(&laravel.timezone);
    let mapping = mapping.ok_or_else(|| LaravelError::Timezone(laravel.timezone.clone()))?;
    let keys = laravel.keys.iter().map(|key| AppKey::parse(key.expose())).collect::<Result<_, _>>()?;
    Ok(Decoder { keys, ..Decoder::new(mapping) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_event_can_be_named_in_the_configuration() {
        let parts: Vec<&str> = Field::ALL.iter().map(|field| field.key()).collect();
        assert_eq!(auditq_config::LARAVEL_PARTS, parts);
    }

    #[test]
    fn names_property_zone_and_keys_are_those_of_the_configuration() {
        let mut config = Config::default();
        config.laravel.map.insert("sql".to_owned(), vec!["text".to_owned()]);
        config.laravel.property = Some("entry".to_owned());
        config.laravel.timezone = "Europe/Berlin".to_owned();
        config.laravel.keys = vec![auditq_config::Secret::new("k".repeat(32))];
        let make = |config: &Config| laravel_decoder(config, Redaction::new([0; 32]), Limits::default());
        let decoder = make(&config).unwrap();
        assert_eq!(decoder.mapping.names(Field::Sql)[0], "text");
        assert_eq!((decoder.mapping.property.as_deref(), decoder.keys.len()), (Some("entry"), 1));
        config.laravel.timezone = "Berlin".to_owned();
        assert!(make(&config).unwrap_err().to_string().contains("no such zone; write it as in config/app.php"));
        config.laravel.timezone = "UTC".to_owned();
        config.laravel.keys = vec![auditq_config::Secret::new("short")];
        assert!(make(&config).unwrap_err().to_string().contains("it has 5 bytes"));
    }
}
