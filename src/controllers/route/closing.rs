//! Addresses that were public and are not any more: what was opened there is to end. Pure.

use crate::proxy::{LiveRoutes, RouteTable, Spot};
use crate::resource::common::Visibility;
use std::collections::BTreeMap;

/// Those whose end the proxy has not taken up yet, with the uid of the route that led there.
#[derive(Debug, Default)]
pub struct Closing {
    due: BTreeMap<Spot, String>,
    /// Closed since the proxy was asked last: its answer may be about the table before.
    since: BTreeMap<Spot, String>,
}

fn public(table: &RouteTable) -> impl Iterator<Item = (Spot, &String)> {
    table.0.iter().filter(|(_, entry)| entry.visibility == Visibility::Public).map(|(uid, entry)| (entry.spot(), uid))
}

impl Closing {
    /// Notes what is closed by another table. What is public again is not.
    pub fn note(&mut self, before: &RouteTable, now: &RouteTable) {
        self.since.extend(public(before).map(|(spot, uid)| (spot, uid.clone())));
        for (spot, _) in public(now) {
            self.due.remove(&spot);
            self.since.remove(&spot);
        }
    }

    /// The proxy is asked now: what it says is about all that was told until now.
    pub fn asks(&mut self) {
        self.due.append(&mut self.since);
    }

    /// Takes those, closed before the proxy was asked, whose route it holds as it was told last, or does not serve: it holds none, or
    /// says what is wrong with it.
    pub fn taken(&mut self, live: &LiveRoutes) -> BTreeMap<Spot, String> {
        let is_taken = |uid: &String| live.0.get(uid).is_none_or(|held| held.current || !held.error.is_empty());
        self.due.extract_if(.., |_, uid| is_taken(uid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{LiveRoute, RouteEntry};
    use crate::resource::common::Protocol;
    use std::net::SocketAddr;

    fn table(entries: &[(&str, u8, Visibility)]) -> RouteTable {
        let entry = |(uid, last, visibility): &(&str, u8, Visibility)| {
            let (host, upstream) = (format!("{uid}.localhost"), ([10, 0, 0, *last], 80).into());
            let entry = RouteEntry {
                host,
                upstream,
                protocol: Protocol::Http,
                visibility: *visibility,
                workspace_uid: "w".into(),
                way: None,
            };
            ((*uid).to_owned(), entry)
        };
        RouteTable(entries.iter().map(entry).collect())
    }

    fn live(all: &[(&str, bool)]) -> LiveRoutes {
        LiveRoutes(
            all.iter().map(|(uid, current)| ((*uid).to_owned(), LiveRoute { current: *current, error: String::new() })).collect(),
        )
    }

    #[test]
    fn what_was_public_closes_once_the_proxy_has_taken_up_that_it_is_not() {
        use Visibility::{Private, Public};
        let open = table(&[("a", 1, Public), ("b", 2, Public), ("c", 3, Private)]);
        let one = |last: u8, uid: &str| BTreeMap::from([((None, SocketAddr::from(([10, 0, 0, last], 80))), uid.to_owned())]);
        for (now, held, closed) in [
            (
                table(&[("a", 1, Private), ("b", 2, Public), ("c", 3, Private)]),
                live(&[("a", true), ("b", true), ("c", true)]),
                one(1, "a"),
            ),
            // It leads elsewhere.
            (table(&[("a", 9, Public), ("b", 2, Public)]), live(&[("a", true), ("b", true)]), one(1, "a")),
            // It is gone.
            (table(&[("b", 2, Public)]), live(&[("b", true)]), one(1, "a")),
            // Another public route leads there.
            (table(&[("a", 1, Private), ("b", 2, Public), ("d", 1, Public)]), live(&[("a", true), ("b", true)]), BTreeMap::new()),
        ] {
            let mut closing = Closing::default();
            closing.note(&open, &now);
            assert_eq!(closing.taken(&held), BTreeMap::new(), "the answer may be about the table before");
            closing.asks();
            assert_eq!(closing.taken(&live(&[("a", false), ("b", true)])), BTreeMap::new(), "not yet");
            assert_eq!(closing.taken(&held), closed);
            assert_eq!(closing.taken(&held), BTreeMap::new(), "once");
        }
        // It is refused, and not served.
        let mut closing = Closing::default();
        closing.note(&open, &table(&[("a", 1, Private), ("b", 2, Public)]));
        closing.asks();
        let refused = LiveRoute { current: false, error: "two routes claim the host".into() };
        assert_eq!(closing.taken(&LiveRoutes([("a".to_owned(), refused)].into())), one(1, "a"));
        let mut closing = Closing::default();
        let shut = table(&[("a", 1, Private), ("b", 2, Public)]);
        closing.note(&open, &shut);
        closing.asks();
        closing.note(&shut, &open);
        assert_eq!(closing.taken(&live(&[("a", true), ("b", true)])), BTreeMap::new(), "it is public again");
    }
}
