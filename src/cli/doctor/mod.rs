//! `doctor`: everything the control plane needs, looked at one by one; each verdict with its mend.

mod api;
mod engine;
mod host;

use super::args::{DoctorArgs, Globals};
use super::failure::{FAILED, Failure};
use super::ui::{self, Tone, Ui, clean};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As needed.
    Good,
    /// Works, but look at it.
    Fair,
    /// Must be mended.
    Bad,
}

/// One thing looked at.
#[derive(Debug)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing.
    pub mend: String,
}

impl Check {
    /// As needed.
    pub fn good(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Good, found: found.into(), mend: String::new() }
    }
    /// Works, but look at it.
    pub fn fair(name: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Fair, found: found.into(), mend: mend.into() }
    }
    /// Must be mended.
    pub fn bad(name: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Bad, found: found.into(), mend: mend.into() }
    }

    fn line(&self, ui: Ui) -> String {
        let (word, tone) = match self.verdict {
            Verdict::Good => ("ok  ", Tone::Good),
            Verdict::Fair => ("look", Tone::Fair),
            Verdict::Bad => ("BAD ", Tone::Bad),
        };
        let mend = if self.mend.is_empty() { String::new() } else { format!("\n      mend: {}", clean(&self.mend)) };
        format!("{}  {}: {}{mend}", ui.paint(tone, word), clean(&self.name), clean(&self.found))
    }
}

/// Runs `doctor`.
///
/// # Errors
/// With the exit code 1 when anything is bad.
pub async fn run(globals: &Globals, args: DoctorArgs) -> Result<(), Failure> {
    let ui = Ui::new(globals.color);
    let (api, client) = api::check(globals).await;
    let up = client.is_some();
    let mut checks = engine::check(&args, client.as_ref()).await;
    let state = super::state_dir(globals);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    checks.push(host::traefik(&args.traefik.unwrap_or_else(|| host::find_traefik(&paths, &state))).await);
    checks.extend(args.ports.iter().map(|port| host::port(*port, up)));
    checks.extend(host::state(&state));
    checks.extend(host::kernel().await);
    checks.extend(api);
    let lines: Vec<String> = checks.iter().map(|c| c.line(ui)).collect();
    ui::say(&lines.join("\n"))?;
    let bad = checks.iter().filter(|c| c.verdict == Verdict::Bad).count();
    match bad {
        0 => ui::say("\neverything needed is there"),
        _ => {
            ui::say(&format!("\n{bad} to mend"))?;
            Err(Failure::silent(FAILED))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_check_names_its_mend() {
        let line = Check::bad("traefik", "not found", "install it").line(Ui { color: false });
        assert_eq!(line, "BAD   traefik: not found\n      mend: install it");
        assert_eq!(Check::good("x", "y").line(Ui { color: false }), "ok    x: y");
    }
}
