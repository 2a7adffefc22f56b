//! Words that make no password stronger: this installation's own, and those of whom the password is.

use std::cmp::Reverse;

/// What every installation is called.
const PRODUCT: &str = "devsanctum";
/// Shorter ones are in too many other words, in letters and digits.
const SHORTEST: usize = 3;

/// Such words, in lower case, the longest first.
#[derive(Debug)]
pub(super) struct OwnWords(Vec<String>);

impl OwnWords {
    /// The product's name, and the words of these texts: what letters and digits stand together, three of them or more.
    pub(super) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all: Vec<String> = texts.into_iter().chain([PRODUCT]).flat_map(words).collect();
        all.sort_by_key(|word| Reverse(word.len()));
        Self(all)
    }

    /// A text in lower case, without any of them.
    pub(super) fn taken_from(&self, text: &str) -> String {
        self.0.iter().fold(text.to_lowercase(), |left, word| left.replace(word.as_str(), ""))
    }
}

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let apart = lower.split(|c: char| !c.is_alphanumeric());
    apart.filter(|word| word.chars().count() >= SHORTEST).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_has_none_of_them() {
        let own = OwnWords::of(["panel.my-firm.example", "ada", "a.lovelace", "Ada Äther", "x y"]);
        for (text, left) in [
            ("DevSanctum2026", "2026"),
            ("ada-ADA-Lovelace", "--"),
            ("my-FIRM!panel", "my-!"),
            ("äther, ÄTHER", ", "),
            ("correct horse", "correct horse"),
        ] {
            assert_eq!(own.taken_from(text), left, "{text}");
        }
    }
}
