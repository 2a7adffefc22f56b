//! Certificates for an engine that is reached over TLS: one authority for each server, so that whoever has one server's files has no
//! other server.

use crate::cli::args::CertsArgs;
use crate::cli::failure::Failure;
use crate::cli::ui;
use k8s_openapi::jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;
use std::fmt::Display;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The authority's own certificate lasts longer than all it signs.
const AUTHORITY_DAYS: u32 = 3650;
/// What sets a host up, among the files that are made.
pub const SET_UP: &str = "set-up.sh";
/// Where the files are on the host.
const ON_HOST: &str = "/etc/docker/devsanctum";

/// Runs `server certs`.
///
/// # Errors
/// When a file cannot be read or written, or a host is none.
pub fn run(args: &CertsArgs) -> Result<(), Failure> {
    let dir = &args.out;
    let made = |e: &dyn Display| Failure::new(format!("{}: {e}", dir.display())).hint("choose a folder you may write with --out");
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| made(&e))?;
    let authority = Authority::in_folder(dir)?;
    let server = authority.sign(args, ExtendedKeyUsagePurpose::ServerAuth, &args.host[0])?;
    let client = authority.sign(args, ExtendedKeyUsagePurpose::ClientAuth, "devsanctum")?;
    let daemon = json!({
        "hosts": ["unix:///var/run/docker.sock", format!("tcp://0.0.0.0:{}", args.port)],
        "tlsverify": true,
        "tlscacert": format!("{ON_HOST}/ca.pem"),
        "tlscert": format!("{ON_HOST}/server-cert.pem"),
        "tlskey": format!("{ON_HOST}/server-key.pem"),
        // Certificates are read at the start: workspaces go on while the engine is started anew with others.
        "live-restore": true,
    });
    let daemon = format!("{}\n", serde_json::to_string_pretty(&daemon)?);
    // What the package's unit says on its command line must not be said in daemon.json again.
    let unit = unit("/usr/bin/dockerd");
    let setup = setup(&authority.pem, &server, &daemon);
    for (name, content) in [
        ("ca.pem", &authority.pem),
        ("ca-key.pem", &authority.key),
        ("server-cert.pem", &server.0),
        ("server-key.pem", &server.1),
        ("cert.pem", &client.0),
        ("key.pem", &client.1),
        ("daemon.json", &daemon),
        ("docker.service.conf", &unit),
        (SET_UP, &setup),
    ] {
        write(dir, name, content).map_err(|e| made(&e))?;
    }
    let (shown, host) = (dir.display(), &args.host[0]);
    ui::say(&format!(
        "certificates for {host} in {shown}, for {} days; whoever has key.pem owns the host, so keep the folder to yourself\n\
         on the host, as root:   ssh root@{host} sh < {shown}/set-up.sh\n\
         or paste the line of:   devsanctum server join-command {shown}\n\
         then here:              devsanctum server add NAME --host {host} --port {} --certs {shown}",
        args.days, args.port
    ))
}

/// An authority with its key.
struct Authority {
    pem: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What its certificate says; it is the same each time, but for when it lasts.
fn authority() -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "DevSanctum engine authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    last(&mut params, AUTHORITY_DAYS);
    Ok(params)
}

fn failed(e: impl Display) -> Failure {
    Failure::new(format!("a certificate cannot be made: {e}"))
}

impl Authority {
    /// The one that is there: what it signs anew is trusted where it is trusted. Else a new one, in an empty folder alone.
    fn in_folder(dir: &Path) -> Result<Self, Failure> {
        let read = |name: &str| std::fs::read_to_string(dir.join(name));
        match (read("ca.pem"), read("ca-key.pem")) {
            (Ok(pem), Ok(key)) => {
                let pair = KeyPair::from_pem(&key).map_err(failed)?;
                Ok(Self { pem, key, issuer: Issuer::new(authority()?, pair) })
            }
            _ if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none()) => Self::make(),
            _ => {
                Err(Failure::new(format!("{} is not empty, and has no ca.pem and ca-key.pem of an earlier time", dir.display()))
                    .hint("choose a new folder with --out"))
            }
        }
    }

    fn make() -> Result<Self, Failure> {
        let (params, pair) = (authority()?, KeyPair::generate().map_err(failed)?);
        let (key, pem) = (pair.serialize_pem(), params.self_signed(&pair).map_err(failed)?.pem());
        Ok(Self { pem, key, issuer: Issuer::new(params, pair) })
    }

    /// A certificate and its key, PEM.
    fn sign(&self, args: &CertsArgs, usage: ExtendedKeyUsagePurpose, name: &str) -> Result<(String, String), Failure> {
        let names = if usage == ExtendedKeyUsagePurpose::ServerAuth { args.host.clone() } else { Vec::new() };
        let wrong =
            |e| Failure::new(format!("--host {}: {e}; names such as rack-1.example.com and addresses", args.host.join(",")));
        let mut params = CertificateParams::new(names).map_err(wrong)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        last(&mut params, args.days);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// From yesterday, for clocks that are behind.
fn last(params: &mut CertificateParams, days: u32) {
    let day = |from_now: i64| {
        let date = (Timestamp::now() + SignedDuration::from_hours(24 * from_now)).to_zoned(TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(-1);
    params.not_after = day(days.into());
}

/// What has systemd start this dockerd without what the package's unit says on its command line.
fn unit(dockerd: &str) -> String {
    format!("[Service]\nExecStart=\nExecStart={dockerd}\n")
}

/// What sets a host up, to be run there by root. It is run anew with new certificates, and replaces what it has written alone.
fn setup(ca: &str, (cert, key): &(String, String), daemon: &str) -> String {
    let file = |path: &str, mode: &str, content: &str| format!("install -m {mode} /dev/stdin {path} <<'END'\n{content}END\n");
    let of_daemon = "/etc/docker/daemon.json";
    let own = format!("{ON_HOST}/daemon.json");
    let units = "/etc/systemd/system/docker.service.d";
    // Where dockerd lies is another place for each distribution.
    let unit = unit("$dockerd");
    format!(
        "#!/bin/sh\n# Has this host's Docker Engine listen for DevSanctum over TLS, beside its socket. Run it as root.\nset -eu\n\
         dockerd=$(command -v dockerd) || {{\n\
         \x20 echo 'there is no dockerd: install Docker Engine 20.10 or newer, then run this again' >&2\n\x20 exit 1\n}}\n\
         mkdir -p {ON_HOST}\nchmod 700 {ON_HOST}\n\
         if [ -e {of_daemon} ] && ! cmp -s {of_daemon} {own}; then\n\
         \x20 echo '{of_daemon} is there, and not of this script: put what {own} says into it by hand' >&2\n\
         \x20 by_hand=1\nfi\n\
         {}{}{}{}\
         [ -n \"${{by_hand:-}}\" ] || cp {own} {of_daemon}\n\
         if command -v systemctl >/dev/null && systemctl cat docker.service >/dev/null 2>&1; then\n\
         \x20 mkdir -p {units}\n\
         \x20 cat >{units}/devsanctum.conf <<END\n{unit}END\n\
         \x20 systemctl daemon-reload\n\
         \x20 [ -n \"${{by_hand:-}}\" ] || systemctl restart docker.service\n\
         else\n\x20 echo 'there is no docker.service: start dockerd anew'\nfi\n",
        file(&format!("{ON_HOST}/ca.pem"), "644", ca),
        file(&format!("{ON_HOST}/server-cert.pem"), "644", cert),
        file(&format!("{ON_HOST}/server-key.pem"), "600", key),
        file(&own, "644", daemon),
    )
}

/// As a whole, and for nobody else to read.
fn write(dir: &Path, name: &str, content: &str) -> std::io::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(temporary, dir.join(name))
}
