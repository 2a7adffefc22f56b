//! Instructions of a Dockerfile, as data.

use super::word::Word;
use std::fmt;

/// An instruction. Whatever its parts hold, it is printed as one line that Docker reads as this instruction alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Begins with an image, by a reference that was checked when it was given.
    From(String),
    /// Runs a program with these arguments, without a shell of Docker's choosing.
    Run(Vec<String>),
    /// Sets variables of the image.
    Env(Vec<(String, Word)>),
    /// Sets the folder that what follows is run in.
    Workdir(String),
    /// Sets the user that what follows is run as.
    User(String),
    /// Copies a folder of the build context.
    Copy {
        /// Its path there.
        from: &'static str,
        /// Where it goes.
        to: &'static str,
    },
    /// The program that containers begin with.
    Entrypoint(&'static str),
}

impl Instruction {
    /// Runs a script by `/bin/sh`, with these arguments.
    pub(super) fn script(script: impl Into<String>, arguments: impl IntoIterator<Item = String>) -> Self {
        let head = ["/bin/sh".to_owned(), "-c".to_owned(), script.into(), "sh".to_owned()];
        Self::Run(head.into_iter().chain(arguments).collect())
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(image) => write!(f, "FROM {image}"),
            // JSON has no line breaks of its own. Without '<' no builder can see a here-document in it.
            Self::Run(argv) => write!(f, "RUN {}", serde_json::json!(argv).to_string().replace('<', "\\u003c")),
            Self::Env(all) => {
                f.write_str("ENV")?;
                all.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
            Self::Workdir(path) => write!(f, "WORKDIR {path}"),
            Self::User(name) => write!(f, "USER {name}"),
            Self::Copy { from, to } => write!(f, "COPY {from} {to}"),
            Self::Entrypoint(program) => write!(f, "ENTRYPOINT {}", serde_json::json!([program])),
        }
    }
}
