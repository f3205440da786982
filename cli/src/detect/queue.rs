//! A short queue between two threads, that drops its oldest items rather than lag.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How many items wait at most.
const LENGTH: usize = 2;

struct State<T> {
    items: VecDeque<T>,
    dropped: u64,
    /// Nothing more comes, or nobody takes it.
    closed: bool,
}

/// A queue of at most two items.
pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// Whether a full queue drops its oldest item; else it makes the sender wait.
    drops: bool,
}

/// What the queue has for its reader.
pub enum Next<T> {
    Item(T),
    /// Nothing yet: time to look for Ctrl-C.
    Waiting,
    End,
}

impl<T> Queue<T> {
    pub fn new(drops: bool) -> Self {
        let state = State { items: VecDeque::new(), dropped: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), drops }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item in. False if nobody takes it.
    pub fn push(&self, item: T) -> bool {
        let mut state = self.lock();
        while !self.drops && state.items.len() >= LENGTH && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        if state.items.len() >= LENGTH {
            state.items.pop_front();
            state.dropped += 1;
        }
        state.items.push_back(item);
        self.changed.notify_all();
        true
    }

    /// Ends the queue; what is in it may still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes the oldest item, when there are at least `least` or no more come. Waits, but not for long.
    pub fn next(&self, least: usize) -> Next<T> {
        let mut state = self.lock();
        if state.items.len() < least && !state.closed {
            let waited = self.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.items.len() < least && !state.closed {
            return Next::Waiting;
        }
        let item = state.items.pop_front();
        self.changed.notify_all();
        item.map_or(Next::End, Next::Item)
    }

    /// Whether nothing is left and nothing more comes.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.closed && state.items.is_empty()
    }

    /// How many items were dropped.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn rest(queue: &Queue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| {
            loop {
                match queue.next(1) {
                    Next::Item(item) => return Some(item),
                    Next::Waiting => {}
                    Next::End => return None,
                }
            }
        })
        .collect()
    }

    #[test]
    fn late_items_are_dropped() {
        let queue = Queue::new(true);
        (0..5).for_each(|i| assert!(queue.push(i)));
        queue.close();
        assert_eq!((rest(&queue), queue.dropped()), (vec![3, 4], 3));
        assert!(queue.is_over() && !queue.push(9));
    }

    #[test]
    fn or_the_sender_waits() {
        let queue = Queue::new(false);
        let all = thread::scope(|scope| {
            scope.spawn(|| {
                (0..100).for_each(|i| assert!(queue.push(i)));
                queue.close();
            });
            rest(&queue)
        });
        assert_eq!((all, queue.dropped()), ((0..100).collect(), 0));
    }
}
