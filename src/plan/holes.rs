//! Engines, and what they work with, whose known holes let somebody out of a container or past its limits.
//!
//! Each row names the advisory that says from which version on it is mended; only what concerns containers as they are run and
//! built here is listed.

use std::collections::BTreeMap;

/// A version: three numbers, and whether it is the release or one that came before it.
type Version = ([u32; 3], Stage);

/// A release candidate comes before its release; of two, the number decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Before(u32),
    Released,
}

/// A hole: the component, its names, the version that brought it, and those that mend it, one for each branch.
struct Hole {
    component: &'static str,
    names: &'static str,
    since: &'static str,
    mended: &'static [&'static str],
    /// It is one of engines with authorization plugins alone.
    authorization: bool,
}

const fn hole(component: &'static str, names: &'static str, mended: &'static [&'static str]) -> Hole {
    Hole { component, names, since: "0", mended, authorization: false }
}

/// What an engine calls itself among its components.
pub const ENGINE: &str = "engine";

const HOLES: [Hole; 8] = [
    // https://github.com/opencontainers/runc/security/advisories/GHSA-xr7r-f8xq-vfvv
    hole("runc", "CVE-2024-21626", &["1.1.12"]),
    // https://github.com/opencontainers/runc/releases/tag/v1.2.8: "full container breakouts", of all versions before
    hole("runc", "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881", &["1.2.8", "1.3.3", "1.4.0-rc.3"]),
    // https://github.com/containerd/containerd/security/advisories/GHSA-265r-hfxg-fhmg: a user that is root after all
    hole("containerd", "CVE-2024-40635", &["1.6.38", "1.7.27", "2.0.4"]),
    // https://nvd.nist.gov/vuln/detail/CVE-2026-46680: the same by another way, that mending the first one brought
    Hole { since: "1.7.27", ..hole("containerd", "CVE-2026-46680", &["1.7.32", "2.0.9", "2.2.4", "2.3.1"]) },
    // https://github.com/moby/moby/security/advisories/GHSA-xw73-rw38-6vjc: the classic builder takes a stranger's image for a step's
    hole(ENGINE, "CVE-2024-24557", &["23.0.10", "24.0.9", "25.0.2"]),
    // https://github.com/moby/moby/security/advisories/GHSA-mq39-4gv4-mvpx: names are asked for on networks that lead nowhere
    hole(ENGINE, "CVE-2024-29018", &["23.0.11", "25.0.5", "26.0.0-rc3"]),
    // https://github.com/moby/moby/security/advisories/GHSA-v23v-6jw2-98fq: authorization plugins are passed by
    Hole { authorization: true, ..hole(ENGINE, "CVE-2024-41110", &["23.0.15", "25.0.6", "26.1.5", "27.1.1"]) },
    // https://github.com/moby/moby/security/advisories/GHSA-x744-4wpc-v9h2: and again
    Hole { authorization: true, ..hole(ENGINE, "CVE-2026-34040", &["29.3.1"]) },
];

/// What is known of an engine's versions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Known holes, as `runc 1.1.5: CVE-…, mended in 1.1.12`.
    pub open: Vec<String>,
    /// The same of components that a distribution made, which mends older versions too.
    pub perhaps: Vec<String>,
}

/// Looks the versions of an engine and its components up; `authorization` says whether it has plugins for that.
pub fn holes(engine: &str, components: &BTreeMap<String, String>, authorization: bool) -> Findings {
    let mut found = Findings::default();
    for hole @ Hole { component, names, .. } in HOLES.iter().filter(|hole| authorization || !hole.authorization) {
        let version = if *component == ENGINE { Some(engine) } else { components.get(*component).map(String::as_str) };
        let Some((said, parsed)) = version.and_then(|v| Some((v, parse(v)?))) else { continue };
        let Some(in_branch) = unmended(parsed, hole) else { continue };
        let line = format!("{component} {said}: {names}, mended in {in_branch}");
        let list = if is_distribution(said) { &mut found.perhaps } else { &mut found.open };
        list.push(line);
    }
    found
}

/// The version to go to, where this one is older than the one of its branch.
fn unmended(version: Version, hole: &Hole) -> Option<&'static str> {
    if parse(hole.since).is_some_and(|since| version < since) {
        return None;
    }
    let branch = |v: &Version| [v.0[0], v.0[1]];
    let all: Vec<(&str, Version)> = hole.mended.iter().filter_map(|text| Some((*text, parse(text)?))).collect();
    // Its own branch decides; without one, the first that is newer: in older branches it was never mended.
    let own = all.iter().find(|(_, m)| branch(m) == branch(&version));
    let next = all.iter().find(|(_, m)| branch(m) > branch(&version));
    match own {
        Some((text, m)) => (version < *m).then_some(*text),
        None => next.map(|(text, _)| *text),
    }
}

/// Three numbers, and a candidate's: `1.4.0-rc.3`, `26.0.0-rc3`, `v1.7.27`, `1.1.5+ds1`, `20.10.24~dfsg`.
fn parse(text: &str) -> Option<Version> {
    let text = text.trim().trim_start_matches('v');
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut parts = numbers.trim_end_matches('.').split('.').map(str::parse::<u32>);
    let mut next = || parts.next().transpose().ok();
    let numbers = [next()??, next()?.unwrap_or(0), next()?.unwrap_or(0)];
    let candidate = ["-rc", "~rc", "-beta", "-alpha"].into_iter().find_map(|mark| rest.strip_prefix(mark));
    let stage = candidate.map_or(Stage::Released, |rest| {
        let digits: String = rest.trim_start_matches('.').chars().take_while(char::is_ascii_digit).collect();
        Stage::Before(digits.parse().unwrap_or(0))
    });
    Some((numbers, stage))
}

/// Whether a distribution has its mark in the version, as in `1.1.5+ds1`, `20.10.24+dfsg1` or `1.1.12-0ubuntu2`.
fn is_distribution(version: &str) -> bool {
    ["+ds", "~ds", "+dfsg", "~dfsg", "ubuntu", "+deb", "~deb", ".el", ".fc", ".amzn", "-k8s", "+azure"]
        .iter()
        .any(|mark| version.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the holes found, without words; `?` before those that a distribution may have mended.
    fn names(engine: &str, components: &[(&str, &str)]) -> Vec<String> {
        let components = components.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let Findings { open, perhaps } = holes(engine, &components, true);
        let name = |line: &String| line.split_once(": ").unwrap().1.split([',', ' ']).next().unwrap().to_owned();
        open.iter().map(name).chain(perhaps.iter().map(|line| format!("?{}", name(line)))).collect()
    }

    #[test]
    fn each_hole_is_there_before_it_was_mended_and_not_from_then_on() {
        for hole in &HOLES {
            for text in hole.mended {
                let (numbers, stage) = parse(text).unwrap();
                assert_eq!(unmended((numbers, stage), hole), None, "{} {text}", hole.component);
                let before = match (stage, numbers) {
                    (Stage::Before(n), _) => (numbers, Stage::Before(n - 1)),
                    (_, [a, b, c]) if c > 0 => ([a, b, c - 1], Stage::Released),
                    _ => (numbers, Stage::Before(1)),
                };
                assert_eq!(unmended(before, hole), Some(*text), "{} {text}", hole.component);
            }
        }
    }

    #[test]
    fn versions_are_judged_by_their_own_branch() {
        let runc = |version| names("29.3.1", &[("runc", version)]);
        let three = "CVE-2025-31133";
        for (version, found) in [
            ("1.1.11", vec!["CVE-2024-21626", three]),
            ("1.1.12", vec![three]),
            ("1.1.15", vec![three]),
            ("1.2.7", vec![three]),
            ("1.2.8", vec![]),
            ("1.3.0", vec![three]),
            ("1.3.3", vec![]),
            ("1.4.0-rc.2", vec![three]),
            ("1.4.0-rc.3", vec![]),
            ("1.4.0", vec![]),
            ("1.5.0", vec![]),
            ("1.1.5+ds1", vec!["?CVE-2024-21626", "?CVE-2025-31133"]),
            ("1.3.3-0ubuntu1~24.04.2", vec![]),
            ("a commit", vec![]),
        ] {
            assert_eq!(runc(version), found, "{version}");
        }
    }

    #[test]
    fn engines_and_containerd_as_they_call_themselves() {
        let authz = ["CVE-2024-41110", "CVE-2026-34040"];
        assert_eq!(names("29.3.1", &[("containerd", "v2.2.4"), ("runc", "1.4.3")]), Vec::<String>::new());
        assert_eq!(names("27.1.1", &[]), ["CVE-2026-34040"]);
        assert_eq!(names("27.1.0", &[]), authz);
        assert_eq!(holes("27.1.0", &BTreeMap::new(), false), Findings::default(), "where no plugin is, none is passed by");
        assert_eq!(names("25.0.3", &[])[..2], ["CVE-2024-29018", "CVE-2024-41110"]);
        assert_eq!(names("24.0.9", &[])[0], "CVE-2024-29018", "24 was not mended: what comes next is");
        assert_eq!(names("20.10.24+dfsg1", &[]).len(), 4);
        assert!(names("20.10.24+dfsg1", &[]).iter().all(|name| name.starts_with('?')));
        assert_eq!(names("29.3.1", &[("containerd", "1.7.29")]), ["CVE-2026-46680"]);
        assert_eq!(names("29.3.1", &[("containerd", "2.1.9")]), ["CVE-2026-46680"]);
        assert_eq!(names("29.3.1", &[("containerd", "1.6.20~ds1")]), ["?CVE-2024-40635"]);
        assert_eq!(names("unknown", &[]), Vec::<String>::new());
    }

    #[test]
    fn what_is_said_names_the_version_and_the_mend() {
        let found = holes("29.3.1", &BTreeMap::from([("runc".to_owned(), "1.1.11".to_owned())]), false);
        assert_eq!(found.open[0], "runc 1.1.11: CVE-2024-21626, mended in 1.1.12");
    }
}
