//! Certificates for an engine that is reached over TLS: one authority for each server, so that whoever has one server's files has no
//! other server.

use crate::cli::args::CertsArgs;
use crate::cli::failure::Failure;
use crate::cli::ui;
use crate::resource::names;
use k8s_openapi::jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use serde_json::json;
use std::fmt::Display;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The authority's own certificate lasts longer than all it signs.
const AUTHORITY_DAYS: u32 = 3650;
/// In its last days, so many, an authority signs nothing that would have lasted longer: what it signs would be ever shorter.
const LAST_YEAR: u32 = 365;
/// The last second of it.
const YEAR_9999: Duration = Duration::from_secs(253_402_300_799);
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
    args.host.iter().try_for_each(|host| check_host(host))?;
    let made = |e: &dyn Display| Failure::new(format!("{}: {e}", dir.display())).hint("choose a folder you may write with --out");
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| made(&e))?;
    let authority = Authority::in_folder(dir)?;
    let days = authority.days(args)?;
    let server = authority.sign(&args.host, days, ExtendedKeyUsagePurpose::ServerAuth, &args.host[0])?;
    let client = authority.sign(&[], days, ExtendedKeyUsagePurpose::ClientAuth, "devsanctum")?;
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
    let unit = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd\n".to_owned();
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
        "certificates for {host} in {shown}, for {days} days; whoever has key.pem owns the host, so keep the folder to yourself\n\
         the first time, dockerd is started anew with live-restore, and what runs on the host stops once\n\
         on the host, as root:   ssh root@{host} sh < {shown}/set-up.sh\n\
         or paste the line of:   devsanctum server join-command {shown}\n\
         then here:              devsanctum server add NAME --host {host} --port {} --certs {shown}",
        args.port
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

    /// How long what it signs now is to last: no longer than itself, or engines would refuse what nobody was warned of.
    fn days(&self, args: &CertsArgs) -> Result<u32, Failure> {
        let Some(ends) = ends(&self.pem) else {
            return Err(failed(format!("ca.pem in {} cannot be read", args.out.display())));
        };
        let left = u32::try_from(ends.duration_since(Timestamp::now()).as_hours() / 24).unwrap_or_default();
        if left < args.days && left < LAST_YEAR {
            let hint = "give certificates of fewer days with --days, or begin anew: make them in a new folder with --out, set the host up \
                 with those, and add the server again";
            return Err(Failure::new(format!("the authority in {} ends on {ends}", args.out.display())).hint(hint));
        }
        Ok(args.days.min(left))
    }

    /// A certificate and its key, PEM.
    fn sign(&self, names: &[String], days: u32, usage: ExtendedKeyUsagePurpose, name: &str) -> Result<(String, String), Failure> {
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        last(&mut params, days);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// A host as it is dialled, and as commands on it may be given it.
fn check_host(host: &str) -> Result<(), Failure> {
    if host.parse::<IpAddr>().is_ok() || names::host_name(host).is_ok() || names::dns_label(host).is_ok() {
        return Ok(());
    }
    Err(Failure::usage(format!("--host {host}: must be names in lower case and addresses, such as rack-1.example.com,10.0.0.7")))
}

/// When a certificate ends. The verifier reads it: at the end of the year 9999 it refuses it, and says since when.
fn ends(pem: &str) -> Option<Timestamp> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).ok()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    match verifier.verify_client_cert(&certificate, &[], UnixTime::since_unix_epoch(YEAR_9999)) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Timestamp::from_second(not_after.as_secs().try_into().ok()?).ok()
        }
        _ => None,
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

/// What sets a host up, to be run there by root. It is run anew with new certificates, and replaces what it has written alone; where
/// dockerd is set up otherwise, it says so and leaves that as it is.
fn setup(ca: &str, (cert, key): &(String, String), daemon: &str) -> String {
    let file =
        |name: &str, mode: &str, content: &str| format!("install -m {mode} /dev/stdin $own/{name} <<'END'\n{content}END\n");
    let files = [
        file("ca.pem", "644", ca),
        file("server-cert.pem", "644", cert),
        file("server-key.pem", "600", key),
        file("daemon.json", "644", daemon),
    ];
    // Terminals take lines of up to 4096 bytes, and it is pasted as one.
    let script: String = include_str!("set-up.sh").lines().map(|line| format!("{}\n", line.trim_start())).collect();
    script.replacen("FILES\n", &files.concat(), 1)
}

/// As a whole, and for nobody else to read.
fn write(dir: &Path, name: &str, content: &str) -> std::io::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(temporary, dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, days: u32) -> CertsArgs {
        CertsArgs { host: vec![host.to_owned()], out: "rack".into(), port: 2376, days }
    }

    /// One that lasts so many days.
    fn lasting(days: u32) -> Authority {
        let (mut params, pair) = (authority().unwrap(), KeyPair::generate().unwrap());
        // A day that has begun counts no more, so there is one more.
        last(&mut params, days + 1);
        let (key, pem) = (pair.serialize_pem(), params.self_signed(&pair).unwrap().pem());
        Authority { pem, key, issuer: Issuer::new(params, pair) }
    }

    #[test]
    fn nothing_lasts_longer_than_the_authority_and_one_that_ends_soon_says_so() {
        for (left, days, lasts) in [(3650, 365, 365), (400, 3650, 400), (364, 365, 0), (364, 300, 300), (30, 31, 0)] {
            let got = lasting(left).days(&asked("x", days));
            match got {
                Ok(got) => assert_eq!(got, lasts, "{days} of {left}"),
                Err(e) => assert!(lasts == 0 && e.message.contains("ends on"), "{days} of {left}: {e:?}"),
            }
        }
        let (signed, _) = lasting(400).sign(&[], 400, ExtendedKeyUsagePurpose::ClientAuth, "x").unwrap();
        assert!(ends(&signed) <= ends(&lasting(400).pem) && ends(&signed).is_some());
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in ["rack-1.example.com", "rack", "10.0.0.7", "fd00::7"] {
            check_host(host).unwrap();
        }
        for host in ["", "https://x", "a b", "-oX", "x;y", "rack:22", "*.example.com"] {
            assert!(check_host(host).is_err(), "{host:?}");
        }
    }
}
