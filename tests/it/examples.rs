//! Everything a reader may copy is accepted: the files in `examples/`, and the examples in the kinds' pages.

use crate::support::api::Api;
use crate::support::cli::Served;
use crate::support::source::{files, root};

#[tokio::test(flavor = "multi_thread")]
async fn every_example_folder_can_be_applied_as_it_is() {
    let mut folders = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap().flatten() {
        let served = Served::new(Api::new().await).await;
        let cli = served.cli();
        let path = entry.path().display().to_string();
        let applied = cli.run(&["apply", "-f", &path]).await;
        assert!(applied.ok().lines().all(|l| l.ends_with(" created")), "{path}: {applied:?}");
        let again = cli.run(&["apply", "-f", &path]).await;
        assert!(again.ok().lines().all(|l| l.ends_with(" unchanged")), "{path}: {again:?}");
        folders += 1;
    }
    assert!(folders > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_in_the_kinds_pages_fit_together() {
    let served = Served::new(Api::new().await).await;
    let cli = served.cli();
    let mut documents = Vec::new();
    for page in files("docs/kinds", "md") {
        let blocks: Vec<String> =
            page.text.split("```yaml\n").skip(1).filter_map(|t| t.split_once("```")).map(|(block, _)| block.to_owned()).collect();
        assert!(!blocks.is_empty(), "{} has no example", page.path);
        documents.extend(blocks);
    }
    let file = cli.file("all.yaml", &documents.join("---\n"));
    let applied = cli.run(&["apply", "-f", &file]).await;
    assert_eq!(applied.ok().lines().filter(|l| l.ends_with(" created")).count(), documents.len(), "{applied:?}");
}

#[test]
fn the_guest_book_is_made_of_the_library_as_it_is() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let example = text("examples/node-postgres/library.yaml");
    for name in ["templates/node", "features/postgresql", "features/code-server"] {
        let own = text(&format!("manifests/library/{name}.yaml"));
        assert!(example.contains(&own), "copy manifests/library/{name}.yaml into examples/node-postgres/library.yaml");
    }
}
