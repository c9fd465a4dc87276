//! The clients: one for each user, all at once, until so many statements have run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::http::Client;
use super::ledger::{Count, Ledger};
use super::sessions::User;
use super::tpch::{CUSTOMERS, ORDERS, PARTS};

/// One kind of request.
#[derive(Clone, Copy, Debug)]
struct Card {
    method: &'static str,
    /// `{}` stands for a number up to `numbers`.
    path: &'static str,
    numbers: i64,
    signed_in: bool,
    /// Statements that it executes, at the most.
    statements: u64,
    /// How many of them are in the deck.
    share: usize,
}

const fn card(method: &'static str, path: &'static str, numbers: i64, statements: u64, share: usize) -> Card {
    Card { method, path, numbers, signed_in: true, statements, share }
}

/// What is left for the last statements, and the most frequent request.
const POINT_READ: Card = card("GET", "/customers/{}", CUSTOMERS, 1, 30);

/// What users ask for, in proportion.
const CARDS: [Card; 16] = [
    POINT_READ,
    card("GET", "/orders/{}", ORDERS, 2, 22),
    card("GET", "/parts/{}", PARTS, 2, 12),
    Card { signed_in: false, ..card("GET", "/parts/{}", PARTS, 2, 8) },
    card("GET", "/nations", 1, 3, 6),
    card("GET", "/reports/{}", 22, 1, 2),
    card("POST", "/orders", 1, 8, 5),
    card("DELETE", "/orders", 1, 2, 5),
    card("PUT", "/parts/{}/price", PARTS, 2, 3),
    card("DELETE", "/customers/{}/cart", CUSTOMERS, 1, 3),
    card("POST", "/regions", 1, 1, 2),
    card("POST", "/nations", 1, 2, 2),
    card("GET", "/returns", 1, 1, 2),
    card("GET", "/account", 1, 1, 3),
    card("PUT", "/account/password", 1, 1, 2),
    card("GET", "/account/password", 1, 1, 2),
];

/// Which request comes when, and how many statements are still to run.
#[derive(Debug)]
pub(super) struct Plan {
    deck: Vec<Card>,
    drawn: AtomicU64,
    left: AtomicU64,
    done: AtomicU64,
}

impl Plan {
    /// Plans for exactly `queries` statements.
    pub(super) fn of(queries: u64) -> Self {
        let sorted: Vec<Card> = CARDS.iter().flat_map(|card| std::iter::repeat_n(*card, card.share)).collect();
        // Prime to the deck's size, so that every card comes once a round and equal ones are far apart.
        let stride = (sorted.len() * 3 / 8..).find(|stride| is_prime_to(*stride, sorted.len())).unwrap_or(1);
        let deck = (0..sorted.len()).map(|place| sorted[place * stride % sorted.len()]).collect();
        Self { deck, drawn: AtomicU64::new(0), left: AtomicU64::new(queries), done: AtomicU64::new(0) }
    }

    /// Statements that have run.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The next request with a number that is its own, its room reserved; `None` when no room is left.
    fn next(&self) -> Option<(Card, u64)> {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(number % self.deck.len() as u64).unwrap_or_default();
        let card = self.deck[place];
        if self.reserve(card.statements) {
            return Some((card, number));
        }
        self.reserve(POINT_READ.statements).then_some((POINT_READ, number))
    }

    fn reserve(&self, statements: u64) -> bool {
        let taken = |left: u64| left.checked_sub(statements);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// Gives back what a request had reserved and not executed.
    fn settle(&self, reserved: u64, executed: u64) {
        self.done.fetch_add(executed, Ordering::Relaxed);
        self.left.fetch_add(reserved.saturating_sub(executed), Ordering::Relaxed);
    }
}

fn is_prime_to(one: usize, other: usize) -> bool {
    let (mut one, mut other) = (one, other);
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one == 1
}

/// Runs all clients until the plan is done, and adds up what the application says it executed.
pub(super) async fn drive(port: u16, users: &[User], plan: &Arc<Plan>) -> Result<Count> {
    let mut clients = JoinSet::new();
    for user in users {
        clients.spawn(work(port, user.clone(), Arc::clone(plan)));
    }
    let mut count = Count::default();
    while let Some(counted) = clients.join_next().await {
        count.merge(counted??);
    }
    // Requests that executed less than was reserved for them have left some to do.
    let last = users.first().context("there is no user")?.clone();
    count.merge(work(port, last, Arc::clone(plan)).await?);
    Ok(count)
}

/// One client on one connection.
async fn work(port: u16, user: User, plan: Arc<Plan>) -> Result<Count> {
    let mut client = Client::connect(port).await?;
    let mut count = Count::default();
    while let Some((card, number)) = plan.next() {
        let ledger = ask(&mut client, &user, card, number).await?;
        plan.settle(card.statements, ledger.executions.len() as u64);
        count.add(ledger);
    }
    Ok(count)
}

async fn ask(client: &mut Client, user: &User, card: Card, number: u64) -> Result<Ledger> {
    let row = 1 + i64::try_from(scattered(number) % card.numbers.unsigned_abs()).unwrap_or_default();
    let path = card.path.replace("{}", &row.to_string());
    let request_id = format!("demo-{number:07}");
    let token = card.signed_in.then_some(user.session_token.as_str());
    let sent = client.send(card.method, &path, &request_id, token).await;
    let (status, body) = sent.with_context(|| format!("{} {path} had no answer", card.method))?;
    serde_json::from_slice(&body)
        .with_context(|| format!("{} {path} was answered with {status}, without a count", card.method))
}

/// A number without a pattern, the same for each run (SplitMix64).
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_request_comes_in_every_round() {
        let plan = Plan::of(u64::MAX);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..plan.deck.len() {
            let (card, _) = plan.next().unwrap();
            *seen.entry((card.method, card.path, card.signed_in)).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), CARDS.len());
        assert_eq!(seen[&("GET", "/reports/{}", true)], 2);
    }

    #[test]
    fn exactly_as_many_statements_run_as_were_asked_for() {
        for queries in [0, 1, 7, 500] {
            let plan = Plan::of(queries);
            while let Some((card, _)) = plan.next() {
                plan.settle(card.statements, card.statements.min(3));
            }
            assert_eq!(plan.done(), queries);
        }
    }
}
