use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{self, Poll};

use auditq_event::{Actor, Origin, OriginKind, cut_at_char_boundary};
use http::{HeaderMap, Request};
use tower_layer::Layer;
use tower_service::Service;

use crate::actor::Identify;
use crate::context::{Audited, Context, InContext};
use crate::recorder::Recorder;

/// Most bytes of a header, a path or an id that are looked at; the recorder's own limits come later.
const TEXT_BYTES: usize = 1024;

type IpOf<B> = dyn Fn(&Request<B>) -> Option<String> + Send + Sync;

/// Gives each HTTP request a [`Context`], with the actor that a closure finds in the request.
///
/// Put it inside the layer that authenticates, so that the closure finds what that one left in the request's
/// extensions. Where authentication comes later, let it call `Context::current().sign_in(actor)`.
///
/// The context holds for the handler and whatever it awaits. It does not hold for a response body that runs statements
/// while it is streamed, unless the stream was made by an adapter within the handler.
pub struct AuditLayer<F, B> {
    actor_of: F,
    ip_of: Option<Arc<IpOf<B>>>,
    _body: PhantomData<fn(B)>,
}

/// The service that [`AuditLayer`] makes.
pub struct AuditService<S, F, B> {
    inner: S,
    layer: AuditLayer<F, B>,
}

impl Recorder {
    /// Makes a layer that gives each request a context; `actor_of` says who is signed in.
    pub fn layer<F, B>(&self, actor_of: F) -> AuditLayer<F, B>
    where
        F: Fn(&Request<B>) -> Option<Actor> + Clone,
    {
        AuditLayer { actor_of, ip_of: None, _body: PhantomData }
    }
}

impl<F, B> AuditLayer<F, B> {
    /// Says where the client's address is found: a header of the proxy that is trusted, or the server's own
    /// connection information. Without it no address is recorded, because a header that anybody can set proves nothing.
    #[must_use]
    pub fn ip(mut self, ip_of: impl Fn(&Request<B>) -> Option<String> + Send + Sync + 'static) -> Self {
        self.ip_of = Some(Arc::new(ip_of));
        self
    }
}

/// Finds actors in requests.
pub trait ActorOfRequest: Sized {
    /// Takes the actor from a `T` that authentication left in the request's extensions.
    fn from_extension<T: Identify + Send + Sync + 'static>(request: &Request<impl Sized>) -> Option<Self>;
}

impl ActorOfRequest for Actor {
    fn from_extension<T: Identify + Send + Sync + 'static>(request: &Request<impl Sized>) -> Option<Self> {
        request.extensions().get::<T>().and_then(Identify::actor)
    }
}

impl<S, F: Clone, B> Layer<S> for AuditLayer<F, B> {
    type Service = AuditService<S, F, B>;

    fn layer(&self, inner: S) -> Self::Service {
        AuditService { inner, layer: self.clone() }
    }
}

impl<S, F, B> Service<Request<B>> for AuditService<S, F, B>
where
    S: Service<Request<B>>,
    F: Fn(&Request<B>) -> Option<Actor>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Audited<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let ip = self.layer.ip_of.as_ref().and_then(|ip_of| ip_of(&request));
        let context = Context::new(origin_of(&request, ip));
        if let Some(actor) = (self.layer.actor_of)(&request) {
            context.sign_in(actor);
        }
        let inner = &mut self.inner;
        context.run(|| inner.call(request)).audited(context)
    }
}

fn origin_of<B>(request: &Request<B>, ip: Option<String>) -> Origin {
    let headers = request.headers();
    let trace_id = text(headers, "traceparent").and_then(|header| trace_id_of(&header));
    Origin {
        kind: OriginKind::Http,
        request_id: text(headers, "x-request-id").or_else(|| trace_id.clone()).or_else(|| Some(new_request_id())),
        trace_id,
        ip: ip.map(|ip| bounded(&ip)),
        http_method: Some(bounded(request.method().as_str())),
        url_path: Some(bounded(request.uri().path())),
        user_agent: text(headers, "user-agent"),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.as_bytes();
    let value = String::from_utf8_lossy(&value[..value.len().min(TEXT_BYTES)]);
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn bounded(text: &str) -> String {
    cut_at_char_boundary(text, TEXT_BYTES).to_owned()
}

/// W3C trace context: `version-traceid-parentid-flags`; an id of zeros is none.
fn trace_id_of(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    let is_id =
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.bytes().any(|byte| byte != b'0');
    is_id.then(|| id.to_owned())
}

fn new_request_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

impl<F: Clone, B> Clone for AuditLayer<F, B> {
    fn clone(&self) -> Self {
        Self { actor_of: self.actor_of.clone(), ip_of: self.ip_of.clone(), _body: PhantomData }
    }
}

impl<S: Clone, F: Clone, B> Clone for AuditService<S, F, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<F, B> fmt::Debug for AuditLayer<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLayer").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, F, B> fmt::Debug for AuditService<S, F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(headers: &[(&str, &str)]) -> Origin {
        let mut request = Request::get("http://shop.test/orders/7?token=secret");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        origin_of(&request.body(()).unwrap(), None)
    }

    #[test]
    fn the_path_is_recorded_without_its_query() {
        let origin = origin(&[("user-agent", "curl/8")]);
        assert_eq!(origin.url_path.as_deref(), Some("/orders/7"));
        assert_eq!(origin.http_method.as_deref(), Some("GET"));
        assert_eq!(origin.user_agent.as_deref(), Some("curl/8"));
        assert_eq!(origin.ip, None);
    }

    #[test]
    fn the_request_id_is_the_clients_or_the_traces_or_a_new_one() {
        let trace = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(origin(&[("x-request-id", "r-1"), trace]).request_id.as_deref(), Some("r-1"));
        assert_eq!(origin(&[trace]).request_id.as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        assert_ne!(origin(&[]).request_id, origin(&[]).request_id);
        for bad in ["", "00", "00-xyz-1-1", "00-00000000000000000000000000000000-1-1"] {
            assert_eq!(origin(&[("traceparent", bad)]).trace_id, None, "{bad}");
        }
    }

    #[test]
    fn a_header_of_any_length_is_bounded() {
        let long = "é".repeat(4000);
        assert!(bounded(&long).len() <= TEXT_BYTES);
        assert!(origin(&[("x-request-id", &"x".repeat(100_000))]).request_id.unwrap().len() <= TEXT_BYTES);
    }
}
