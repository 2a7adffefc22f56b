//! Where a library's records come from: the program itself, or an address.

use crate::cli::args::FromLibrary;
use crate::cli::failure::Failure;
use crate::cli::manifest::position::Source;
use crate::cli::manifest::{self, Document};
use crate::fetch::{FetchError, Fetcher, join};
use crate::library::{self, FILE, Index, Item};
use std::sync::Arc;

/// A library that is open.
pub struct Shelf {
    /// What it holds.
    pub index: Index,
    /// The address of its index, and what fetches; none for the one that is built in.
    online: Option<(String, Fetcher)>,
}

impl Shelf {
    /// Opens the library that is built in, or the one at an address.
    ///
    /// # Errors
    /// When it cannot be fetched, or its index is none.
    pub async fn open(from: &FromLibrary) -> Result<Self, Failure> {
        let Some(address) = &from.from else {
            return Ok(Self { index: library::built_in().clone(), online: None });
        };
        let fetcher = Fetcher::new(from.allow_private);
        let address = index_of(address);
        let text = fetcher.text(&address).await.map_err(not_fetched)?;
        let index = Index::read(&text).map_err(|e| Failure::new(format!("{address} {e}")))?;
        Ok(Self { index, online: Some((address, fetcher)) })
    }

    /// An item by name.
    ///
    /// # Errors
    /// Names those there are.
    pub fn item(&self, name: &str) -> Result<&Item, Failure> {
        self.index.find(name).ok_or_else(|| {
            let known: Vec<&str> = self.index.items.iter().take(50).map(|i| i.name.as_str()).collect();
            Failure::new(format!("the library has no {name:?}")).hint(format!("it has: {}", known.join(", ")))
        })
    }

    /// The text of an item, which is what the index says it is.
    ///
    /// # Errors
    /// When it cannot be had, or is another text.
    pub async fn text(&self, item: &Item) -> Result<String, Failure> {
        let text = match &self.online {
            None => library::text(&item.file).unwrap_or_default().to_owned(),
            Some((index, fetcher)) => {
                let address = join(index, &item.file).map_err(not_fetched)?;
                fetcher.text(&address).await.map_err(not_fetched)?
            }
        };
        let found = library::digest(&text);
        if found != item.sha256 {
            let message = format!(
                "{} is not the file that the index means: its SHA-256 is {found}, and the index says {}",
                item.file, item.sha256
            );
            return Err(Failure::new(message).hint("whoever keeps the library must write its index anew"));
        }
        Ok(text)
    }

    /// The one record of an item.
    ///
    /// # Errors
    /// When it is not exactly the record that the index names.
    pub async fn document(&self, item: &Item) -> Result<Document, Failure> {
        let text = self.text(item).await?;
        let name = match &self.online {
            None => format!("library/{}", item.file),
            Some((index, _)) => join(index, &item.file).map_err(not_fetched)?,
        };
        let (mut documents, complaints) = manifest::parse(&Arc::new(Source { name, text }));
        if !complaints.is_empty() {
            return Err(Failure::from(complaints).hint("nothing was imported"));
        }
        match (documents.pop(), documents.len()) {
            (Some(one), 0) if one.def.kind == item.kind && one.name == item.name && one.namespace.is_none() => Ok(one),
            (_, more) => {
                let message = format!("{} must hold the {} {:?} and nothing else", item.file, item.kind, item.name);
                let found = if more > 0 { format!("{message}; it holds {} records", more + 1) } else { message };
                Err(Failure::new(found).hint("nothing was imported; whoever keeps the library must mend it"))
            }
        }
    }
}

/// The address of a library's index, which may be left to us.
fn index_of(address: &str) -> String {
    match address.ends_with(".yaml") || address.ends_with(".yml") {
        true => address.to_owned(),
        false => format!("{}/{FILE}", address.trim_end_matches('/')),
    }
}

fn not_fetched(e: FetchError) -> Failure {
    let private = matches!(&e, FetchError::NotAsked { private: true, .. });
    let failure = Failure::new(e.to_string());
    if private { failure.hint("where the library is on a network of your own, say --allow-private") } else { failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_its_index() {
        for address in ["https://example.com/lib", "https://example.com/lib/", "https://example.com/lib/index.yaml"] {
            assert_eq!(index_of(address), "https://example.com/lib/index.yaml");
        }
    }
}
