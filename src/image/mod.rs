//! What an image is made of: a Dockerfile as data, read from people's text and printed so that no value in it can add to it.

mod dockerfile;
pub mod options;
mod parse;
mod recipe;
mod word;

pub use dockerfile::Instruction;
pub use parse::{Extra, Unreadable, read};
pub use recipe::{File, Recipe, SERVICE_LOGS};
pub use word::Word;
