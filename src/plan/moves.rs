//! What is to become of a workspace that is asked to be on another server.

use crate::resource::{MoveStatus, MoveStep};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<'a> {
    /// Nothing, but what is done for any workspace where it is.
    Stay,
    /// Begin to move there.
    Begin(&'a str),
    /// Go on carrying.
    GoOn,
    /// Give the move up: what there is of it goes, and the workspace goes on where it was.
    GoBack,
}

/// What a workspace that is `here` does, of which `asked` is where it should be.
///
/// Until it was started there, it goes back when nobody asks for that server any more; from then on only when it is asked for
/// where it was, for work may have been done; and no more once it has answered.
pub fn turn<'a>(here: &str, asked: Option<&'a str>, under_way: Option<&MoveStatus>) -> Turn<'a> {
    let Some(it) = under_way else {
        return asked.filter(|to| *to != here).map_or(Turn::Stay, Turn::Begin);
    };
    match it.step {
        MoveStep::Stopping | MoveStep::Copying if asked == Some(it.to.as_str()) => Turn::GoOn,
        MoveStep::Stopping | MoveStep::Copying => Turn::GoBack,
        MoveStep::Starting if asked == Some(it.from.as_str()) => Turn::GoBack,
        MoveStep::Starting | MoveStep::Removing => Turn::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: MoveStep) -> MoveStatus {
        MoveStatus { from: "a".into(), to: "b".into(), step, ..MoveStatus::default() }
    }

    #[test]
    fn one_that_is_where_it_should_be_stays() {
        assert_eq!(turn("a", None, None), Turn::Stay);
        assert_eq!(turn("a", Some("a"), None), Turn::Stay);
        assert_eq!(turn("a", Some("b"), None), Turn::Begin("b"));
    }

    #[test]
    fn it_goes_back_for_as_long_as_nothing_is_lost_by_it() {
        for step in [MoveStep::Stopping, MoveStep::Copying] {
            assert_eq!(turn("a", Some("b"), Some(&at(step))), Turn::GoOn);
            for asked in [None, Some("a"), Some("c")] {
                assert_eq!(turn("a", asked, Some(&at(step))), Turn::GoBack, "{step:?} {asked:?}");
            }
        }
        assert_eq!(turn("b", Some("a"), Some(&at(MoveStep::Starting))), Turn::GoBack);
        for asked in [None, Some("b"), Some("c")] {
            assert_eq!(turn("b", asked, Some(&at(MoveStep::Starting))), Turn::Stay, "{asked:?}");
        }
        for asked in [None, Some("a"), Some("b"), Some("c")] {
            assert_eq!(turn("b", asked, Some(&at(MoveStep::Removing))), Turn::Stay, "{asked:?}");
        }
    }
}
