//! `library`: templates and features that are ready to use.

mod import;
mod index;
mod shelf;

use super::args::{FromLibrary, Globals, LibraryArgs, LibraryCommand, ShowArgs};
use super::failure::Failure;
use super::manifest::Document;
use super::ui;
use shelf::Shelf;

/// Runs `library`.
///
/// # Errors
/// When a library cannot be read, has no such record, or the API refuses one.
pub async fn run(globals: &Globals, args: LibraryArgs) -> Result<(), Failure> {
    match args.command {
        LibraryCommand::List(from) => list(&from).await,
        LibraryCommand::Show(args) => show(&args).await,
        LibraryCommand::Import(args) => import::run(globals, args).await,
        LibraryCommand::Index(args) => index::run(&args),
    }
}

/// Records of the library that is built in, with all that they need, in the order of application.
///
/// # Errors
/// When there is no such record.
pub async fn built_in(names: &[String]) -> Result<Vec<Document>, Failure> {
    let shelf = Shelf::open(&FromLibrary { from: None, allow_private: false }).await?;
    import::all(&shelf, names).await
}

async fn list(from: &FromLibrary) -> Result<(), Failure> {
    let shelf = Shelf::open(from).await?;
    let mut rows = vec![["KIND", "NAME", "DESCRIPTION"].map(str::to_owned).to_vec()];
    rows.extend(shelf.index.items.iter().map(|i| vec![i.kind.clone(), i.name.clone(), ui::clean(&i.description)]));
    ui::say(&ui::columns(&rows).join("\n"))
}

async fn show(args: &ShowArgs) -> Result<(), Failure> {
    let shelf = Shelf::open(&args.from).await?;
    let text = shelf.text(shelf.item(&args.name)?).await?;
    ui::say(&ui::clean_lines(&text))
}
