use std::time::Duration;

use auditq::{Actor, ActorExt, Context, InContext, Origin};

use crate::support::{alice, bob, setup, setup_with};

fn user() -> Option<String> {
    Context::current().actor().and_then(|actor| actor.username.clone())
}

#[test]
fn a_guard_ends_where_it_is_dropped() {
    assert_eq!(user(), None);
    let outer = alice().enter();
    assert_eq!(user().as_deref(), Some("alice"));
    bob().run(|| assert_eq!(user().as_deref(), Some("bob")));
    assert_eq!(user().as_deref(), Some("alice"));
    drop(outer);
    assert_eq!(user(), None);
}

#[test]
fn the_context_comes_back_after_a_panic() {
    let caught = std::panic::catch_unwind(|| alice().run(|| panic!("in a handler")));
    assert!(caught.is_err());
    assert_eq!(user(), None);
}

#[test]
fn the_first_to_sign_in_stays() {
    let context = Context::new(Origin { request_id: Some("r".into()), ..Origin::default() });
    assert!(context.sign_in(Actor::user(1, "alice")));
    assert!(!context.sign_in(Actor::user(2, "bob")));
    assert_eq!(context.actor().unwrap().username.as_deref(), Some("alice"));
    let impersonating = context.acting_as(Actor::user(2, "bob"));
    assert_eq!(impersonating.actor().unwrap().username.as_deref(), Some("bob"));
    assert_eq!(impersonating.origin().unwrap().request_id.as_deref(), Some("r"));
    assert!(!Context::outside().sign_in(Actor::user(1, "alice")));
}

#[test]
fn who_signs_in_half_way_is_the_user_of_what_comes_after() {
    let setup = setup_with(|config| config.capture.track_anonymous = true);
    let context = Context::new(Origin::default());
    context.run(|| {
        setup.record("SELECT 1");
        Context::current().sign_in(Actor::user(1, "alice"));
        setup.record("SELECT 2");
    });
    let users: Vec<_> = setup.events().into_iter().map(|event| event.actor.username).collect();
    assert_eq!(users, [None, Some("alice".to_owned())]);
}

#[test]
fn a_closure_carries_its_context_to_another_thread() {
    let wrapped = alice().wrap(user);
    assert_eq!(std::thread::spawn(wrapped).join().unwrap().as_deref(), Some("alice"));
    assert_eq!(std::thread::spawn(user).join().unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_users_never_mix_over_ten_thousand_awaits() {
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (context, name) = if number % 2 == 0 { (alice(), "alice") } else { (bob(), "bob") };
            let work = async move {
                for _ in 0..1_000 {
                    tokio::task::yield_now().await;
                    assert_eq!(user().as_deref(), Some(name));
                }
            };
            tokio::spawn(work.audited(context))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(user(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_that_is_dropped_half_way_is_dropped_in_its_context() {
    struct TellsWhenDropped(std::sync::mpsc::Sender<Option<String>>);
    impl Drop for TellsWhenDropped {
        fn drop(&mut self) {
            self.0.send(user()).unwrap();
        }
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let guard = TellsWhenDropped(sender);
    let waiting = async move {
        let _held = guard;
        std::future::pending::<()>().await;
    };
    let timed_out = tokio::time::timeout(Duration::from_millis(1), waiting.audited(alice())).await;
    assert!(timed_out.is_err());
    assert_eq!(receiver.recv().unwrap().as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_spawned_task_has_its_makers_context_only_when_it_is_given_it() {
    async {
        let given = tokio::spawn(async { user() }.in_current_context());
        let not_given = tokio::spawn(async { user() });
        assert_eq!(given.await.unwrap().as_deref(), Some("alice"));
        assert_eq!(not_given.await.unwrap(), None);
    }
    .audited(alice())
    .await;
}

#[test]
fn the_user_is_the_one_of_the_beginning_wherever_the_statement_ends() {
    let setup = setup();
    let observed = alice().run(|| setup.observed("SELECT 1"));
    bob().run(|| setup.recorder.record(&observed));
    assert_eq!(setup.events()[0].actor.username.as_deref(), Some("alice"));
}
