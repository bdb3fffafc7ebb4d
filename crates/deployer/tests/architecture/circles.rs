//! No circle between the top-level modules of a crate: each can be read with those below it alone.
//!
//! What a module uses is read off its paths, `crate::…` and those of `super::` that leave it. The root of a crate
//! declares its modules and re-exports what they define; it is no module, and a path through it would hide where it leads.

use std::collections::{BTreeMap, BTreeSet};

use crate::{CRATES, sources};

/// What each module uses, and the first line that does.
type Uses = BTreeMap<String, BTreeMap<String, String>>;

#[test]
fn the_modules_of_a_crate_form_no_circle() {
    for krate in CRATES {
        let uses = uses(sources(krate));
        if let Some(circle) = circle(&uses) {
            panic!("modules of {krate} use each other in a circle:\n{}", told(&uses, &circle));
        }
    }
}

fn uses(sources: Vec<(String, String)>) -> Uses {
    let mut uses: Uses = sources.iter().filter_map(|(file, _)| Some((room(file)?.0, BTreeMap::new()))).collect();
    for (file, code) in sources {
        let Some((module, depth)) = room(&file) else { continue };
        for (number, names) in used(&code, depth) {
            let line = code.lines().nth(number).unwrap_or_default().trim();
            for name in names.into_iter().filter(|name| *name != module) {
                let place = format!("{file}:{}: {line}", number + 1);
                assert!(uses.contains_key(&name), "{place}\n{name} is no module: name the one that defines it");
                uses.entry(module.clone()).or_default().entry(name).or_insert(place);
            }
        }
    }
    uses
}

/// The top-level module of a file, and how deep in the tree of modules the file is; `None` for a root.
fn room(file: &str) -> Option<(String, usize)> {
    let (_, path) = file.split_once("/src/").expect("a source file");
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let (top, _) = path.split_once('/').unwrap_or((path, ""));
    (!matches!(top, "lib" | "main")).then(|| (top.to_owned(), path.split('/').count()))
}

/// The names below the root that a file's paths begin with, by line, which counts from zero.
fn used(code: &str, depth: usize) -> Vec<(usize, Vec<String>)> {
    let supers = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", supers.as_str()] {
        for (at, _) in code.match_indices(root) {
            let line = code[..at].rsplit('\n').next().unwrap_or_default();
            let goes_on = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            if !line.trim_start().starts_with("//") && !line.ends_with(goes_on) {
                found.push((code[..at].matches('\n').count(), names(&code[at + root.len()..])));
            }
        }
    }
    found
}

/// The first name of a path, or of each path in braces. What is no name, such as `self` or `*`, is left out.
fn names(path: &str) -> Vec<String> {
    let first = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    match path.strip_prefix('{') {
        None => names.push(first(path)),
        Some(group) => {
            let (mut depth, mut begun) = (0, 0);
            for (at, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' | ',' if depth == 0 => {
                        names.push(first(&group[begun..at]));
                        begun = at + 1;
                        if c == '}' {
                            break;
                        }
                    }
                    '}' => depth -= 1,
                    _ => {}
                }
            }
        }
    }
    names.retain(|name| !matches!(name.as_str(), "" | "self" | "super"));
    names
}

/// The modules of a circle, in order, if there is one.
fn circle(uses: &Uses) -> Option<Vec<&str>> {
    let mut done = BTreeSet::new();
    uses.keys().find_map(|module| follow(uses, module, &mut Vec::new(), &mut done))
}

fn follow<'a>(
    uses: &'a Uses,
    module: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(begin) = path.iter().position(|passed| *passed == module) {
        return Some(path[begin..].to_vec());
    }
    if !done.contains(module) {
        path.push(module);
        let found = uses[module].keys().find_map(|next| follow(uses, next, path, done));
        if found.is_some() {
            return found;
        }
        path.pop();
        done.insert(module);
    }
    None
}

/// A circle, with the lines that make it.
fn told(uses: &Uses, circle: &[&str]) -> String {
    let next = circle.iter().cycle().skip(1);
    let lines: Vec<String> =
        circle.iter().zip(next).map(|(module, next)| format!("{module} -> {next}  {}", uses[*module][*next])).collect();
    lines.join("\n")
}

#[test]
fn a_circle_is_found_and_told_with_its_lines() {
    let found = |files: &[(&str, &str)]| {
        let uses = uses(files.iter().map(|(file, code)| (format!("a/src/{file}"), (*code).to_owned())).collect());
        circle(&uses).map(|circle| told(&uses, &circle))
    };
    assert_eq!(found(&[("lib.rs", "mod a;\nmod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "// crate::a\n")]), None);
    for back in [
        ("b.rs", "\nuse crate::a;"),
        ("b/mod.rs", "\nuse super::a;"),
        ("b/c.rs", "\nuse super::super::a;"),
        ("b.rs", "\nuse crate::{c::{a, C}, a};"),
        ("b.rs", "\nfn b() -> crate::a::A {}"),
    ] {
        let files = [("a.rs", "use crate::c::C;"), back, ("c.rs", "use super::{\n    b::B,\n};")];
        let told = found(&files).expect("a circle");
        let expected = format!(
            "a -> c  a/src/a.rs:1: use crate::c::C;\nc -> b  a/src/c.rs:1: use super::{{\nb -> a  a/src/{}:2: {}",
            back.0,
            back.1.trim()
        );
        assert_eq!(told, expected);
    }
}
