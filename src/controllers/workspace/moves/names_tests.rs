use super::*;
use proptest::prelude::*;
use tar::EntryType;

const IMAGE: &str = "devsanctum/moved:abcd1234";
const MANIFEST: &str = r#"[{"Config":"c.json","RepoTags":["devsanctum/moved:abcd1234"],"Layers":["l/layer.tar"]}]"#;
const INDEX: &str = r#"{"schemaVersion":2,"manifests":[{"size":5,"annotations":{"io.containerd.image.name":
    "docker.io/devsanctum/moved:abcd1234","org.opencontainers.image.ref.name":"abcd1234"}}]}"#;
const REPOSITORIES: &str = r#"{"devsanctum/moved":{"abcd1234":"0011"}}"#;

type Entry<'a> = (&'a str, EntryType, &'a str);

fn file<'a>(name: &'a str, content: &'a str) -> Entry<'a> {
    (name, EntryType::Regular, content)
}

fn header(name: &str, kind: EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

fn pack(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        archive.append(&header(name, *kind, content.len()), content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn judged(archive: &[u8], piece: usize) -> Result<(), String> {
    let mut guard = NameGuard::new(IMAGE);
    archive.chunks(piece).try_for_each(|chunk| guard.push(chunk))
}

fn refused(entries: &[Entry<'_>]) -> String {
    let archive = pack(entries);
    for piece in [1, 511, 4096] {
        // Not even the last byte of what is wrong goes on.
        assert_eq!(judged(&archive, piece), judged(&archive, usize::MAX));
    }
    judged(&archive, 700).expect_err(&format!("{entries:?}"))
}

#[test]
fn one_with_its_own_name_alone_is_let_through_as_engines_write_it() {
    let layer = "x".repeat(1500);
    let all = [
        ("blobs/", EntryType::Directory, ""),
        file("blobs/sha256/0011", &layer),
        ("l/layer.tar", EntryType::Symlink, ""),
        file("index.json", INDEX),
        file("manifest.json", MANIFEST),
        file("repositories", REPOSITORIES),
    ];
    let archive = pack(&all);
    for piece in [1, 700, usize::MAX] {
        assert_eq!(judged(&archive, piece), Ok(()));
    }
    let unnamed = r#"[{"Config":"c","RepoTags":null,"Layers":[]}]"#;
    assert_eq!(judged(&pack(&[file("manifest.json", unnamed)]), 512), Ok(()));
}

#[test]
fn another_name_is_refused_wherever_it_is_said() {
    let manifests = [
        r#"[{"RepoTags":["devsanctum/moved:abcd1234","devsanctum/env:1"]}]"#,
        r#"[{"RepoTags":["devsanctum/moved:abcd1234"]},{"RepoTags":["devsanctum/env:1"]}]"#,
        r#"[{"RepoTags":["devsanctum/env:1"],"RepoTags":["devsanctum/moved:abcd1234"]}]"#,
        r#"[{"RepoTags":["devsanctum/moved:abcd1234"],"repotags":["devsanctum/env:1"]}]"#,
        "[{\"RepoTag\u{17f}\":[\"devsanctum/env:1\"]}]",
        r#"[{"\u0052epoTags":["devsanctum/env:1"]}]"#,
    ];
    for manifest in manifests {
        let words = refused(&[file("manifest.json", manifest)]);
        assert!(words.contains("devsanctum/env:1"), "{manifest}: {words}");
    }
    for annotation in ANNOTATIONS {
        let index = format!(r#"{{"manifests":[{{"annotations":{{"{annotation}":"devsanctum/env:1"}}}}]}}"#);
        assert!(refused(&[file("index.json", &index)]).contains("devsanctum/env:1"));
    }
    for repositories in [r#"{"devsanctum/env":{"1":"00"}}"#, r#"{"devsanctum/moved":{"other":"00"}}"#] {
        assert!(refused(&[file("repositories", repositories)]).contains("it names an image"));
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let evil = r#"[{"RepoTags":["devsanctum/env:1"]}]"#;
    let own = file("manifest.json", MANIFEST);
    refused(&[own, file("manifest.json", MANIFEST)]);
    for path in
        ["./manifest.json", "a/manifest.json", "a/../manifest.json", "manifest.json/.", "/manifest.json", "manifest.json/x/.."]
    {
        refused(&[own, file(path, evil)]);
    }
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory] {
        refused(&[("manifest.json", kind, "")]);
    }
    for kind in [b'L', b'K', b'g', b'S', b'7', b'Z'] {
        refused(&[("more", EntryType::new(kind), "words")]);
    }
    // Said about the entry, beside its header.
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length = (rest.len() + 1..).find(|n| rest.len() + n.to_string().len() == *n).unwrap();
        format!("{length}{rest}")
    };
    let path = record("path", "manifest.json");
    refused(&[("x", EntryType::XHeader, &path), file("harmless", evil)]);
    for said in [record("path", ""), record("path", "harmless"), record("size", "5")] {
        refused(&[("x", EntryType::XHeader, &said), file("manifest.json", evil)]);
    }
    let size = record("size", "4096");
    refused(&[("x", EntryType::XHeader, &size), ("x", EntryType::XHeader, &record("mtime", "1")), file("a", "")]);
    refused(&[("x", EntryType::XHeader, &record("GNU.sparse.name", "manifest.json")), file("a", "")]);
    // A length that some take for none, and a kind that some take for a folder's.
    for at in [124, 156] {
        let mut archive = pack(&[file("a", "words")]);
        archive[at] = 0;
        assert!(judged(&archive, 512).is_err(), "{at}");
    }
    let long = format!("[{}]", " ".repeat(1 << 20));
    assert!(refused(&[file("manifest.json", &long)]).contains("too long"));
    assert!(refused(&[file("manifest.json", "{")]).contains("cannot be read"));
}

proptest! {
    #[test]
    fn bytes_of_any_kind_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..3000), piece in 1usize..900) {
        prop_assert_eq!(judged(&bytes, piece), judged(&bytes, usize::MAX));
    }
}
