//! Mistakes made with the proxy.

use super::Bug;
use devsanctum::proxy::RouteTable;
use devsanctum::resource::common::Visibility;

/// The table as the mistake has it; `before` is what was published last.
pub fn table(bug: Bug, before: &RouteTable, table: &RouteTable) -> RouteTable {
    let mut wrong = table.clone();
    match bug {
        Bug::KeepsRoutes => {
            for (uid, entry) in &before.0 {
                wrong.0.entry(uid.clone()).or_insert(entry.clone());
            }
        }
        Bug::OpensPrivate => wrong.0.values_mut().for_each(|entry| entry.visibility = Visibility::Public),
        _ => {}
    }
    wrong
}
