//! What the README tells to write is what the example does, and the example compiles.

#[test]
fn the_lines_of_the_readme_are_those_of_the_example() {
    let readme = include_str!("../../../../README.md");
    let example = include_str!("../../examples/axum_sqlx.rs");
    let (_, rest) = readme.split_once("```rust\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let code = |line: &'static str| line.split("  //").next().unwrap_or(line).trim();
    let lines: Vec<&str> = block.lines().map(code).filter(|line| !line.is_empty()).collect();
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        assert!(example.lines().any(|there| there.trim() == line), "the example lacks {line:?}");
    }
}
