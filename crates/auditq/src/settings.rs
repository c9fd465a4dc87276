//! From the configuration to what its parts take.

use auditq_config::{Capture, Config};
use auditq_event::{BindingPolicy, Limits, Literals, ProducerLabel, Redaction};
use auditq_spool::{Durability, Options, WhenFull};

pub(crate) fn limits(capture: &Capture) -> Limits {
    let auditq_config::Limits {
        sql_bytes,
        binding_bytes,
        bindings_bytes,
        bindings_count,
        error_bytes,
        user_agent_bytes,
    } = capture.limits;
    Limits {
        sql_bytes,
        binding_bytes,
        bindings_bytes,
        bindings_count,
        error_bytes,
        user_agent_bytes,
        ..Limits::default()
    }
}

pub(crate) fn redaction(capture: &Capture, key: [u8; 32]) -> Redaction {
    let redact = &capture.redact;
    let kept = auditq_event::DEFAULT_NAMES.iter().filter(|name| !redact.except.iter().any(|except| except == *name));
    Redaction::new(key)
        .with_names(kept)
        .with_more_names(&redact.names)
        .with_literals(match redact.literals {
            auditq_config::Literals::Sensitive => Literals::Sensitive,
            auditq_config::Literals::All => Literals::All,
            auditq_config::Literals::None => Literals::None,
        })
        .with_bindings(if redact.all_bindings { BindingPolicy::RedactAll } else { BindingPolicy::Keep })
}

pub(crate) fn spool(config: &Config) -> Options {
    Options {
        segment_bytes: config.spool.segment_bytes,
        max_bytes: config.spool.max_bytes,
        durability: match config.spool.durability {
            auditq_config::Durability::Process => Durability::ProcessCrash,
            auditq_config::Durability::Fsync => Durability::PowerLoss,
        },
        when_full: match config.spool.when_full {
            auditq_config::WhenFull::Block => WhenFull::Block,
            auditq_config::WhenFull::DropNewest => WhenFull::DropNewest,
        },
        label: label(&config.capture).encode(),
        ..Options::default()
    }
}

/// The spool itself draws the producer's id and names its folder by it, so the label leaves it open.
fn label(capture: &Capture) -> ProducerLabel {
    let cut = |text: String| auditq_event::cut_at_char_boundary(&text, 256).to_owned();
    ProducerLabel {
        producer_id: [0; 16],
        app: capture.app.clone().or_else(program).map(cut),
        host: host().map(cut),
        pid: Some(std::process::id()),
    }
}

fn program() -> Option<String> {
    Some(std::env::current_exe().ok()?.file_stem()?.to_string_lossy().into_owned())
}

/// The kernel's own word first: a container's `HOSTNAME` is not always exported.
fn host() -> Option<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
