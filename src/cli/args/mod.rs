//! What may be typed: commands and flags, named as kubectl names them.

mod access;
mod audit;
mod image;
mod library;
mod server;
mod workspace;

pub use access::*;
pub use audit::*;
pub use image::*;
pub use library::*;
pub use server::*;
pub use workspace::*;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed (diff: differences found); 2 wrong usage (diff: failed); 4 a wait timed out;
exec passes on the exit code of the command it ran.";

/// Declarative, routed, private dev workspaces on plain Docker hosts.
#[derive(Debug, Parser)]
#[command(name = "devsanctum", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// Address of the API, such as https://127.0.0.1:6443 [default: from <state-dir>/kubeconfig]
    #[arg(long, global = true, env = "DEVSANCTUM_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// File holding the bearer token
    #[arg(long, global = true, env = "DEVSANCTUM_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File holding the certificate authority of the API, in PEM
    #[arg(long, global = true, env = "DEVSANCTUM_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Folder of the control plane's state [default: /var/lib/devsanctum as root, else ~/.local/state/devsanctum]
    #[arg(long, global = true, env = "DEVSANCTUM_STATE", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Project to work in
    #[arg(long, short = 'n', global = true, value_name = "PROJECT")]
    pub namespace: Option<String>,
    /// When to colour the output
    #[arg(long, global = true, value_enum, default_value_t = When::Auto)]
    pub color: When,
}

/// When to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the records be as the manifests say
    Apply(ApplyArgs),
    /// Show what applying the manifests would change
    Diff(DiffArgs),
    /// List records
    Get(GetArgs),
    /// Show records with their conditions in words and their events
    Describe(DescribeArgs),
    /// Edit a record in $EDITOR
    Edit(EditArgs),
    /// Delete records
    Delete(DeleteArgs),
    /// Wait until a record is as wanted
    Wait(WaitArgs),
    /// Show what happened to records
    Events(EventsArgs),
    /// Print the output of a workspace
    Logs(LogsArgs),
    /// Run a command in a workspace
    Exec(ExecArgs),
    /// Open a shell in a workspace that survives a broken connection
    Terminal(TerminalArgs),
    /// Open a shell in a workspace over SSH, or run a command there
    Ssh(SshArgs),
    /// Copy files into a workspace, or out of it
    Cp(CpArgs),
    /// Reach ports of a workspace from this machine
    PortForward(PortForwardArgs),
    /// Start and stop a workspace, or move it to its template as it is now
    Workspace(WorkspaceArgs),
    /// Make a new workspace that begins with a copy of another's folders
    Fork(ForkArgs),
    /// List the branches of a project's repositories
    Branches(BranchesArgs),
    /// Make base images for machines that reach no registry
    Image(ImageArgs),
    /// Look at templates
    Template(TemplateArgs),
    /// Templates and features that are ready to use
    Library(LibraryArgs),
    /// Environments that a devcontainer.json describes
    Devcontainer(DevcontainerArgs),
    /// Explain the fields of a kind
    Explain(ExplainArgs),
    /// Ask who may do what, and why
    Auth(AuthArgs),
    /// Sign in at a panel, by a browser, and write a kubeconfig
    Login(LoginArgs),
    /// End what `login` has begun
    Logout,
    /// Print what kubectl asks for, by the kubeconfig that `login` has written
    Credential,
    /// Make, list and end API keys
    Key(KeyArgs),
    /// Look at the keys that secrets are sealed with, and rotate them
    Secrets(SecretsArgs),
    /// Make a Docker host's certificates, register it, test it, drain it
    Server(ServerArgs),
    /// Print a link by which anybody opens a service of a private workspace for a while; list such links, end them
    Share(ShareArgs),
    /// Let users in
    User(UserArgs),
    /// See whether mail arrives
    Mail(MailArgs),
    /// Show, verify and cut the log of who did what
    Audit(AuditArgs),
    /// Print a kubeconfig for kubectl
    Kubeconfig(KubeconfigArgs),
    /// Print the schemas of the kinds
    Schema(SchemaArgs),
    /// Show how the control plane is
    Status(StatusArgs),
    /// Check everything the control plane needs, and say what to mend
    Doctor(DoctorArgs),
    /// Print the version
    Version,
    /// Print a shell completion script
    Completion(CompletionArgs),
    /// Run the control plane in the foreground
    Serve(HookArgs),
    /// Start everything on this machine
    Up(HookArgs),
    /// Stop everything on this machine
    Down(HookArgs),
    /// Write all records to a file, whether or not the control plane runs
    Backup(HookArgs),
    /// Put a backup's records into an empty database
    Restore(HookArgs),
}

/// Arguments handed on as they are to a command that lives outside this module.
#[derive(Args, Clone, Debug)]
#[command(disable_help_flag = true)]
pub struct HookArgs {
    /// Handed on as they are; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

/// Manifests to read.
#[derive(Args, Clone, Debug)]
pub struct Files {
    /// File or folder (its *.yaml *.yml *.json), or - for standard input; may be repeated
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE|DIR|-")]
    pub files: Vec<String>,
    /// Folders inside folders too
    #[arg(long, short = 'R')]
    pub recursive: bool,
}

/// What a dry run reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Nothing is dry: the change is made.
    #[default]
    None,
    /// Checked here; nothing to be done is sent.
    Client,
    /// Checked by the server; nothing is stored.
    Server,
}

/// `apply`: every apply is a server-side apply by the field manager `devsanctum`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// Manifests.
    #[command(flatten)]
    pub files: Files,
    /// Change nothing: check here (client) or at the server (server)
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "server", require_equals = true)]
    pub dry_run: DryRun,
    /// Report as kubectl apply --server-side does; every apply is server-side in any case
    #[arg(long)]
    pub server_side: bool,
    /// Take over fields that another manager set
    #[arg(long)]
    pub force_conflicts: bool,
    /// Apply all documents in one transaction: all or nothing
    #[arg(long)]
    pub atomic: bool,
    /// Delete records of the same set (--set or -l) that the manifests no longer hold, and that were applied by this command: in the
    /// project of -n, else in all projects (--set) or in those of the manifests (-l)
    #[arg(long)]
    pub prune: bool,
    /// Name of the set: marks every record with the label devsanctum.io/applied-by
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// Apply (and prune) only records with these labels
    #[arg(long, short = 'l', value_name = "LABELS")]
    pub selector: Option<String>,
}

/// `diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// Manifests.
    #[command(flatten)]
    pub files: Files,
}

/// `get`.
#[derive(Args, Debug)]
pub struct GetArgs {
    /// KIND, KIND/NAME or all; several kinds with commas
    #[arg(required = true, value_name = "KIND[/NAME]")]
    pub what: Vec<String>,
    /// In all projects
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Only records with these labels
    #[arg(long, short = 'l', value_name = "LABELS")]
    pub selector: Option<String>,
    /// Only records with these field values, such as status.phase=RUNNING
    #[arg(long, value_name = "FIELDS")]
    pub field_selector: Option<String>,
    /// table, wide, yaml, json, name or jsonpath=TEMPLATE
    #[arg(long, short = 'o', default_value = "table", value_name = "FORMAT")]
    pub output: String,
    /// Go on and show every change
    #[arg(long, short = 'w')]
    pub watch: bool,
    /// Sort by this JSONPath
    #[arg(long, value_name = "JSONPATH")]
    pub sort_by: Option<String>,
    /// Show labels
    #[arg(long)]
    pub show_labels: bool,
    /// Leave out the header line
    #[arg(long)]
    pub no_headers: bool,
    /// Print nothing and succeed when a named record does not exist
    #[arg(long)]
    pub ignore_not_found: bool,
}

/// `describe`.
#[derive(Args, Debug)]
pub struct DescribeArgs {
    /// KIND or KIND/NAME, or KIND NAME
    #[arg(required = true, value_name = "KIND[/NAME]")]
    pub what: Vec<String>,
    /// In all projects
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Only records with these labels
    #[arg(long, short = 'l', value_name = "LABELS")]
    pub selector: Option<String>,
}

/// `edit`.
#[derive(Args, Debug)]
pub struct EditArgs {
    /// KIND/NAME, or KIND NAME
    #[arg(required = true, num_args = 1..=2, value_name = "KIND/NAME")]
    pub what: Vec<String>,
}

/// `delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// KIND/NAME…, or KIND NAME…; KIND alone with --all or -l
    #[arg(required_unless_present = "files", conflicts_with = "files", value_name = "KIND/NAME")]
    pub what: Vec<String>,
    /// All records of the kind
    #[arg(long, conflicts_with_all = ["files", "selector"])]
    pub all: bool,
    /// Records with these labels
    #[arg(long, short = 'l', value_name = "LABELS", conflicts_with = "files")]
    pub selector: Option<String>,
    /// In all projects
    #[arg(long, short = 'A', conflicts_with = "files")]
    pub all_namespaces: bool,
    /// Records of these manifests
    #[arg(long = "filename", short = 'f', value_name = "FILE|DIR|-")]
    pub files: Vec<String>,
    /// Folders inside folders too
    #[arg(long, short = 'R')]
    pub recursive: bool,
    /// Wait until the records are gone
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// Longest wait for each record
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: std::time::Duration,
    /// Let go of what a server that never comes back still holds, and print what stays behind there
    #[arg(long)]
    pub force_abandon: bool,
    /// Succeed when a record does not exist
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Change nothing: only look whether the records exist (client), or let the server say what it would do (server)
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "server", require_equals = true)]
    pub dry_run: DryRun,
}

/// `wait`.
#[derive(Args, Debug)]
pub struct WaitArgs {
    /// KIND/NAME…
    #[arg(required = true, value_name = "KIND/NAME")]
    pub what: Vec<String>,
    /// condition=TYPE[=STATUS], delete, create or jsonpath={PATH}[=VALUE]
    #[arg(long = "for", value_name = "WHAT")]
    pub until: String,
    /// Longest wait
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: std::time::Duration,
}

/// `events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// In all projects
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Only what happened to this record
    #[arg(long = "for", value_name = "KIND/NAME")]
    pub about: Option<String>,
    /// Only events of these types
    #[arg(long, value_delimiter = ',', value_name = "Normal,Warning")]
    pub types: Vec<String>,
    /// Go on and show what happens
    #[arg(long, short = 'w')]
    pub watch: bool,
}

/// `template`.
#[derive(Args, Debug)]
pub struct TemplateArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: TemplateCommand,
}

/// What to do with a template.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Print what workspaces of a template get: its parent and features put together
    Render(RenderArgs),
}

/// `template render`.
#[derive(Args, Debug)]
pub struct RenderArgs {
    /// Template
    #[arg(value_name = "TEMPLATE")]
    pub template: String,
    /// Only the Dockerfile that its image is built from
    #[arg(long)]
    pub dockerfile: bool,
}

/// `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// KIND or KIND.field.path
    #[arg(value_name = "KIND[.FIELD]")]
    pub what: String,
    /// Show all fields below
    #[arg(long)]
    pub recursive: bool,
}

/// `kubeconfig`.
#[derive(Args, Debug)]
pub struct KubeconfigArgs {
    /// Merge into $KUBECONFIG or ~/.kube/config as the context `devsanctum`, and make it the current one
    #[arg(long)]
    pub merge: bool,
}

/// `schema`.
#[derive(Args, Debug)]
pub struct SchemaArgs {
    /// Kind; all kinds where left out
    pub kind: Option<String>,
    /// CustomResourceDefinitions for a Kubernetes cluster, in place of JSON Schema
    #[arg(long)]
    pub crd: bool,
    /// Write one file a kind into this folder: JSON Schema and, in crds/, CustomResourceDefinitions
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kind", "crd"])]
    pub out: Option<PathBuf>,
}

/// `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// table or json
    #[arg(long, short = 'o', default_value = "table", value_parser = ["table", "json"])]
    pub output: String,
}

/// `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Docker engine to check
    #[arg(long, env = "DOCKER_HOST", default_value = "unix:///var/run/docker.sock", value_name = "URL")]
    pub docker: String,
    /// Traefik binary to check [default: the one `serve` takes, from PATH or the state folder's venv]
    #[arg(long, env = "DEVSANCTUM_TRAEFIK", value_name = "FILE")]
    pub traefik: Option<PathBuf>,
    /// Ports that must be free, or be held by the control plane
    #[arg(long, value_delimiter = ',', default_values_t = [6443, 80, 443], value_name = "PORTS")]
    pub ports: Vec<u16>,
    /// Image that must be on the engine
    #[arg(long, env = "DEVSANCTUM_BASE_IMAGE", value_name = "IMAGE")]
    pub image: Option<String>,
}

/// `completion`.
#[derive(Args, Debug)]
pub struct CompletionArgs {
    /// Shell
    pub shell: clap_complete::Shell,
}
