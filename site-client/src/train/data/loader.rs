//! Batches prepared by background threads, handed out in order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Prepares item `first`, `first + 1`, … on background threads and yields them in that order.
///
/// At most `queue` items are ahead of the consumer, prepared or in work, or one for each worker where
/// that is more: memory is bounded, and no worker idles while there is work. What is prepared depends
/// on the item's number alone: neither the number of threads nor their timing can change it.
#[derive(Debug)]
pub struct Loader<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
}

#[derive(Debug)]
struct Shared<T> {
    /// Items that may be ahead of the consumer.
    ahead: u64,
    state: Mutex<State<T>>,
    /// When an item becomes ready, or the consumer takes one, or all is over.
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// Number of the next item handed out.
    consumed: u64,
    /// Number of the next item a worker takes up.
    claimed: u64,
    /// First number that is not wanted.
    end: u64,
    ready: BTreeMap<u64, thread::Result<T>>,
}

impl<T: Send + 'static> Loader<T> {
    /// Starts `workers` threads on the items `first..end`.
    ///
    /// # Panics
    ///
    /// If the system refuses a thread.
    pub fn start<F>(workers: usize, queue: usize, first: u64, end: u64, prepare: F) -> Self
    where
        F: Fn(u64) -> T + Send + Sync + 'static,
    {
        let state = State {
            consumed: first,
            claimed: first,
            end,
            ready: BTreeMap::new(),
        };
        let shared = Arc::new(Shared {
            ahead: queue.max(workers).max(1) as u64,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let prepare = Arc::new(prepare);
        let workers = (0..workers.max(1))
            .map(|_| {
                let (shared, prepare) = (Arc::clone(&shared), Arc::clone(&prepare));
                thread::spawn(move || shared.work(&*prepare))
            })
            .collect();
        Self {
            shared,
            workers,
            waited: Duration::ZERO,
        }
    }

    /// The next item, or nothing after the last; waits until it is ready.
    ///
    /// # Panics
    ///
    /// With the panic of the thread that prepared the item.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would hide that this waits"
    )]
    pub fn next(&mut self) -> Option<T> {
        let start = Instant::now();
        let mut state = self.shared.lock();
        if state.consumed >= state.end {
            return None;
        }
        let number = state.consumed;
        let item = loop {
            if let Some(item) = state.ready.remove(&number) {
                break item;
            }
            state = self.shared.wait(state);
        };
        state.consumed += 1;
        drop(state);
        self.shared.changed.notify_all();
        self.waited += start.elapsed();
        Some(item.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Time the consumer spent waiting since the start.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        self.shared.lock().end = 0;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of `prepare`; there is nothing left to report.
            drop(worker.join());
        }
    }
}

impl<T> Shared<T> {
    fn work(&self, prepare: &dyn Fn(u64) -> T) {
        while let Some(number) = self.claim() {
            let item = catch_unwind(AssertUnwindSafe(|| prepare(number)));
            self.lock().ready.insert(number, item);
            self.changed.notify_all();
        }
    }

    /// Takes up the next item once there is room for it; nothing when all is over.
    fn claim(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.claimed >= state.end {
                return None;
            }
            if state.claimed < state.consumed + self.ahead {
                state.claimed += 1;
                return Some(state.claimed - 1);
            }
            state = self.wait(state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn items_come_in_order_from_any_number_of_threads() {
        for workers in [1, 2, 5] {
            let mut loader = Loader::start(workers, 3, 10, 60, |number| number * number);
            let items: Vec<u64> = std::iter::from_fn(|| loader.next()).collect();
            assert_eq!(
                items,
                (10..60).map(|n| n * n).collect::<Vec<_>>(),
                "{workers} workers"
            );
        }
    }

    #[test]
    fn no_more_than_the_queue_is_prepared_ahead() {
        let prepared = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&prepared);
        let mut loader = Loader::start(2, 2, 0, 100, move |number| {
            counter.fetch_add(1, Ordering::SeqCst);
            number
        });
        for taken in 1..=20 {
            assert!(loader.next().is_some());
            assert!(prepared.load(Ordering::SeqCst) <= taken + 2);
        }
        drop(loader);
        assert!(
            prepared.load(Ordering::SeqCst) <= 22,
            "a dropped loader starts nothing new"
        );
    }

    #[test]
    fn every_worker_is_at_work_however_short_the_queue() {
        let (begun, begins) = mpsc::channel();
        let begun = Mutex::new(begun);
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let gate = Arc::clone(&open);
        let mut loader = Loader::start(3, 1, 0, 6, move |number| {
            begun.lock().unwrap().send(number).unwrap();
            let (open, changed) = &*gate;
            drop(changed.wait_while(open.lock().unwrap(), |open| !*open));
        });
        let patience = Duration::from_secs(60);
        let mut together: Vec<u64> = (0..3)
            .map_while(|_| begins.recv_timeout(patience).ok())
            .collect();
        together.sort_unstable();
        let (lock, changed) = &*open;
        *lock.lock().unwrap() = true;
        changed.notify_all();
        assert_eq!(together, [0, 1, 2], "three workers, a queue of one");
        assert_eq!(std::iter::from_fn(|| loader.next()).count(), 6);
    }

    #[test]
    #[should_panic(expected = "scan 3 is broken")]
    fn a_panic_while_preparing_reaches_the_consumer() {
        let mut loader = Loader::start(2, 2, 0, 10, |number| {
            assert!(number != 3, "scan {number} is broken");
        });
        while loader.next().is_some() {}
    }
}
