//! The names of keys: Laravel's own, and ours beside them.
//!
//! In a cluster all keys that one script touches must be in one slot, which the text between the first braces of a key
//! decides. A queue named `{audit-logs}` has it in all of its keys; what several queues share is kept once for each
//! such tag, and under a tag of its own for all queues without one.

use crate::QueueName;

/// Stands for the tag of queues that have none, so that what they share can be listed in a cluster too.
pub(super) const NO_TAG: &str = "auditq";

/// Makes the names of keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// The keys of one queue.
#[derive(Clone, Debug)]
pub(super) struct QueueKeys {
    pub(super) list: String,
    pub(super) delayed: String,
    pub(super) reserved: String,
    pub(super) notify: String,
    /// Which messages are reserved by this driver, and until when: claims (handle and attempt) by score.
    pub(super) held: String,
    /// The failed messages of this queue: ids by number.
    pub(super) failed: String,
    pub(super) shared: SharedKeys,
}

/// The keys that queues with the same hash tag share.
#[derive(Clone, Debug)]
pub(super) struct SharedKeys {
    pub(super) tag: String,
    /// The ids of messages that wait or are reserved.
    pub(super) ids: String,
    /// Counts pushes.
    pub(super) seq: String,
    /// The names of queues that were used.
    pub(super) queues: String,
    pub(super) paused: String,
    /// What is known of failed messages, by id.
    pub(super) failed: String,
    pub(super) payloads: String,
    /// All failed messages: ids by number.
    pub(super) all_failed: String,
    pub(super) last_failed: String,
    /// Failed messages that are put back from a table, and may still be in it too.
    pub(super) returning: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn of(&self, queue: &QueueName) -> QueueKeys {
        let (prefix, name) = (&self.prefix, queue.as_str());
        let list = format!("{prefix}queues:{name}");
        QueueKeys {
            delayed: format!("{list}:delayed"),
            reserved: format!("{list}:reserved"),
            notify: format!("{list}:notify"),
            held: format!("{prefix}auditq:held:{name}"),
            failed: format!("{prefix}auditq:failed-of:{name}"),
            shared: self.shared(self.tag_of(name)),
            list,
        }
    }

    /// The keys shared by the queues with this tag.
    pub(super) fn shared(&self, tag: &str) -> SharedKeys {
        let key = |what: &str| format!("{}auditq:{{{tag}}}:{what}", self.prefix);
        SharedKeys {
            tag: tag.to_owned(),
            ids: key("ids"),
            seq: key("pushes"),
            queues: key("queues"),
            paused: key("paused"),
            failed: key("failed"),
            payloads: key("failed-payloads"),
            all_failed: key("failed-all"),
            last_failed: key("failed-last"),
            returning: key("returning"),
        }
    }

    /// Which tags are in use.
    pub(super) fn tags(&self) -> String {
        format!("{}auditq:tags", self.prefix)
    }

    /// How many restarts were asked for.
    pub(super) fn restarts(&self) -> String {
        format!("{}auditq:restarts", self.prefix)
    }

    /// The hash tag that a queue's name puts into its keys, unless the prefix has one, which is all keys' then.
    fn tag_of<'n>(&self, name: &'n str) -> &'n str {
        if hash_tag(&self.prefix).is_some() { NO_TAG } else { hash_tag(name).unwrap_or(NO_TAG) }
    }
}

/// What is hashed of a key instead of all of it: the text between its first `{` and the next `}`, unless it is empty.
fn hash_tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(prefix: &str, queue: &str) -> Vec<String> {
        let keys = Keys::new(prefix).of(&QueueName::new(queue).unwrap());
        let shared = keys.shared;
        vec![
            keys.list,
            keys.delayed,
            keys.reserved,
            keys.notify,
            keys.held,
            keys.failed,
            shared.ids,
            shared.seq,
            shared.queues,
            shared.paused,
            shared.failed,
            shared.payloads,
            shared.all_failed,
            shared.last_failed,
            shared.returning,
        ]
    }

    #[test]
    fn laravels_keys_are_named_as_laravel_names_them() {
        let keys = all("laravel_database_", "audit-logs");
        let expected =
            ["", ":delayed", ":reserved", ":notify"].map(|end| format!("laravel_database_queues:audit-logs{end}"));
        assert_eq!(keys[..4], expected);
    }

    #[test]
    fn all_keys_of_a_tagged_queue_have_its_tag() {
        for key in all("laravel_database_", "{audit-logs}").iter().chain(&all("app-", "mail{audit-logs}high")) {
            assert_eq!(hash_tag(key), Some("audit-logs"), "{key}");
        }
        for key in all("{app}", "{audit-logs}") {
            assert_eq!(hash_tag(&key), Some("app"), "{key}");
        }
    }

    #[test]
    fn no_two_keys_are_the_same() {
        let mut keys = all("", "a");
        keys.extend(all("", "{a}"));
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn a_tag_is_what_redis_takes_for_one() {
        for (key, tag) in [("{a}b", Some("a")), ("a{b}{c}", Some("b")), ("{}{a}", None), ("{a", None), ("a}b", None)] {
            assert_eq!(hash_tag(key), tag, "{key}");
        }
    }
}
