use auditq::Recorder;

use crate::support::small_config;

#[test]
fn a_folder_that_is_a_file_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "").unwrap();
    let message = Recorder::open(&small_config(&path)).unwrap_err().to_string();
    assert!(message.contains("AUDITQ_SPOOL_DIR") && message.contains("file"), "{message}");
}

#[test]
fn a_missing_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    Recorder::open(&small_config(&path)).unwrap();
    assert!(path.join("redaction.key").exists());
}

#[test]
fn two_recorders_share_a_folder_and_hash_a_session_alike() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_config(folder.path());
    let (one, two) = (Recorder::open(&config).unwrap(), Recorder::open(&config).unwrap());
    assert_eq!(one.session_hash("s-1"), two.session_hash("s-1"));
    assert_ne!(one.session_hash("s-1"), one.session_hash("s-2"));
}

#[test]
fn a_setting_out_of_range_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = small_config(folder.path());
    config.spool.segment_bytes = 100;
    let message = Recorder::open(&config).unwrap_err().to_string();
    assert!(message.contains("segment_bytes"), "{message}");
}
