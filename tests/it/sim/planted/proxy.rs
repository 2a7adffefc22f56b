//! Mistakes made with the proxy.

use super::Bug;
use devsanctum::proxy::RouteTable;
use devsanctum::resource::common::Visibility;

/// The table as the mistake has it; `before` is what was published last, `earlier` what was there when the process began.
pub fn table(bug: Bug, earlier: &RouteTable, before: &RouteTable, table: &RouteTable) -> RouteTable {
    let mut wrong = table.clone();
    let mut keep = |kept: &RouteTable| {
        for (uid, entry) in &kept.0 {
            wrong.0.entry(uid.clone()).or_insert(entry.clone());
        }
    };
    match bug {
        Bug::KeepsRoutes => keep(before),
        Bug::KeepsEarlierRoutes => keep(earlier),
        Bug::OpensPrivate => wrong.0.values_mut().for_each(|entry| entry.visibility = Visibility::Public),
        _ => {}
    }
    wrong
}
