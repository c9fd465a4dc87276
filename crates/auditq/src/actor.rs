use auditq_event::{Actor, ActorType};

/// Makes actors in one line each.
pub trait ActorExt: Sized {
    /// A signed-in person: the application's id, and the name people know them by.
    fn user(id: impl ToString, name: impl Into<String>) -> Self;

    /// A background job.
    fn job(name: impl Into<String>) -> Self;

    /// The application itself.
    fn system(name: impl Into<String>) -> Self;

    /// Says which tenant the actor acts in.
    #[must_use]
    fn in_tenant(self, tenant: impl Into<String>) -> Self;
}

impl ActorExt for Actor {
    fn user(id: impl ToString, name: impl Into<String>) -> Self {
        Self {
            actor_type: ActorType::User,
            user_id: Some(id.to_string()),
            username: Some(name.into()),
            ..Self::default()
        }
    }

    fn job(name: impl Into<String>) -> Self {
        Self { actor_type: ActorType::Job, username: Some(name.into()), ..Self::default() }
    }

    fn system(name: impl Into<String>) -> Self {
        Self { actor_type: ActorType::System, username: Some(name.into()), ..Self::default() }
    }

    fn in_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }
}

/// What an application's session type says of who is signed in.
pub trait Identify {
    /// The person, or `None` for a session that nobody has signed in to.
    fn actor(&self) -> Option<Actor>;
}

/// What query hashes and duplicates know an actor by: the id, or the name where there is no id.
pub(crate) fn user_of(actor: &Actor) -> &str {
    actor.user_id.as_deref().or(actor.username.as_deref()).unwrap_or_default()
}
