use super::*;
use proptest::prelude::*;

/// A file: its name, what is in it, its mode.
type File = (String, Vec<u8>, u32);

fn pack(files: &[File], gnu: bool) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = if gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
        header.set_uid(1234);
        header.set_gid(99);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn digest(archive: &[u8], piece: usize) -> Result<String, String> {
    let mut digest = ArchiveDigest::default();
    archive.chunks(piece).for_each(|chunk| digest.push(chunk));
    digest.finish()
}

fn file(name: &str, content: &str, mode: u32) -> File {
    (name.to_owned(), content.as_bytes().to_vec(), mode)
}

fn some() -> Vec<File> {
    let long = format!("volume/{}/end", "deep/".repeat(30));
    vec![file("volume/a", "one", 0o644), file("volume/b", "", 0o600), file(&long, &"x".repeat(1500), 0o755)]
}

#[test]
fn a_file_that_differs_in_anything_is_another() {
    let own = digest(&pack(&some(), true), 700).unwrap();
    assert!(own.starts_with("sha256:") && own.len() == 71, "{own}");
    let mut others = vec![some()[1..].to_vec(), [some(), vec![file("volume/c", "", 0o644)]].concat()];
    for change in [file("volume/A", "one", 0o644), file("volume/a", "two", 0o644), file("volume/a", "one", 0o640)] {
        others.push([vec![change], some()[1..].to_vec()].concat());
    }
    for other in others {
        assert_ne!(digest(&pack(&other, true), 700).unwrap(), own, "{other:?}");
    }
}

#[test]
fn how_an_archive_is_written_does_not_matter() {
    let short = &some()[..2];
    assert_eq!(digest(&pack(short, true), 512), digest(&pack(short, false), 512));
    let turned: Vec<File> = some().into_iter().rev().collect();
    assert_eq!(digest(&pack(&turned, true), 9), digest(&pack(&some(), true), 4096));
}

/// As Docker 20.10 does, and later ones do not.
#[test]
fn the_kind_of_a_file_in_its_mode_does_not_count() {
    let of = |mode| digest(&pack(&[file("volume/a", "one", mode)], false), 512).unwrap();
    assert_eq!(of(0o100_644), of(0o644));
    assert_ne!(of(0o104_755), of(0o755));
}

/// As Go's `archive/tar` writes long names, and times that are not whole seconds.
#[test]
fn what_is_told_beforehand_counts_in_place_of_the_header() {
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length = (rest.len() + 1..).find(|n| rest.len() + n.to_string().len() == *n).unwrap();
        format!("{length}{rest}")
    };
    let (long, mut archive) = (some()[2].0.clone(), tar::Builder::new(Vec::new()));
    let extra = record("path", &long) + &record("mtime", "1700000000.25");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(extra.len() as u64);
    archive.append_data(&mut header, "extra", extra.as_bytes()).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1500);
    header.set_mode(0o755);
    header.set_mtime(5);
    header.set_uid(1234);
    header.set_gid(99);
    archive.append_data(&mut header, "short", "x".repeat(1500).as_bytes()).unwrap();
    assert_eq!(digest(&archive.into_inner().unwrap(), 100), digest(&pack(&some()[2..], true), 100));
}

#[test]
fn what_is_said_of_a_file_has_an_end() {
    let of = |length: usize| {
        let mut archive = tar::Builder::new(Vec::new());
        for kind in [b'L', b'K'] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_size(length as u64);
            archive.append_data(&mut header, "extra", "x".repeat(length).as_bytes()).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        archive.append_data(&mut header, "file", &[][..]).unwrap();
        digest(&archive.into_inner().unwrap(), 4096)
    };
    assert!(of(1 << 20).is_ok());
    assert!(of(3 << 20).unwrap_err().contains("too much is said"), "each of them is short enough");
}

#[test]
fn one_that_was_cut_off_has_none() {
    let whole = pack(&some(), true);
    // What comes after its mark does not count.
    for end in (0..whole.len() - 1024).step_by(100) {
        assert!(digest(&whole[..end], 333).is_err(), "cut at {end}");
    }
    assert!(digest(&[], 1).is_err());
    assert!(digest(b"not an archive".repeat(100).as_slice(), 512).is_err());
}

proptest! {
    #[test]
    fn pieces_of_any_length_and_bytes_of_any_kind_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..3000), piece in 1usize..900) {
        let whole = digest(&bytes, usize::MAX);
        prop_assert_eq!(digest(&bytes, piece), whole);
        let archive = pack(&[("volume/f".to_owned(), bytes, 0o644)], true);
        prop_assert_eq!(digest(&archive, piece), digest(&archive, 512));
    }
}
