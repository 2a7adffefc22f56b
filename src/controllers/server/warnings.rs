//! What works today and may not tomorrow: certificates that end soon, engines with known holes. `Ready` depends on neither.

use crate::controllers::context::Context;
use crate::controllers::status::Pass;
use crate::engine::EngineInfo;
use crate::plan::holes::{Findings, holes};
use crate::resource::conditions::{condition, find};
use crate::resource::{DockerServer, DockerServerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

const CURRENT: &str = "CertificatesCurrent";
const PATCHED: &str = "Patched";
/// Time enough to make new ones.
const SOON: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Says so in the pass; with an event where it is news.
pub fn warn(ctx: &Context, record: &DockerServer, info: &EngineInfo, pass: &mut Pass<DockerServerStatus>) {
    let ends = info.certificate_ends.and_then(|at| Timestamp::from_second(at).ok());
    pass.status.certificate_expires_at = ends.map(|at| at.to_string());
    let said = record.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    // Without TLS nothing is said, but what was said while there was one is taken back.
    let certificates = match ends {
        Some(at) => Some(certificates(at, pass.now)),
        None => find(said, CURRENT).map(|_| condition(CURRENT, true, "NotUsed", "")),
    };
    for found in certificates.into_iter().chain([patched(holes(&info.version, &info.components, info.authorization))]) {
        let known = find(said, &found.type_).is_some_and(|c| c.status == found.status && c.message == found.message);
        if found.status == "False" && !known {
            crate::controllers::events::tell(&ctx.frame, record, true, &found.reason, found.message.clone());
        }
        pass.notice(found);
    }
}

fn certificates(ends: Timestamp, now: Timestamp) -> Condition {
    if ends.duration_since(now) > SOON {
        return condition(CURRENT, true, "Current", "");
    }
    let message = format!(
        "a certificate of the engine's, of ours or of an authority in the Secret ends on {ends}: nothing on this server can be worked with \
         from then on. Make new ones (`devsanctum server certs`; it says where the authority itself is at its end), set the host up with \
         them, and add the server again"
    );
    condition(CURRENT, false, "ExpiresSoon", message)
}

fn patched(found: Findings) -> Condition {
    if !found.open.is_empty() {
        let all: Vec<String> = found.open.into_iter().chain(found.perhaps).collect();
        let message = format!("the host runs versions with known holes; upgrade it. {}", all.join("; "));
        return condition(PATCHED, false, "KnownHoles", message);
    }
    if found.perhaps.is_empty() {
        return condition(PATCHED, true, "NoneKnown", "");
    }
    let message = format!(
        "these versions had holes, and a distribution may have mended them in its own: see its list of security updates. {}",
        found.perhaps.join("; ")
    );
    Condition { status: "Unknown".into(), ..condition(PATCHED, false, "DistributionDecides", message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_for_its_last_thirty_days() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |days: i64| certificates(now + SignedDuration::from_hours(24 * days), now);
        assert_eq!((after(31).status.as_str(), after(31).reason.as_str()), ("True", "Current"));
        let soon = after(29);
        assert_eq!((soon.status.as_str(), soon.reason.as_str()), ("False", "ExpiresSoon"));
        assert!(soon.message.contains("2026-01-30T00:00:00Z") && soon.message.contains("server certs"), "{}", soon.message);
        assert_eq!(after(-1).reason, "ExpiresSoon");
    }

    #[test]
    fn a_known_hole_is_false_and_one_that_a_distribution_may_have_mended_is_unknown() {
        let of = |open: &[&str], perhaps: &[&str]| {
            let own = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect();
            let c = patched(Findings { open: own(open), perhaps: own(perhaps) });
            (c.status, c.reason, c.message)
        };
        assert_eq!(of(&[], &[]).0, "True");
        let (status, reason, message) = of(&["runc 1.1.0: A"], &["engine 20.10: B"]);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "KnownHoles"));
        assert!(message.contains("runc 1.1.0: A; engine 20.10: B"), "{message}");
        assert_eq!(of(&[], &["x"]).0, "Unknown");
    }
}
