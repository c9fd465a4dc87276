//! Who can sign in to the demo's application, and the middleware that finds out who has.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use auditq::{Actor, ActorExt as _, Identify, Recorder};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Given in turn, and then numbered.
const NAMES: [&str; 20] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim", "leo", "mallory",
    "niaj", "olivia", "peggy", "quentin", "rupert", "sybil", "trent",
];

/// Somebody with an account.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: i64,
    pub(super) username: String,
    /// A secret: what the client signs in with.
    pub(super) session_token: String,
    /// A secret.
    pub(super) password: String,
}

impl User {
    /// Makes the `count` users of a run, with secrets that nobody can know beforehand.
    pub(super) fn make(count: u32) -> Vec<Self> {
        let user = |number: u32| {
            let name = NAMES[number as usize % NAMES.len()];
            let username = match number as usize / NAMES.len() {
                0 => name.to_owned(),
                round => format!("{name}{}", round + 1),
            };
            Self {
                id: i64::from(number) + 1,
                username,
                session_token: format!("tok-{}", random_hex()),
                password: format!("pwd-{}", random_hex()),
            }
        };
        (0..count).map(user).collect()
    }
}

/// 64 bits that differ from run to run and call to call.
pub(super) fn random_hex() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::time::Instant::now()))
}

/// Left in a request's extensions by [`authenticate`]: what handlers and the audit layer know of the user.
#[derive(Clone, Debug)]
pub(super) struct SignedIn {
    pub(super) user_id: i64,
    pub(super) username: String,
    actor: Actor,
}

impl Identify for SignedIn {
    fn actor(&self) -> Option<Actor> {
        Some(self.actor.clone())
    }
}

/// The sessions that are open, by token.
#[derive(Debug)]
pub(super) struct Sessions(HashMap<String, SignedIn>);

impl Sessions {
    /// Opens one for each user.
    pub(super) fn of(users: &[User], recorder: &Recorder) -> Self {
        let session = |user: &User| {
            let mut actor = Actor::user(user.id, &user.username);
            actor.session_hash = Some(recorder.session_hash(&user.session_token));
            let signed_in = SignedIn { user_id: user.id, username: user.username.clone(), actor };
            (user.session_token.clone(), signed_in)
        };
        Self(users.iter().map(session).collect())
    }
}

/// Lets requests without a token through, and says who it is for those with one.
pub(super) async fn authenticate(State(sessions): State<Arc<Sessions>>, mut request: Request, next: Next) -> Response {
    if let Some(header) = request.headers().get(AUTHORIZATION) {
        let token = header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
        let Some(signed_in) = token.and_then(|token| sessions.0.get(token)) else {
            return StatusCode::UNAUTHORIZED.into_response();
        };
        let signed_in = signed_in.clone();
        request.extensions_mut().insert(signed_in);
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_a_name_and_a_token_of_its_own() {
        let users = User::make(45);
        let names: std::collections::HashSet<_> = users.iter().map(|user| &user.username).collect();
        let tokens: std::collections::HashSet<_> = users.iter().map(|user| &user.session_token).collect();
        assert_eq!((names.len(), tokens.len()), (45, 45));
        assert_eq!((users[0].username.as_str(), users[20].username.as_str()), ("alice", "alice2"));
    }
}
