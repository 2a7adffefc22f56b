//! What an image is made of: a Dockerfile as data, read from people's text and printed so that no value in it can add to it.

mod dockerfile;
pub mod options;
mod parse;
mod recipe;
mod supervision;
mod word;

pub use dockerfile::Instruction;
pub use parse::{Extra, Unreadable, read};
pub use recipe::{File, MANAGERS, Recipe};
pub use supervision::{SERVICE_LOGS, Supervised};
pub use word::Word;
