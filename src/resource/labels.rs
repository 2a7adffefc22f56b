//! Names of labels, annotations and finalizers that the platform itself sets.

use kube::ResourceExt;

/// Label and Docker-label prefix of everything this product owns.
pub const PREFIX: &str = "devsanctum.io/";
/// The installation that owns a Docker object: a UUID made at the store's first start.
pub const INSTANCE: &str = "devsanctum.io/instance";
/// `metadata.uid` of the owning record.
pub const UID: &str = "devsanctum.io/uid";
/// Kind of the owning record.
pub const KIND: &str = "devsanctum.io/kind";
/// Namespace (project) of the owning record.
pub const NAMESPACE: &str = "devsanctum.io/namespace";
/// Name of the owning record.
pub const NAME: &str = "devsanctum.io/name";
/// What a Docker object is to its record: `main`, `sidecar.<name>`, `folder.<name>`, `network`, `probe`, …
pub const ROLE: &str = "devsanctum.io/role";
/// What a server's gateway is to it: the one container that may be in its host's network.
pub const GATEWAY: &str = "gateway";
/// Digest of the settings a Docker object was made from; another digest means it must be made anew.
pub const DIGEST: &str = "devsanctum.io/digest";
/// On a container: the user that commands in it are run as.
pub const USER: &str = "devsanctum.io/user";
/// Holds a workspace until its Docker objects are gone.
pub const WORKSPACE_FINALIZER: &str = "devsanctum.io/workspace";
/// Holds a project until its workspaces are gone.
pub const PROJECT_FINALIZER: &str = "devsanctum.io/project";
/// Holds a server until nothing of ours is left on it.
pub const SERVER_FINALIZER: &str = "devsanctum.io/docker-server";
/// Holds a record that others still refer to.
pub const IN_USE_FINALIZER: &str = "devsanctum.io/in-use";
/// Set to `"true"` on a record being deleted whose server will never come back: lets it go and says what stays behind.
pub const ABANDON: &str = "devsanctum.io/abandon";
/// Set to `"true"` to stop a record's loop; nothing of it is changed until it is taken off.
pub const SUSPEND: &str = "devsanctum.io/suspend";
/// On an invitation: another value than before sends it anew.
pub const RESEND: &str = "devsanctum.io/resend";
/// On a user: uid of the invitation they were made of.
pub const INVITATION: &str = "devsanctum.io/invitation";
/// Set to the digest named by the `UpToDate` condition, makes an outdated container anew. Its own file system is
/// lost; its folders stay.
pub const RECREATE: &str = "devsanctum.io/recreate";
/// On an image: the installation that built it. Not [`INSTANCE`], which would make every container of the image look like one
/// of ours.
pub const BUILT_BY: &str = "devsanctum.io/built-by";
/// On a volume: the move that made it. Another one's is not written to. Of two moves the later one is the greater one.
pub const MOVE: &str = "devsanctum.io/move";
/// Hexadecimal digits, at the beginning of what tells a move from others, of when it began, in milliseconds since 1970.
pub const MOVE_TIME: usize = 11;
/// Names, on a server, the id of an engine that may take the place of the one which held its workspaces.
pub const ACCEPT_ENGINE: &str = "devsanctum.io/accept-engine";
/// Set to `"true"` on a server, allows one removal of more strays than the fuse lets pass.
pub const REMOVE_STRAYS: &str = "devsanctum.io/remove-strays";
/// On a server: another value than before has it looked at, and its isolation proved, at once.
pub const TESTED: &str = "devsanctum.io/tested";
/// On the settings: the records come from the backup of this time. What they do not know on a server is left alone until
/// this is taken off, or [`REMOVE_STRAYS`] is set on the server.
pub const RESTORED: &str = "devsanctum.io/restored";

/// Whether its loop is stopped by [`SUSPEND`].
pub fn is_suspended(record: &impl ResourceExt) -> bool {
    record.annotations().get(SUSPEND).is_some_and(|v| v == "true")
}
