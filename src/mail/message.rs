//! What mails say, as text and as a page. What comes from outside can only ever be text.

use super::outbox::Noticed;
use maud::{DOCTYPE, html};

/// A mail without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its subject, in one line.
    pub subject: String,
    /// For those who read text.
    pub text: String,
    /// For all others.
    pub html: String,
}

/// Some paragraphs, and perhaps a way on.
struct Letter<'a> {
    subject: &'a str,
    before: Vec<String>,
    /// What the button says, and where it leads.
    link: Option<(&'a str, &'a str)>,
    after: &'a str,
}

impl Letter<'_> {
    fn written(&self) -> Message {
        let link = self.link.map(|(_, url)| url.to_owned());
        let parts = self.before.iter().cloned().chain(link).chain([self.after.to_owned()]);
        let text = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n") + "\n";
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head { meta charset="utf-8"; title { (self.subject) } }
                body style="font-family: system-ui, sans-serif; line-height: 1.5; max-width: 34rem; margin: 2rem auto; padding: 0 1rem" {
                    h1 style="font-size: 1.25rem" { (self.subject) }
                    @for part in &self.before { p { (part) } }
                    @if let Some((label, url)) = self.link {
                        p { a href=(url) style="display: inline-block; padding: .6rem 1.2rem; border-radius: .4rem; background: #2457c5; color: #fff; text-decoration: none" { (label) } }
                        p style="font-size: .85rem; color: #555" { "Or open " (url) }
                    }
                    @if !self.after.is_empty() { p style="font-size: .85rem; color: #555" { (self.after) } }
                }
            }
        };
        Message { subject: self.subject.to_owned(), text, html: page.into_string() }
    }
}

const NOT_YOU: &str = "If you did not expect this, you need do nothing.";

impl Message {
    /// Somebody is invited.
    pub fn invitation(url: &str) -> Self {
        let before = vec!["You are invited to DevSanctum, where development environments run.".into()];
        let after = "The link works once, for 48 hours. If you did not expect this, you need do nothing.";
        Letter { subject: "You are invited to DevSanctum", before, link: Some(("Accept the invitation", url)), after }.written()
    }

    /// Somebody has asked for an account.
    pub fn confirmation(url: &str) -> Self {
        let before =
            vec!["An account was asked for with this address. Confirm that it is yours, and choose a password; the link works for an hour.".into()];
        Letter { subject: "Confirm your address", before, link: Some(("Confirm and sign in", url)), after: NOT_YOU }.written()
    }

    /// Somebody has asked for an account who has one.
    pub fn account_exists(url: &str) -> Self {
        let before = vec!["An account was asked for with this address, and there is one already: sign in to it.".into()];
        Letter { subject: "You have an account already", before, link: Some(("Sign in", url)), after: NOT_YOU }.written()
    }

    /// Somebody has forgotten their password.
    pub fn reset(url: &str) -> Self {
        let before = vec!["A new password was asked for. The link works once, for an hour; until then nothing changes.".into()];
        Letter { subject: "Set a new password", before, link: Some(("Set a new password", url)), after: NOT_YOU }.written()
    }

    /// A workspace will be destroyed.
    pub fn destroyed_soon(notice: &Noticed, url: &str) -> Self {
        let Noticed { project, workspace, at, after } = notice;
        let before = vec![
            format!(
                "Your workspace {workspace} in the project {project} will be destroyed at {at}, with all files in it: workspaces are after {after}."
            ),
            format!(
                "To keep it: devsanctum -n {project} edit workspace {workspace}, and set spec.kept to true. Pinned ones are not stopped either."
            ),
        ];
        let subject = format!("Your workspace {workspace} will be destroyed");
        Letter { subject: &subject, before, link: Some(("Open DevSanctum", url)), after: "Push what you want to have elsewhere." }
            .written()
    }

    /// Whether mail arrives.
    pub fn test(by: &str) -> Self {
        let before = vec![format!("{by} has sent this to see whether mail arrives. It does.")];
        Letter { subject: "DevSanctum can send mail", before, link: None, after: "" }.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_text_and_a_page_and_nothing_in_it_is_markup() {
        let message = Message::test("<script>alert(1)</script>");
        assert!(message.text.contains("<script>") && !message.html.contains("<script>"));
        let message = Message::invitation("https://panel.example.com/invitation/x?a=1&b=2");
        assert!(message.text.contains("\n\nhttps://panel.example.com/invitation/x?a=1&b=2\n\n"), "{}", message.text);
        assert!(message.html.contains("href=\"https://panel.example.com/invitation/x?a=1&amp;b=2\""));
    }
}
