//! The person's terminal, handed over whole and put back as it was.

use super::failure::Failure;
use kube::api::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode, until dropped.
pub struct Raw(Termios);

impl Raw {
    /// Puts standard input into raw mode: every key goes to the other side as it is.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn enter() -> Result<Self, Failure> {
        let before = tcgetattr(std::io::stdin()).map_err(|_| {
            Failure::usage("-t needs a terminal on standard input").hint("leave -t out when input comes from a pipe or file")
        })?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(std::io::Error::from)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no putting back.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The size of the terminal, in characters.
pub fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    Some(TerminalSize { width: size.ws_col, height: size.ws_row })
}
