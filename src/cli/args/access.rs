//! What may be typed about who may do what.

use clap::{Args, Subcommand};

/// `login`.
#[derive(Args, Debug)]
pub struct LoginArgs {
    /// Where you sign in in a browser, such as https://panel.example.com
    #[arg(value_name = "PANEL")]
    pub panel: String,
    /// Print the address, and open no browser
    #[arg(long)]
    pub no_browser: bool,
    /// Believe a panel on another machine over plain http: it says how the API is known
    #[arg(long)]
    pub insecure_panel: bool,
}

/// `key`.
#[derive(Args, Debug)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make an API key and print it, once
    Create(CreateKeyArgs),
    /// List API keys: your own, or as an administrator all
    List(ListKeysArgs),
    /// End API keys
    Delete(DeleteKeysArgs),
}

/// `key create`.
#[derive(Args, Debug)]
pub struct CreateKeyArgs {
    /// What you call it, such as the machine it is for
    #[arg(value_name = "NAME")]
    pub name: String,
    /// User it is for [default: yourself]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// How long it is worth something, such as 90d, and a year at most [default: a year]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub expires: Option<std::time::Duration>,
    /// Only for these verbs, such as get,list,watch
    #[arg(long, value_delimiter = ',', value_name = "VERBS")]
    pub verbs: Vec<String>,
    /// Only for these kinds
    #[arg(long, value_delimiter = ',', value_name = "KINDS")]
    pub kinds: Vec<String>,
    /// Only for these projects and what lies in them
    #[arg(long, value_delimiter = ',', value_name = "PROJECTS")]
    pub projects: Vec<String>,
}

/// `key list`.
#[derive(Args, Debug)]
pub struct ListKeysArgs {
    /// Only those of this user
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
}

/// `key delete`.
#[derive(Args, Debug)]
pub struct DeleteKeysArgs {
    /// As `key list` shows them
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
}

/// `secrets`.
#[derive(Args, Debug)]
pub struct SecretsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SecretsCommand,
}

/// What to do with the keys that secrets are sealed with.
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Seal all secrets with a new key, while everything goes on (administrators only)
    Rotate(RotateArgs),
    /// Show which keys there are and which are in use, by their ids
    Status,
}

/// `secrets rotate`.
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// Leave keys in the file that are no longer in use, for backups made before
    #[arg(long)]
    pub keep_old: bool,
    /// With PostgreSQL: there is no other replica, so a key may be made that no other has
    #[arg(long)]
    pub only_replica: bool,
}

/// `auth`.
#[derive(Args, Debug)]
pub struct AuthArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuthCommand,
}

/// What to ask about who may do what.
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Say whether something is allowed, and why; the exit code is 1 when it is not
    Why(WhyArgs),
    /// Say who you are to the control plane
    Whoami,
}

/// `auth why`.
#[derive(Args, Debug)]
pub struct WhyArgs {
    /// get, list, watch, create, update, patch, delete or deletecollection
    #[arg(value_name = "VERB")]
    pub verb: String,
    /// KIND, KIND/NAME, or KIND/NAME/SUBRESOURCE such as ws/web/exec
    #[arg(value_name = "KIND[/NAME]")]
    pub what: String,
    /// Ask about another user (administrators only)
    #[arg(long = "as", value_name = "USER")]
    pub user: Option<String>,
}

/// `user`.
#[derive(Args, Debug)]
pub struct UserArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: UserCommand,
}

/// What to do with a user.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Print a link by which a user sets their password: it works once, for 48 hours
    Link(LinkArgs),
    /// Invite somebody by mail: their link works once, for 48 hours
    Invite(InviteArgs),
    /// Send an invitation anew; the link of the mail before works no more
    Resend(ResendArgs),
    /// End all of a user's sessions, at the panel and at workspaces; the account and its API keys stay
    SignOut(SignOutArgs),
}

/// `user sign-out`.
#[derive(Args, Debug)]
pub struct SignOutArgs {
    /// User
    #[arg(value_name = "USER")]
    pub user: String,
}

/// `user invite`.
#[derive(Args, Debug)]
pub struct InviteArgs {
    /// E-mail address
    #[arg(value_name = "EMAIL")]
    pub email: String,
    /// Groups they will join
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Make them an administrator
    #[arg(long)]
    pub admin: bool,
}

/// `user resend`.
#[derive(Args, Debug)]
pub struct ResendArgs {
    /// Invitation, as `get invitations` names it
    #[arg(value_name = "INVITATION")]
    pub invitation: String,
}

/// `mail`.
#[derive(Args, Debug)]
pub struct MailArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: MailCommand,
}

/// What to do with mail.
#[derive(Debug, Subcommand)]
pub enum MailCommand {
    /// Send a mail and print what the mail server says
    Test(MailTestArgs),
}

/// `mail test`.
#[derive(Args, Debug)]
pub struct MailTestArgs {
    /// E-mail address
    #[arg(value_name = "EMAIL")]
    pub to: String,
}

/// `user link`.
#[derive(Args, Debug)]
pub struct LinkArgs {
    /// User
    #[arg(value_name = "USER")]
    pub user: String,
}

/// `share`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ShareArgs {
    /// What to do, where it is not to make one.
    #[command(subcommand)]
    pub command: Option<ShareCommand>,
    /// The link that is wanted.
    #[command(flatten)]
    pub new: NewShareArgs,
}

/// What to do with share links that are there.
#[derive(Debug, Subcommand)]
pub enum ShareCommand {
    /// List a workspace's share links
    List(ListSharesArgs),
    /// End share links, and what they have opened
    End(EndSharesArgs),
}

/// `share WORKSPACE`.
#[derive(Args, Debug)]
pub struct NewShareArgs {
    /// Workspace, such as ws/web
    #[arg(required = true, value_name = "WORKSPACE")]
    pub workspace: Option<String>,
    /// Service that the link opens [default: the first]
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// How long it works, 30 days at most [default: 24h]
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub lasts: Option<std::time::Duration>,
}

/// `share list`.
#[derive(Args, Debug)]
pub struct ListSharesArgs {
    /// Workspace
    #[arg(value_name = "WORKSPACE")]
    pub workspace: String,
}

/// `share end`.
#[derive(Args, Debug)]
pub struct EndSharesArgs {
    /// As `share list` shows them
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
}
