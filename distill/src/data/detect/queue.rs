//! Batches made ahead on threads of their own.

use super::batches::Batch;
use crate::error::{Error, Result};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

/// Batches that each thread makes ahead.
const AHEAD: usize = 2;

/// The batches of a training in their order. Threads take turns, so that the order does not depend on how fast they are;
/// they end with the queue.
pub struct Queue {
    lanes: Vec<Receiver<Result<Batch>>>,
    turn: usize,
}

impl Queue {
    /// Has `workers` threads make the batches of the steps from `first` to before `end`.
    ///
    /// # Errors
    /// `Io` if the system gives no threads.
    pub fn new(
        workers: usize,
        first: u64,
        end: u64,
        make: impl Fn(u64) -> Result<Batch> + Send + Sync + 'static,
    ) -> Result<Self> {
        let make = Arc::new(make);
        let mut lanes = Vec::new();
        for worker in 0..workers {
            let (give, take) = sync_channel(AHEAD);
            let make = make.clone();
            let work = move || {
                for step in (first + worker as u64..end).step_by(workers) {
                    if give.send(make(step)).is_err() {
                        return;
                    }
                }
            };
            let started = thread::Builder::new().name("batches".into()).spawn(work);
            started.map_err(|error| Error::io("a thread for batches".as_ref(), &error))?;
            lanes.push(take);
        }
        Ok(Self { lanes, turn: 0 })
    }

    /// The next batch.
    ///
    /// # Errors
    /// What its making refuses; `Input` behind the last one.
    pub fn next_batch(&mut self) -> Result<Batch> {
        let lane = &self.lanes[self.turn % self.lanes.len()];
        self.turn += 1;
        lane.recv().unwrap_or_else(|_| Err(Error::input("there are no more batches, expected one")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[test]
    fn batches_come_in_order_and_not_far_ahead() {
        let made = Arc::new(AtomicU64::new(0));
        let counter = made.clone();
        let make = move |step: u64| {
            counter.fetch_add(1, SeqCst);
            Ok(Batch { pixels: vec![step as f32], pictures: vec![], truths: vec![] })
        };
        let mut queue = Queue::new(3, 5, 105, make).unwrap();
        for step in 5..45 {
            assert_eq!(queue.next_batch().unwrap().pixels, [step as f32]);
            // Each of the threads is at most as far ahead as its lane is long, and one more in its hands.
            assert!(made.load(SeqCst) <= step - 5 + 1 + 3 * (AHEAD as u64 + 1));
        }
        for _ in 45..105 {
            queue.next_batch().unwrap();
        }
        assert!(queue.next_batch().is_err());
    }
}
