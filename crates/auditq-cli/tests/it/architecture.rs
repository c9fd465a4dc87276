//! The table of crates in docs/ARCHITECTURE.md against the crates that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

type Imports = BTreeMap<String, BTreeSet<String>>;

/// What each crate of `crates/` depends on, of ours, tests left out.
fn actual(root: &Path) -> Imports {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let crates = root.join("crates").canonicalize().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let ours = packages.filter(|package| Path::new(package["manifest_path"].as_str().unwrap()).starts_with(&crates));
    ours.map(|package| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let built = dependencies.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        let names = built.map(|dependency| dependency["name"].as_str().unwrap().to_owned());
        let names = names.filter(|name| name == "auditq" || name.starts_with("auditq-")).collect();
        (package["name"].as_str().unwrap().to_owned(), names)
    })
    .collect()
}

/// What the table allows each crate; `None` is everything.
fn allowed(text: &str) -> BTreeMap<String, Option<BTreeSet<String>>> {
    let (_, table) = text.split_once("## Crates").unwrap();
    let rows = table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = rows.skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let mut allowed = BTreeMap::new();
    for cells in cells {
        let imports = match cells[2] {
            "all" => None,
            "–" => Some(BTreeSet::new()),
            names => Some(names.split(", ").map(full_name).collect()),
        };
        for name in cells[0].split(", ") {
            let name = name.trim_matches('`');
            // `auditq-sqlx`, `-diesel` share a row.
            let name = if name.starts_with('-') { format!("auditq{name}") } else { name.to_owned() };
            allowed.insert(name, imports.clone());
        }
    }
    allowed
}

fn full_name(short: &str) -> String {
    if short == "auditq" { short.to_owned() } else { format!("auditq-{short}") }
}

#[test]
fn each_crate_is_in_the_table_and_imports_what_the_table_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = allowed(&std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap());
    let crates = actual(&root);
    assert!(crates.len() > 5, "{crates:?}");
    assert_eq!(table.keys().collect::<Vec<_>>(), crates.keys().collect::<Vec<_>>(), "table and crates");
    for (name, imports) in &crates {
        if let Some(allowed) = &table[name] {
            let beyond: Vec<_> = imports.difference(allowed).collect();
            assert!(beyond.is_empty(), "{name} imports {beyond:?}, which docs/ARCHITECTURE.md does not allow");
            let unused: Vec<_> = allowed.difference(imports).collect();
            assert!(unused.is_empty(), "docs/ARCHITECTURE.md lets {name} import {unused:?}, which it does not");
        }
    }
}
