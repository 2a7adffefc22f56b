//! A program in a workspace on a channel: a shell, a command, or the server of file transfers.

use super::Gateway;
use super::connection::{Caller, Open, SFTP};
use super::wake::awake;
use crate::api::streams::{ExecInput, ExecOutput, ExecRequest, ExecSession, Run};
use crate::resource::names::env_name;
use bytes::Bytes;
use futures::StreamExt;
use russh::server::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc::{Sender, unbounded_channel};

/// Variables a caller may set, and how long they may be together, in bytes.
const VARIABLES: usize = 64;
const VARIABLES_BYTES: usize = 32 << 10;
/// What may be sent before the program runs, in bytes.
const EARLY: usize = 1 << 20;
/// The channel of error output.
const STDERR: u32 = 1;
/// What `sshd` ends with when a program could not be run on to its end.
const FAILED: u32 = 255;
/// A program that does not read its input for this long is given up: nothing else on the connection goes on meanwhile.
const DEAF: Duration = Duration::from_secs(60);

type Write = ChannelWriteHalf<Msg>;

/// What a channel is asked for.
#[derive(Default)]
struct Asked {
    env: BTreeMap<String, String>,
    tty: bool,
    size: Option<(u16, u16)>,
}

impl Asked {
    /// Takes in what is asked for before a program is; `None` for what says nothing of it.
    fn hear(&mut self, message: &ChannelMsg) {
        match message {
            ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                self.tty = true;
                self.size = size(*col_width, *row_height);
                self.set("TERM", term);
            }
            ChannelMsg::WindowChange { col_width, row_height, .. } => self.size = size(*col_width, *row_height),
            ChannelMsg::SetEnv { variable_name, variable_value, .. } => self.set(variable_name, variable_value),
            _ => {}
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        let bytes: usize = self.env.iter().map(|(n, v)| n.len() + v.len()).sum();
        let fits = self.env.len() < VARIABLES && bytes + name.len() + value.len() <= VARIABLES_BYTES;
        if fits && env_name(name).is_ok() && !value.contains('\0') {
            self.env.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// A terminal's size, where it has one.
fn size(columns: u32, rows: u32) -> Option<(u16, u16)> {
    let (columns, rows) = (u16::try_from(columns).ok()?, u16::try_from(rows).ok()?);
    (columns > 0 && rows > 0).then_some((columns, rows))
}

/// A command as engines take them, which is in JSON.
fn command_of(bytes: Vec<u8>) -> Result<Run, String> {
    let text = String::from_utf8(bytes).map(|command| Run::Shell(Some(command)));
    text.map_err(|_| {
        "the command is not UTF-8, and nothing else can be run here: send such bytes on its input, or write them in escapes, as printf has them"
            .into()
    })
}

/// Serves a channel to its end.
pub async fn serve(gateway: &Gateway, caller: &Caller, channel: Channel<Msg>) {
    let (mut read, write) = channel.split();
    let mut asked = Asked::default();
    let run = loop {
        match read.wait().await {
            Some(ChannelMsg::RequestShell { .. }) => break Ok(Run::Shell(None)),
            Some(ChannelMsg::Exec { command, .. }) => break command_of(command),
            Some(ChannelMsg::RequestSubsystem { name, .. }) if name == SFTP => break Ok(Run::Sftp),
            Some(ChannelMsg::Close) | None => return,
            Some(message) => asked.hear(&message),
        }
    };
    let started = match run {
        Ok(run) => start(gateway, caller, run, &mut asked, &mut read, &write).await,
        Err(words) => Err(words),
    };
    let code = match started {
        Ok(Some((session, early, _open))) => pump(session, early, &mut read, &write).await,
        Ok(None) => return,
        Err(words) => {
            say(&write, &words, asked.tty).await;
            Some(FAILED)
        }
    };
    if let Some(code) = code {
        let _ = write.exit_status(code).await;
        let _ = write.eof().await;
    }
    let _ = write.close().await;
}

/// Says something to the person, beside what the program says.
async fn say(write: &Write, words: &str, tty: bool) {
    let end = if tty { "\r\n" } else { "\n" };
    // What comes from records must not steer the terminal.
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = write.extended_data_bytes(STDERR, Bytes::from(format!("devsanctum: {words}{end}"))).await;
}

/// Starts the program, once the workspace runs. `None` when the caller left meanwhile; else what it has sent by then.
async fn start(
    gateway: &Gateway,
    caller: &Caller,
    run: Run,
    asked: &mut Asked,
    read: &mut ChannelReadHalf,
    write: &Write,
) -> Result<Option<(ExecSession, Vec<ExecInput>, Open)>, String> {
    let open = gateway.opens(caller, "exec").await?;
    let tty = asked.tty;
    let (tell, mut told) = unbounded_channel();
    let mut waking = pin!(awake(gateway, caller, Some(tell)));
    let (mut early, mut bytes) = (Vec::new(), 0);
    loop {
        let message = tokio::select! {
            Some(words) = told.recv() => {
                say(write, &words, tty).await;
                continue;
            }
            awake = &mut waking => break awake?,
            message = read.wait(), if bytes < EARLY => message,
        };
        match message {
            Some(ChannelMsg::Close) | None => return Ok(None),
            Some(ChannelMsg::Data { data }) => keep(&mut early, &mut bytes, ExecInput::Stdin(data)),
            Some(ChannelMsg::Eof) => keep(&mut early, &mut bytes, ExecInput::CloseStdin),
            Some(message) => asked.hear(&message),
        }
    }
    gateway.still(caller, "exec").await?;
    early.extend(asked.size.filter(|_| tty).map(|(width, height)| ExecInput::Resize { width, height }));
    let request = ExecRequest { env: std::mem::take(&mut asked.env), tty, ..ExecRequest::piped(run) };
    let session = gateway.streams.exec(caller.target.clone(), request).await.map_err(|e| e.to_string())?;
    Ok(Some((session, early, open)))
}

/// Keeps what was sent early. Each takes more room than its bytes.
fn keep(early: &mut Vec<ExecInput>, bytes: &mut usize, said: ExecInput) {
    *bytes += size_of::<ExecInput>() + if let ExecInput::Stdin(data) = &said { data.len() } else { 0 };
    early.push(said);
}

/// Carries bytes both ways until the program or the caller ends; gives the exit code where the program did.
pub async fn pump(session: ExecSession, early: Vec<ExecInput>, read: &mut ChannelReadHalf, write: &Write) -> Option<u32> {
    let ExecSession { input, mut output } = session;
    let inward = async {
        for said in early {
            hand_on(&input, said).await?;
        }
        loop {
            let said = match read.wait().await? {
                ChannelMsg::Data { data } => ExecInput::Stdin(data),
                ChannelMsg::Eof => ExecInput::CloseStdin,
                ChannelMsg::WindowChange { col_width, row_height, .. } => match size(col_width, row_height) {
                    Some((width, height)) => ExecInput::Resize { width, height },
                    None => continue,
                },
                ChannelMsg::Close => return None,
                _ => continue,
            };
            hand_on(&input, said).await?;
        }
    };
    let outward = async {
        while let Some(said) = output.next().await {
            match said {
                ExecOutput::Stdout(bytes) => write.data_bytes(bytes).await.ok()?,
                ExecOutput::Stderr(bytes) => write.extended_data_bytes(STDERR, bytes).await.ok()?,
                // Exit codes are one byte; what an engine says beyond that is an error of its own.
                ExecOutput::Exit(code) => return Some(u32::try_from(code).unwrap_or(FAILED)),
                ExecOutput::Failed(why) => {
                    say(write, &why, false).await;
                    break;
                }
            }
        }
        Some(FAILED)
    };
    tokio::select! {
        left = inward => left,
        code = outward => code,
    }
}

/// Hands input on. One who has ended reads nothing more, and is told on the other side; one who is there and does not read
/// is given up.
async fn hand_on(input: &Sender<ExecInput>, said: ExecInput) -> Option<()> {
    tokio::time::timeout(DEAF, input.send(said)).await.ok().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(asked: &mut Asked, name: &str, value: &str) {
        let (variable_name, variable_value) = (name.to_owned(), value.to_owned());
        asked.hear(&ChannelMsg::SetEnv { want_reply: false, variable_name, variable_value });
    }

    #[test]
    fn variables_are_few_and_well_formed() {
        let mut asked = Asked::default();
        for (name, value) in [("A=B", "x"), ("", "x"), ("1A", "x"), ("A B", "x"), ("A", "x\0y"), ("BIG", &"x".repeat(64 << 10))] {
            set(&mut asked, name, value);
        }
        assert!(asked.env.is_empty(), "{:?}", asked.env);
        for n in 0..1000 {
            set(&mut asked, &format!("V{n}"), "x");
        }
        assert_eq!(asked.env.len(), VARIABLES);
    }

    #[test]
    fn what_is_sent_early_is_counted_however_little_it_says() {
        for said in [ExecInput::CloseStdin, ExecInput::Stdin(Bytes::new()), ExecInput::Stdin(Bytes::from_static(b"x"))] {
            let (mut early, mut bytes) = (Vec::new(), 0);
            while bytes < EARLY && early.len() <= EARLY {
                keep(&mut early, &mut bytes, said.clone());
            }
            assert!(early.len() * size_of::<ExecInput>() <= EARLY + size_of::<ExecInput>(), "{said:?}: {}", early.len());
        }
    }

    #[test]
    fn a_command_is_run_as_it_was_sent_or_not_at_all() {
        assert_eq!(command_of("echo 'ü'".into()).unwrap(), Run::Shell(Some("echo 'ü'".into())));
        for bytes in [&b"echo \xff"[..], b"\xc3", b"rm \xed\xa0\x80"] {
            assert!(command_of(bytes.to_vec()).unwrap_err().starts_with("the command is not UTF-8"), "{bytes:?}");
        }
    }

    #[test]
    fn a_terminal_without_a_size_has_none() {
        assert_eq!(size(80, 24), Some((80, 24)));
        assert_eq!([size(0, 24), size(80, 0), size(1 << 20, 24)], [None; 3]);
    }
}
