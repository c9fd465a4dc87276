//! Orders to place and to remove: what TPC-H's refresh functions work with.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tpchgen::generators::{LineItemGenerator, OrderGenerator};

use super::tpch::{SCALE, fields};

/// Orders that wait to be placed, at the start.
const ORDERS: usize = 500;
/// TPC-H's own orders use the first eight of every 32 keys; those of its refresh streams use the next.
const KEY_OFFSET: i64 = 8;

/// An order with its line items, as rows of TPC-H's text format, under keys that the shop does not use.
#[derive(Debug)]
pub(super) struct NewOrder {
    pub(super) key: i64,
    /// All fields but the key.
    pub(super) fields: Vec<String>,
    /// All fields but the key, for each line item.
    pub(super) lines: Vec<Vec<String>>,
}

/// The orders that are not in the shop, and the keys of those that were placed.
#[derive(Debug)]
pub(super) struct Refresh(Mutex<Piles>);

#[derive(Debug, Default)]
struct Piles {
    waiting: VecDeque<NewOrder>,
    placed: VecDeque<NewOrder>,
}

impl Refresh {
    /// Takes the first orders of TPC-H's generator, each with its own line items.
    pub(super) fn generate() -> Self {
        let mut waiting: VecDeque<NewOrder> = VecDeque::with_capacity(ORDERS);
        let mut place_of = HashMap::with_capacity(ORDERS);
        for order in OrderGenerator::new(SCALE, 1, 1).iter().take(ORDERS) {
            place_of.insert(order.o_orderkey, waiting.len());
            let (key, fields) = (order.o_orderkey + KEY_OFFSET, without_key(&order.to_string()));
            waiting.push_back(NewOrder { key, fields, lines: Vec::new() });
        }
        // Line items come in the order of their orders.
        for line in LineItemGenerator::new(SCALE, 1, 1).iter() {
            let Some(&place) = place_of.get(&line.l_orderkey) else { break };
            waiting[place].lines.push(without_key(&line.to_string()));
        }
        Self(Mutex::new(Piles { waiting, placed: VecDeque::new() }))
    }

    /// Takes an order that can be placed; `None` when all are.
    pub(super) fn take_waiting(&self) -> Option<NewOrder> {
        self.piles().waiting.pop_front()
    }

    /// Takes an order that can be removed; `None` when none is placed.
    pub(super) fn take_placed(&self) -> Option<NewOrder> {
        self.piles().placed.pop_front()
    }

    /// Gives an order back, which is in the shop now, or is not.
    pub(super) fn give_back(&self, order: NewOrder, is_placed: bool) {
        let mut piles = self.piles();
        if is_placed { piles.placed.push_back(order) } else { piles.waiting.push_back(order) }
    }

    fn piles(&self) -> MutexGuard<'_, Piles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_key(row: &str) -> Vec<String> {
    fields(row).skip(1).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_has_its_line_items_and_a_key_of_its_own() {
        let refresh = Refresh::generate();
        let mut keys = std::collections::HashSet::new();
        while let Some(order) = refresh.take_waiting() {
            assert!((1..=7).contains(&order.lines.len()), "{order:?}");
            assert_eq!((order.fields.len(), order.lines[0].len()), (8, 15));
            assert!(order.key % 32 >= 8 && keys.insert(order.key), "{}", order.key);
        }
        assert_eq!(keys.len(), ORDERS);
    }

    #[test]
    fn what_was_placed_can_be_removed_and_placed_again() {
        let refresh = Refresh::generate();
        assert!(refresh.take_placed().is_none());
        let order = refresh.take_waiting().unwrap();
        refresh.give_back(order, true);
        let order = refresh.take_placed().unwrap();
        refresh.give_back(order, false);
        assert!(refresh.take_placed().is_none());
    }
}
