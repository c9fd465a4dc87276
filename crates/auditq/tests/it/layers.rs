use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context as TaskContext, Poll};

use auditq::{Actor, ActorExt, ActorOfRequest, Context, Identify, OriginKind};
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::support::setup;

#[derive(Clone)]
struct Session {
    user: Option<&'static str>,
}

impl Identify for Session {
    fn actor(&self) -> Option<Actor> {
        self.user.map(|name| Actor::user(name.len(), name))
    }
}

/// Answers with the user that its context names, once when called and once when polled.
#[derive(Clone)]
struct WhoAmI;

impl Service<Request<String>> for WhoAmI {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        let called_in = name();
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(Response::new(format!("{called_in} {}", name())))
        })
    }
}

fn name() -> String {
    Context::current().actor().and_then(|actor| actor.username.clone()).unwrap_or_default()
}

fn request(user: Option<&'static str>) -> Request<String> {
    let mut request = Request::post("/orders?token=x").header("x-request-id", "r-1").body(String::new()).unwrap();
    request.extensions_mut().insert(Session { user });
    request
}

#[tokio::test]
async fn the_handler_runs_in_the_requests_context() {
    let setup = setup();
    let layer = setup.recorder.layer(Actor::from_extension::<Session>);
    let mut service = layer.layer(WhoAmI);
    let answer = service.call(request(Some("alice"))).await.unwrap();
    assert_eq!(answer.body(), "alice alice");
    assert_eq!(service.call(request(None)).await.unwrap().body(), " ");
    assert_eq!(name(), "");
}

#[derive(Clone)]
struct Recording(std::sync::Arc<crate::support::Setup>);

impl Service<Request<String>> for Recording {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        self.0.record("SELECT 1");
        ready(Ok(()))
    }
}

#[tokio::test]
async fn an_event_says_which_request_it_belongs_to() {
    let setup = std::sync::Arc::new(setup());
    let layer = setup.recorder.layer(|request: &Request<String>| Actor::from_extension::<Session>(request));
    let layer = layer.ip(|_| Some("192.0.2.1".to_owned()));
    let mut service = layer.layer(Recording(std::sync::Arc::clone(&setup)));
    service.call(request(Some("alice"))).await.unwrap();
    let origin = &setup.events()[0].origin;
    assert_eq!(origin.kind, OriginKind::Http);
    assert_eq!(origin.request_id.as_deref(), Some("r-1"));
    assert_eq!((origin.http_method.as_deref(), origin.url_path.as_deref()), (Some("POST"), Some("/orders")));
    assert_eq!(origin.ip.as_deref(), Some("192.0.2.1"));
}
