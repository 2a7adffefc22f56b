//! What may be typed about the audit log.

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

/// `audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show who did what, the newest first
    List(Box<ListAuditArgs>),
    /// Find out whether rows were altered or removed; the exit code is 1 when they were
    Verify(VerifyAuditArgs),
    /// Cut the oldest rows; the rest still verifies, and a row says that it was done
    Prune(PruneAuditArgs),
}

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AuditFormat {
    /// For people.
    #[default]
    Table,
    /// One array, with what was changed.
    Json,
    /// For spreadsheets.
    Csv,
}

/// `audit list`.
#[derive(Args, Debug)]
pub struct ListAuditArgs {
    /// Only what this user did
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Only this verb, such as delete or sign-in
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// Only what was done to this kind, such as ws, or to APIKey or Session
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only what was done to things of this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// From this moment on: 2026-01-31, 2026-01-31T12:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// allowed, refused, or a code such as 403
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,
    /// How many rows at most; 0 for all
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
    /// How to write them
    #[arg(long, short, value_enum, default_value_t)]
    pub output: AuditFormat,
}

/// `audit verify`.
#[derive(Args, Debug)]
pub struct VerifyAuditArgs {
    /// Hash that an earlier `audit verify` printed, noted elsewhere: its row must still be there
    #[arg(long, value_name = "HASH")]
    pub head: Option<String>,
}

/// `audit prune`.
#[derive(Args, Debug)]
pub struct PruneAuditArgs {
    /// Cut rows from before this moment: 2026-01-31, 2026-01-31T12:00:00Z, or 365d for a year ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub before: Timestamp,
}

/// A moment, a day, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        return day.to_zoned(jiff::tz::TimeZone::UTC).map(|at| at.timestamp()).map_err(|e| e.to_string());
    }
    let ago = humantime::parse_duration(text).map_err(|_| "must be such as 2026-01-31, 2026-01-31T12:00:00Z or 2h".to_owned())?;
    Timestamp::now().checked_sub(ago).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_days_times_and_durations() {
        assert_eq!(moment("2026-01-31").unwrap().to_string(), "2026-01-31T00:00:00Z");
        assert_eq!(moment("2026-01-31T12:00:00+01:00").unwrap().to_string(), "2026-01-31T11:00:00Z");
        assert!(moment("2h").unwrap() < Timestamp::now());
        for bad in ["", "yesterday", "2026-13-01", "99999999999y"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
