//! What a job says beside what an event has a place for.

use auditq_event::{Redaction, Statement, System, cut_at_char_boundary};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use crate::crypt::hex;
use crate::data::Data;
use crate::envelope::Envelope;
use crate::mapping::Mapping;
use crate::php::{Document, Limits, parse};

/// As much of it as an event keeps.
const EXTRA_BYTES_MAX: usize = 64 * 1024;

/// As much as is kept of an entry that is cut.
const HEAD_BYTES: usize = 1024;

/// Where Laravel keeps its `Context`.
const CONTEXT: &str = "illuminate:log:context";

/// True for the keys of a payload that have a meaning in Laravel or Horizon; others were put there by the application.
fn is_laravels(key: &str) -> bool {
    matches!(
        key,
        "uuid"
            | "displayName"
            | "job"
            | "maxTries"
            | "maxExceptions"
            | "failOnTimeout"
            | "backoff"
            | "timeout"
            | "retryUntil"
            | "timeoutAt"
            | "deleteWhenMissingModels"
            | "data"
            | "createdAt"
            | "delay"
            | "id"
            | "attempts"
            | "type"
            | "tags"
            | "silenced"
            | "pushedAt"
            | "retry_of"
            | CONTEXT
    )
}

/// Everything that was not taken, as one JSON object; `None` when nothing is left.
///
/// Under `$job` stands what is beside the query's data: the application's own keys of the payload, its tags, its
/// `Context`, and the job's other properties. Values under names of secrets are taken out, as they are from bindings.
pub(crate) fn of(
    envelope: &Envelope,
    data: &Data<'_, '_, '_>,
    taken: &[&str],
    binding_names: &[String],
    mapping: &Mapping,
    limits: &Limits,
) -> Option<String> {
    let mut extra = data.parts_json(taken, limits).unwrap_or_else(|error| refused(&error.to_string()));
    for name in taken {
        if let Some((part, rest)) = name.split_once('.')
            && !data.names().any(|known| known == *name)
        {
            remove_inner(&mut extra, part, rest);
        }
    }
    if !binding_names.is_empty() {
        extra.insert("binding_names".to_owned(), binding_names.into());
    }
    let job = of_job(envelope, data, limits);
    if !job.is_empty() {
        extra.insert("$job".to_owned(), Json::Object(job));
    }
    kept(extra, mapping)
}

/// What is kept of it: secrets taken out, and no more than fits; `None` when nothing is left.
pub(crate) fn kept(extra: Map<String, Json>, mapping: &Mapping) -> Option<String> {
    if extra.is_empty() {
        return None;
    }
    let mut extra = Json::Object(extra);
    take_secrets_out(&mut extra, &mapping.redaction, mapping);
    Some(bounded(extra))
}

fn refused(why: &str) -> Map<String, Json> {
    Map::from_iter([("$error".to_owned(), why.into())])
}

/// Removes a part of an array, and the array when nothing else is in there.
fn remove_inner(outer: &mut Map<String, Json>, key: &str, path: &str) {
    let Some(Json::Object(inner)) = outer.get_mut(key) else { return };
    if inner.remove(path).is_none()
        && let Some((next, rest)) = path.split_once('.')
    {
        remove_inner(inner, next, rest);
    }
    if inner.is_empty() {
        outer.remove(key);
    }
}

fn of_job(envelope: &Envelope, data: &Data<'_, '_, '_>, limits: &Limits) -> Map<String, Json> {
    let mut job = Map::new();
    let own = envelope.fields.iter().filter(|(key, _)| !is_laravels(key));
    let payload: Map<String, Json> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !payload.is_empty() {
        job.insert("payload".to_owned(), Json::Object(payload));
    }
    if let Some(Json::Array(tags)) = envelope.fields.get("tags")
        && !tags.is_empty()
    {
        job.insert("tags".to_owned(), Json::Array(tags.clone()));
    }
    let context = context(envelope, limits);
    if !context.is_empty() {
        job.insert("context".to_owned(), Json::Object(context));
    }
    let others = data.others.iter().map(|(name, value)| {
        let json = data.document.json(value, limits);
        (name.to_string(), json.unwrap_or_else(|error| Json::Object(refused(&error.to_string()))))
    });
    let others: Map<String, Json> = others.collect();
    if !others.is_empty() {
        job.insert("properties".to_owned(), Json::Object(others));
    }
    job
}

/// The values of Laravel's `Context`, each a text of `serialize()`; the hidden ones stay hidden.
fn context(envelope: &Envelope, limits: &Limits) -> Map<String, Json> {
    let Some(Json::Object(values)) = envelope.fields.get(CONTEXT).and_then(|context| context.get("data")) else {
        return Map::new();
    };
    let decoded = values.iter().map(|(key, value)| {
        let json = value.as_str().and_then(|text| {
            let value = parse(text.as_bytes(), limits).ok()?;
            Document::new(&value).json(&value, limits).ok()
        });
        (key.clone(), json.unwrap_or_else(|| value.clone()))
    });
    decoded.collect()
}

/// Replaces what stands under a name of a secret, secrets in SQL, and secrets in query strings.
fn take_secrets_out(value: &mut Json, redaction: &Redaction, mapping: &Mapping) {
    match value {
        Json::Object(object) => {
            for (key, value) in object.iter_mut() {
                if redaction.is_sensitive(key) && !value.is_null() {
                    *value = "[redacted]".into();
                } else {
                    take_secrets_out(value, redaction, mapping);
                }
            }
        }
        Json::Array(list) => list.iter_mut().for_each(|value| take_secrets_out(value, redaction, mapping)),
        Json::String(text) => {
            if let Some(clean) = cleaned(text, redaction, mapping) {
                *text = clean;
            }
        }
        _ => {}
    }
}

/// A text without its secrets; `None` where it can have none.
fn cleaned(text: &str, redaction: &Redaction, mapping: &Mapping) -> Option<String> {
    if text.starts_with(['{', '['])
        && let Ok(whole) = serde_json::from_str::<Json>(text)
    {
        // JSON in a text: written anew only where a secret was in it.
        let mut inner = whole.clone();
        take_secrets_out(&mut inner, redaction, mapping);
        return (inner != whole).then(|| inner.to_string());
    }
    if is_sql(text) {
        return Some(Statement::analyse(text.as_bytes(), System::Other, redaction, &mapping.limits).text().sql);
    }
    (text.contains('?') && text.contains('=')).then(|| without_secrets(text, redaction))
}

fn is_sql(text: &str) -> bool {
    let word = text.trim_start().split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
    ["select", "insert", "update", "delete", "replace", "with", "merge", "alter", "create", "set", "call", "grant"]
        .iter()
        .any(|verb| word.eq_ignore_ascii_case(verb))
}

/// An address without the values of parameters that are secrets.
fn without_secrets(url: &str, redaction: &Redaction) -> String {
    let Some((path, query)) = url.split_once('?') else { return url.to_owned() };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if redaction.is_sensitive(name) => format!("{name}=[redacted]"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", shown.collect::<Vec<_>>().join("&"))
}

/// The text of it; what is over the limit is cut, the longest entry first, and marked with its length and hash.
fn bounded(mut extra: Json) -> String {
    loop {
        let text = extra.to_string();
        if text.len() <= EXTRA_BYTES_MAX {
            return text;
        }
        let Json::Object(entries) = &mut extra else { return cut(&text).to_string() };
        let longest = entries.values_mut().map(|value| (value.to_string(), value)).max_by_key(|(text, _)| text.len());
        match longest {
            Some((whole, value)) if whole.len() > 2 * HEAD_BYTES => *value = cut(&whole),
            _ => return json!({"$cut": cut(&text)}).to_string(),
        }
    }
}

fn cut(whole: &str) -> Json {
    let head = cut_at_char_boundary(whole, HEAD_BYTES);
    json!({"type": "json", "len": whole.len(), "sha256": hex(&Sha256::digest(whole)), "head": head})
}
