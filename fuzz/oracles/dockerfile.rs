//! Extra instructions: no text and no value does harm, and what is printed of them is read as what it was.

use super::input::Input;
use devsanctum::image::read;
use std::collections::BTreeMap;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let options = BTreeMap::from([("X".to_owned(), input.text(24)), ("Y".to_owned(), input.text(24))]);
    let text = input.rest();
    let extras = match read(&text) {
        Ok(extras) => extras,
        Err(why) => {
            assert!((1..=text.lines().count()).contains(&why.line) && !why.message.is_empty(), "{text:?}: {why}");
            return;
        }
    };
    assert!(extras.len() <= text.lines().count(), "{text:?}");
    for extra in extras {
        let printed = extra.filled(&options).to_string();
        assert!(!printed.contains(['\n', '\r', '\0']), "{text:?}: {printed:?}");
        let (keyword, rest) = printed.split_once(' ').expect("an instruction has something to work on");
        assert!(["RUN", "ENV", "WORKDIR", "USER"].contains(&keyword) && !rest.is_empty(), "{text:?}: {printed:?}");
        if keyword == "RUN" {
            assert!(!rest.contains('<'), "{text:?}: {printed:?}");
            serde_json::from_str::<Vec<String>>(rest).expect("a program's words");
        }
        // What the values hold may be what people may not write: it is no instruction all the same.
        if printed.contains("{{option.") || printed.contains("\\u0000") || printed.chars().any(char::is_control) {
            continue;
        }
        let again = read(&printed).unwrap_or_else(|e| panic!("{text:?}: {printed:?}: {e}"));
        assert_eq!(again.len(), 1, "{text:?}: {printed:?}");
        assert_eq!(again[0].filled(&BTreeMap::new()).to_string(), printed, "{text:?}");
    }
}
