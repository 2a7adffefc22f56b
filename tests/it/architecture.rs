//! How the source must be built: which module may use which, how long a file may be, and that nothing is left unwired.

use crate::support::source::{Source, files};
use std::collections::{BTreeMap, BTreeSet};

/// Who may use whom. `app` is the only place that knows all parts.
const EDGES: [(&str, &[&str]); 19] = [
    ("audit", &[]),
    ("clock", &[]),
    ("fetch", &[]),
    ("image", &[]),
    ("resource", &["image"]),
    ("library", &["resource"]),
    ("devcontainer", &["resource"]),
    ("plan", &["image", "resource"]),
    ("store", &["audit", "resource"]),
    ("engine", &["image", "resource"]),
    ("proxy", &["resource"]),
    ("access", &["resource", "store", "fetch"]),
    ("mail", &["clock", "resource", "store", "access"]),
    ("api", &["audit", "clock", "resource", "plan", "store", "access", "mail"]),
    ("web", &["audit", "clock", "fetch", "resource", "store", "access", "mail", "api"]),
    ("ssh", &["audit", "resource", "access", "api"]),
    ("controllers", &["clock", "image", "resource", "plan", "engine", "proxy"]),
    ("cli", &["audit", "resource", "fetch", "library", "devcontainer"]),
    (
        "app",
        &[
            "audit",
            "clock",
            "image",
            "resource",
            "plan",
            "store",
            "engine",
            "proxy",
            "access",
            "mail",
            "api",
            "web",
            "ssh",
            "controllers",
            "cli",
        ],
    ),
];
/// Libraries only one module may name.
const ADAPTERS: [(&str, &str); 2] = [("bollard", "engine"), ("sqlx", "store")];
const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 80;

/// Where the crate's modules are named: `crate::api`, `crate::{api, store::Tx}`, and `devsanctum::app` in main.
fn named(line: &str, root: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices(root).filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_')) {
        let rest = &line[at + root.len()..];
        let first = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(group) => {
                let mut depth = 0;
                let top = group.split(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    c == ',' && depth == 0
                });
                found.extend(top.map(first));
            }
            None => found.push(first(rest)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// Multi-line `use` groups on one line, so that they can be read line by line.
fn joined(source: &Source) -> Vec<(usize, String, bool)> {
    let mut lines: Vec<(usize, String, bool)> = Vec::new();
    let mut open = false;
    for (number, line, tests) in source.code() {
        match lines.last_mut().filter(|_| open) {
            Some((_, last, _)) => last.push_str(line.trim()),
            None => lines.push((number, line.to_owned(), tests)),
        }
        let last = &lines.last().unwrap().1;
        let statement = last.trim_start().trim_start_matches("pub ").starts_with("use ");
        open = statement && !last.trim_end().ends_with(';');
    }
    lines
}

#[test]
fn modules_import_one_way_only() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let mut wrong = Vec::new();
    for source in files("src", "rs").iter().filter(|s| s.path != "src/main.rs") {
        let module = source.module();
        for (number, line, _) in joined(source) {
            for target in named(&line, "crate::").into_iter().filter(|t| t != module && allowed.contains_key(t.as_str())) {
                if !allowed.get(module).is_some_and(|edges| edges.contains(&target.as_str())) {
                    wrong.push(format!("{}:{number}: {module} may not use {target}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "change the design (docs/ARCHITECTURE.md) or the import:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_of_the_crate_is_in_the_table() {
    let library = files("src", "rs").into_iter().find(|s| s.path == "src/lib.rs").unwrap();
    let modules: BTreeSet<_> = library.text.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(modules, EDGES.iter().map(|(name, _)| *name).collect());
}

#[test]
fn main_knows_the_application_and_the_command_line_only() {
    let main = files("src", "rs").into_iter().find(|s| s.path == "src/main.rs").unwrap();
    let used: BTreeSet<_> = joined(&main).iter().flat_map(|(_, line, _)| named(line, "devsanctum::")).collect();
    assert_eq!(used, ["app", "cli"].map(String::from).into());
    assert!(main.text.lines().count() <= 60);
}

/// `super::` from a module's root is another way to write `crate::`, which the edges would not see.
#[test]
fn super_never_leaves_a_module() {
    let mut wrong = Vec::new();
    for source in files("src", "rs").iter().filter(|s| s.path != "src/main.rs" && s.path != "src/lib.rs") {
        for (number, line, tests) in source.code() {
            let chain = line.matches("super::").count();
            let together = "super::".repeat(source.depth() + usize::from(tests && !source.is_tests()));
            if chain > 0 && line.contains(&together) {
                wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "write crate:: in place of these:\n{}", wrong.join("\n"));
}

#[test]
fn only_the_adapters_name_their_libraries() {
    let mut wrong = Vec::new();
    for source in files("src", "rs") {
        for (number, line, _) in source.code() {
            for (library, owner) in ADAPTERS {
                if source.module() != owner && !named(line, &format!("{library}::")).is_empty() {
                    wrong.push(format!("{}:{number}: {library} belongs behind the port in src/{owner}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    let mut wrong = Vec::new();
    for source in files("src", "rs") {
        let unwraps = source.code().filter(|(_, line, tests)| !tests && line.contains(".unwrap()"));
        wrong.extend(unwraps.map(|(number, ..)| format!("{}:{number}", source.path)));
    }
    assert!(wrong.is_empty(), "return an error, or expect(\"why it cannot fail\"):\n{}", wrong.join("\n"));
}

fn quantile(sorted: &[usize], of: f64) -> usize {
    sorted[((sorted.len() - 1) as f64 * of) as usize]
}

fn report(what: &str, mut lengths: Vec<usize>) {
    lengths.sort_unstable();
    let [median, p90, most] = [0.5, 0.9, 1.0].map(|q| quantile(&lengths, q));
    println!("{what}: {}, lines: median {median}, 90 % up to {p90}, longest {most}", lengths.len());
}

#[test]
fn files_stay_short() {
    let all = files("src", "rs").into_iter().chain(files("tests", "rs"));
    let lengths: Vec<(usize, String)> = all.map(|s| (s.text.lines().count(), s.path)).collect();
    report("files", lengths.iter().map(|(n, _)| *n).collect());
    let long: Vec<_> = lengths.iter().filter(|(n, _)| *n > LONGEST_FILE).collect();
    assert!(long.is_empty(), "more than {LONGEST_FILE} lines, split them: {long:?}");
}

/// rustfmt puts the closing brace of a function under its `fn`, which is all this needs to know.
fn functions(source: &Source) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let starts = |line: &str| {
        let words = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(super) ").trim_start_matches("async ");
        words.starts_with("fn ") && !line.trim_end().ends_with([';', '}'])
    };
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, l)| starts(l)) {
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let long = lines[at..].iter().position(|l| *l == end);
        found.extend(long.map(|n| (at + 1, n + 1)));
    }
    found
}

#[test]
fn functions_stay_short() {
    let mut lengths = Vec::new();
    let mut long = Vec::new();
    for source in files("src", "rs") {
        for (line, length) in functions(&source) {
            lengths.push(length);
            if length > LONGEST_FUNCTION {
                long.push(format!("{}:{line}: {length} lines", source.path));
            }
        }
    }
    report("functions", lengths);
    assert!(long.is_empty(), "more than {LONGEST_FUNCTION} lines, split them:\n{}", long.join("\n"));
}

#[test]
fn every_loop_is_run() {
    let sources = files("src/controllers", "rs");
    let wiring = &sources.iter().find(|s| s.path == "src/controllers/mod.rs").unwrap().text;
    let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let is_name = |line: &&str| line.trim_start().starts_with("const NAME: &'static str = ");
    let names: Vec<String> = sources.iter().flat_map(|s| s.text.lines().filter(is_name)).filter_map(quoted).collect();
    assert!(names.len() >= 6, "{names:?}");
    // It needs mail, which the others do not, and is run beside them.
    let posting = std::fs::read_to_string(crate::support::source::root().join("src/app/post.rs")).unwrap();
    assert!(posting.contains("controllers::invitations("));
    for name in names.iter().filter(|name| *name != "invitation") {
        assert!(wiring.contains(&format!("(\"{name}\", Box::pin(skeleton::run(")), "controllers::run does not run {name}");
    }
    let status = &sources.iter().find(|s| s.path == "src/controllers/status.rs").unwrap().text;
    let table = status.split("records! {").nth(1).unwrap().split('}').next().unwrap();
    assert_eq!(table.matches(';').count(), names.len(), "a kind is set up for a loop and has none, or the reverse");
}
