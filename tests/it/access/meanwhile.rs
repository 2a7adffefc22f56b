//! What happens between the moment that a password's hash is read and the moment that it has been compared.

use super::Town;
use argon2::password_hash::PasswordHasher;
use devsanctum::access::{Directory, Password, Place, Refused, SignIn, Visitor};
use devsanctum::store::{Credential, ProviderIdentity};
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

const OLD: &str = "correct horse battery";
const NEW: &str = "another horse battery";

fn at(n: u8) -> Visitor {
    Visitor { address: format!("192.0.2.{n}").parse().unwrap(), agent: String::new(), known: None, session: None }
}

fn words(text: &str) -> Password {
    text.to_owned().into()
}

fn over(town: &Town) -> Arc<SignIn> {
    Arc::new(SignIn::new(town.api.store.clone(), Arc::new(Directory::new(town.api.store.clone()))))
}

fn credential(hash: String) -> Credential {
    Credential { user: "reader".into(), hash }
}

async fn hashed(text: &str) -> String {
    words(text).hash(Place::take().unwrap()).await.unwrap().unwrap()
}

/// Keeps those who hash waiting for a while, as others who sign in do.
fn crowd(people: &Arc<SignIn>) -> Vec<tokio::task::JoinHandle<()>> {
    let guess = |n: u8| {
        let people = people.clone();
        tokio::spawn(async move {
            let _ = people.sign_in(&format!("nobody-{n}@example.com"), words(OLD), &at(n), Timestamp::now()).await;
        })
    };
    (100..106).map(guess).collect()
}

/// Whichever comes first, the old password opens nothing once there is a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_the_old_password_does_not_begin_after_the_new_one_is_set() {
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    let better = hashed(NEW).await;
    for n in 0..3 {
        people.set_password("reader", words(OLD), None, now).await.unwrap();
        let crowd = crowd(&people);
        let late = {
            let people = people.clone();
            tokio::spawn(async move { people.sign_in("reader@example.com", words(OLD), &at(n), now).await })
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        town.api.store.set_credential(credential(better.clone()), now.as_millisecond(), None).await.unwrap();
        let late = late.await.unwrap();
        assert!(people.sessions_of("reader").await.unwrap().is_empty(), "{late:?}");
        for one in crowd {
            one.await.unwrap();
        }
    }
    assert!(people.sign_in("reader@example.com", words(NEW), &at(9), now).await.is_ok());
}

/// A hash that is made anew, since it was a weak one, is one of the password that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_that_is_renewed_does_not_bring_an_old_password_back() {
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    let params = argon2::Params::new(8192, 1, 1, None).unwrap();
    let weak = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let (weak, better) = (weak.hash_password(OLD.as_bytes()).unwrap().to_string(), hashed(NEW).await);
    let store = &town.api.store;
    store.set_credential(credential(weak.clone()), now.as_millisecond(), None).await.unwrap();
    people.sign_in("reader@example.com", words(OLD), &at(1), now).await.unwrap();
    let renewed = store.credential_of("reader").await.unwrap().unwrap().hash;
    assert!(renewed != weak && renewed.contains("m=19456"), "{renewed}");
    assert_eq!(people.sessions_of("reader").await.unwrap().len(), 1, "nobody is signed out by it");
    for n in 2..5 {
        store.set_credential(credential(weak.clone()), now.as_millisecond(), None).await.unwrap();
        let crowd = crowd(&people);
        let late = {
            let people = people.clone();
            tokio::spawn(async move { people.sign_in("reader@example.com", words(OLD), &at(n), now).await })
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        store.set_credential(credential(better.clone()), now.as_millisecond(), None).await.unwrap();
        let _ = late.await.unwrap();
        assert_eq!(store.credential_of("reader").await.unwrap().unwrap().hash, better);
        for one in crowd {
            one.await.unwrap();
        }
    }
}

/// Each has proved themselves by the password that there was; the first to set another has ended it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_change_a_password_at_once_one_does() {
    let (town, now) = (Town::new().await, Timestamp::now());
    let people = over(&town);
    people.set_password("reader", words(OLD), None, now).await.unwrap();
    let begin = async |n: u8| {
        let signed_in = people.sign_in("reader@example.com", words(OLD), &at(n), now).await.unwrap();
        people.session(signed_in.session.reveal(), None, now).await.unwrap().unwrap()
    };
    let (one, two) = (begin(1).await, begin(2).await);
    let (by_one, by_two) = (at(1), at(2));
    let (first, second) = tokio::join!(
        people.change_password(&one, words(OLD), words("the first one's words"), &by_one, now),
        people.change_password(&two, words(OLD), words("the second one's words"), &by_two, now),
    );
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let refused = if first.is_ok() { second } else { first };
    assert!(matches!(refused, Err(Refused::Wrong)), "{refused:?}");
    assert_eq!(people.sessions_of("reader").await.unwrap().len(), 1);
}

/// Whoever is known by two providers and has no password loses one of them at the most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_last_ways_in_that_go_at_once_one_stays() {
    let (town, now) = (Town::new().await, Timestamp::now().as_millisecond());
    let people = over(&town);
    let issuers = ["https://one.example.com", "https://two.example.com"];
    for _ in 0..5 {
        for issuer in issuers {
            let (issuer, subject, user) = (issuer.to_owned(), "7".to_owned(), "reader".to_owned());
            let (provider, login) = ("hub".to_owned(), "reader".to_owned());
            let it = ProviderIdentity { issuer, subject, user, provider, login, created_at: now, used_at: now };
            town.api.store.add_identity(it).await.unwrap();
        }
        let (one, two) = tokio::join!(people.disconnect("reader", issuers[0]), people.disconnect("reader", issuers[1]));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        assert!(matches!(if one.is_ok() { two } else { one }, Err(Refused::LastWay)));
        assert_eq!(town.api.store.identities_of("reader").await.unwrap().len(), 1);
    }
    people.set_password("reader", words(NEW), None, Timestamp::now()).await.unwrap();
    for issuer in issuers {
        people.disconnect("reader", issuer).await.unwrap();
    }
    assert!(town.api.store.identities_of("reader").await.unwrap().is_empty());
}
