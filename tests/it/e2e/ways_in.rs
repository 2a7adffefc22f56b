//! Ways into a workspace by hand: commands, files, ports.

use super::records;
use super::world::{PATIENCE, World, in_world, until};
use crate::support::cutter::Cutter;
use crate::support::dockerd::TINY;
use crate::support::image::{image_with, program};
use crate::support::{bare, devsanctum};
use devsanctum::resource::Template;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A workspace `w0` of this image, in which work is done as user 1000 in /data, and which listens on its localhost alone.
async fn workspace(world: &World<'_>, image: &str) {
    let templates: Api<Template> = Api::all(world.client.clone());
    let serve = "chown 1000 /data && echo $HOSTNAME hello > /tmp/index.html && httpd -p 127.0.0.1:9000 -h /tmp && httpd -p 8080 -h /tmp; \
                 nc -ll -p 9002 -e echo I speak first & \
                 trap 'exit 0' TERM; while :; do sleep 3600 & wait; done";
    let spec = json!({"base": image, "user": "1000", "workdir": "/data", "startCommand": ["sh", "-c", serve]});
    templates.patch("hello", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    world.create(records::workspace("w0")).await;
    world.at_rest().await;
}

fn cli(world: &World<'_>, args: &[&str]) -> Command {
    let mut command = devsanctum();
    command.arg("--state-dir").arg(world.state_dir()).args(["-n", "team"]).args(args).stdin(Stdio::null());
    command
}

/// Runs a command to its end, while this thread goes on.
async fn ran(mut command: Command) -> (i32, String, String) {
    let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

async fn processes(world: &World<'_>) -> String {
    world.docker_says(&["exec", &world.container("w0").await, "ps"])
}

/// A child that is ended with its test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn commands_are_run_as_the_user_of_the_template_and_hung_up_with_their_caller() {
    in_world(async |world| {
        world.ground().await;
        workspace(&world, TINY).await;
        let (code, out, err) = ran(cli(&world, &["exec", "w0", "--", "sh", "-c", "id -u; pwd; touch mine; exit 3"])).await;
        assert_eq!((code, out.as_str(), err.as_str()), (3, "1000\n/data\n", ""));

        // It ends while its caller is still writing, and tells all the same how.
        let mut command = cli(&world, &["exec", "-i", "w0", "--", "sh", "-c", "head -c 2 && exit 7"]);
        let zeros = Command::new("head").args(["-c", "100000000", "/dev/zero"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut zeros = Running(zeros);
        command.stdin(zeros.0.stdout.take().unwrap());
        assert_eq!(ran(command).await, (7, "\0\0".into(), String::new()));

        let script = "setsid sleep 5001 & sleep 5002";
        let mut command = cli(&world, &["exec", "w0", "--", "sh", "-c", script]);
        let mut running = Running(command.stdout(Stdio::null()).spawn().unwrap());
        until("the command", PATIENCE, async || match processes(&world).await {
            all if all.contains("sleep 5001") && all.contains("sleep 5002") => Ok(()),
            all => Err(all),
        })
        .await;
        running.0.kill().unwrap();
        until("the command to be hung up", PATIENCE, async || match processes(&world).await {
            all if all.contains("sleep 5002") => Err(all),
            _ => Ok(()),
        })
        .await;
        let left = processes(&world).await;
        assert!(left.contains("sleep 5001"), "what left its session is meant to stay: {left}");
    });
}

#[test]
fn files_go_in_and_out() {
    in_world(async |world| {
        world.ground().await;
        workspace(&world, TINY).await;
        let here = tempfile::tempdir().unwrap();
        let (from, back) = (here.path().join("from"), here.path().join("back"));
        std::fs::create_dir_all(from.join("deep")).unwrap();
        let big: Vec<u8> = (0..16_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(from.join("deep/big"), &big).unwrap();
        std::os::unix::fs::symlink("deep/big", from.join("link")).unwrap();
        let path = |p: &Path| p.display().to_string();

        let copied = ran(cli(&world, &["cp", &path(&from), "w0:/data/new"])).await;
        assert_eq!(copied, (0, String::new(), String::new()));
        let (_, listed, _) = ran(cli(&world, &["exec", "w0", "--", "stat", "-c", "%u %n", "/data/new/deep/big"])).await;
        assert_eq!(listed, "1000 /data/new/deep/big\n");
        assert_eq!(ran(cli(&world, &["cp", "w0:/data/new", &path(&back)])).await.0, 0);
        assert!(std::fs::read(back.join("deep/big")).unwrap() == big, "it came back otherwise");
        assert_eq!(std::fs::read_link(back.join("link")).unwrap(), Path::new("deep/big"));

        // Into a folder that is there, under its own name.
        assert_eq!(ran(cli(&world, &["cp", &path(&from.join("deep/big")), "ws/w0:/data/new/"])).await.0, 0);
        assert_eq!(ran(cli(&world, &["cp", "w0:new/big", &path(here.path())])).await.0, 0);
        assert_eq!(std::fs::metadata(here.path().join("big")).unwrap().len(), big.len() as u64);

        let (code, _, words) = ran(cli(&world, &["cp", "w0:/data/none", &path(here.path())])).await;
        assert!(code == 1 && words.contains("none") && words.contains("No such file"), "{words}");
        let (code, _, words) = ran(cli(&world, &["cp", &path(&from), "w0:/root/new"])).await;
        assert!(code == 1 && words.contains("Permission denied"), "{words}");
        let (code, _, words) = ran(cli(&world, &["cp", "a", "b"])).await;
        assert!(code == 2 && words.contains("WORKSPACE:PATH"), "{words}");
    });
}

/// Asks for a page over a connection to there; nothing where none is taken.
pub fn page(address: SocketAddr) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn ports_on_a_workspaces_localhost_are_reached_from_here() {
    in_world(async |world| {
        // busybox has nc alone; bash is what most images have.
        let bash = image_with(world.daemon, "ds-test/bash:1", &[program("bash")]);
        world.ground().await;
        for image in [TINY, bash] {
            workspace(&world, image).await;
            let mut command = cli(&world, &["port-forward", "w0", ":9000", "0:9001", "0:9002"]);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let (out, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
            let _running = Running(child);
            let (addresses, mut errors) = tokio::task::spawn_blocking(move || {
                let lines: Vec<String> = BufReader::new(out).lines().take(3).map(Result::unwrap).collect();
                let address = |line: &String| line.split(' ').nth(2).unwrap().parse::<SocketAddr>().unwrap();
                (lines.iter().map(address).collect::<Vec<_>>(), BufReader::new(errors))
            })
            .await
            .unwrap();
            let (open, closed, first) = (addresses[0], addresses[1], addresses[2]);
            assert!(open.ip().is_loopback());
            for _ in 0..3 {
                let text = tokio::task::spawn_blocking(move || page(open)).await.unwrap();
                assert!(text.contains(" 200 OK") && text.ends_with("w0 hello\n"), "{text}");
            }
            // Who is called may speak first, and be done before anything was asked.
            for _ in 0..3 {
                let text = tokio::task::spawn_blocking(move || page(first)).await.unwrap();
                assert_eq!(text, "I speak first\n");
            }
            let (text, words) = tokio::task::spawn_blocking(move || {
                let text = page(closed);
                let mut words = String::new();
                errors.read_line(&mut words).unwrap();
                (text, words)
            })
            .await
            .unwrap();
            assert_eq!(text, "");
            assert!(words.contains("nothing takes a connection to localhost:9001"), "{words}");
            world.delete("w0").await;
            world.gone("w0").await;
        }
    });
}

#[test]
fn a_terminal_survives_its_connection() {
    in_world(async |world| {
        world.ground().await;
        workspace(&world, TINY).await;
        let cutter = Cutter::to(world.api()).await;
        let state = world.state_dir().display().to_string();
        let line = format!(
            "{} --server https://{} --token-file {state}/admin.token --ca-file {state}/tls/ca.crt -n team terminal w0",
            devsanctum().get_program().display(),
            cutter.address
        );
        // It wants a terminal of its own on this side, too.
        let mut script = bare("script");
        script.args(["-qfec", &line, "/dev/null"]).env("SHELL", "/bin/sh").env("TERM", "xterm");
        let mut running = Running(script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let (mut keys, mut out) = (running.0.stdin.take().unwrap(), running.0.stdout.take().unwrap());
        let screen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let seen = screen.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut piece) {
                seen.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        let shows = async |what: &str| {
            until(what, PATIENCE, async || match String::from_utf8_lossy(&screen.lock().unwrap()) {
                text if text.contains(what) => Ok(()),
                text => Err(text.into_owned()),
            })
            .await;
        };
        keys.write_all(b"X=kept; id -u; pwd; echo begin-$((1+1)); stty size\n").unwrap();
        for what in ["1000", "/data", "begin-2"] {
            shows(what).await;
        }
        keys.write_all(b"(sleep 3; echo while-$((40+2))) &\n").unwrap();
        cutter.cut_after(1, true);
        until("the cut", PATIENCE, async || if cutter.cuts() > 0 { Ok(()) } else { Err(String::new()) }).await;
        shows("[connected again]").await;
        // What was said meanwhile is there, and the shell is the one it was.
        shows("while-42").await;
        keys.write_all(b"echo $X-$((2+3))\n").unwrap();
        shows("kept-5").await;
        let text = String::from_utf8_lossy(&screen.lock().unwrap()).into_owned();
        assert_eq!(text.matches("begin-2").count(), 1, "it was shown again: {text}");
        keys.write_all(b"exit 7\n").unwrap();
        let code = tokio::task::spawn_blocking(move || running.0.wait().unwrap().code()).await.unwrap();
        assert_eq!(code, Some(7), "{}", String::from_utf8_lossy(&screen.lock().unwrap()));
    });
}
