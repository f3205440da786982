//! A team of worker threads that steps through a forward pass together.
//!
//! Each step ([`Team::run`]) is a number of tasks that the calling thread and the workers claim one by one. Whoever is
//! not running (because another program has the core) claims nothing, and nobody waits for a thread that has claimed
//! nothing: on a busy machine the others simply do more. Between steps threads spin for a bounded time, because the next
//! step of a token comes within microseconds, and then sleep.

use crate::error::{Error, Result};
use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread spins before it sleeps: longer than nearly all gaps between the steps of a forward pass, so that an
/// idle machine loses next to nothing against spinning forever, and too short to use up a core's share that others want.
/// `benches/threads.rs` measures both.
const SPIN: Duration = Duration::from_micros(20);

/// The most threads that may be asked for.
pub const MAX_THREADS: usize = 1024;

/// As many threads as this machine has cores for the program: what computes where nobody says how many.
pub fn all_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// Checks a number of threads that somebody asks for.
///
/// # Errors
/// `Input`, unless it is 1 to 1024.
pub(crate) fn check_threads(threads: usize) -> Result<()> {
    match threads {
        1..=MAX_THREADS => Ok(()),
        _ => Err(Error::input(format!("{threads} threads: expected 1 to {MAX_THREADS}"))),
    }
}

/// A team of threads, the calling one included. Dropping it ends the workers.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// A step's tasks: calls `run(data, worker, task)`.
struct Job {
    data: *const (),
    run: unsafe fn(*const (), usize, usize),
}

/// Bits of `Shared::state` that count tasks.
const TASK_BITS: u32 = 24;
const TASKS: u64 = (1 << TASK_BITS) - 1;

struct Shared {
    /// `epoch << TASK_BITS | tasks not claimed yet`. The epoch grows with every step, so a claim (a compare-exchange
    /// that takes one from the low part) can only succeed for the step whose job the claimer has read.
    state: AtomicU64,
    /// Tasks of the current step that are not finished.
    unfinished: AtomicUsize,
    /// The current step's job, on the stack of [`Team::run`]. Only to be followed after a claim.
    job: AtomicPtr<Job>,
    /// The thread that waits for the step's end, while it sleeps.
    caller: Mutex<Option<Thread>>,
    caller_sleeps: AtomicBool,
    /// Workers that sleep.
    sleepers: AtomicUsize,
    stop: AtomicBool,
    /// How long threads spin, in nanoseconds.
    spin: AtomicU64,
    /// The first panic of a task, to be raised again on the calling thread.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Shared {
    /// Claims and runs tasks until none is left. `worker` is this thread's number.
    fn work(&self, worker: usize) {
        let mut state = self.state.load(Acquire);
        while state & TASKS != 0 {
            let job = self.job.load(Relaxed);
            match self.state.compare_exchange_weak(state, state - 1, AcqRel, Acquire) {
                Err(now) => state = now,
                Ok(_) => {
                    let task = (state & TASKS) as usize - 1;
                    // SAFETY: the claim succeeded, so the step of `state` is not over: its job was stored before
                    // `state` and is replaced only after the step's end, so `job` is that job, and `Team::run` keeps
                    // it and the closure behind it alive until this task, which is ours alone, is finished.
                    #[allow(unsafe_code)]
                    let result = catch_unwind(AssertUnwindSafe(|| unsafe { ((*job).run)((*job).data, worker, task) }));
                    if let Err(panic) = result {
                        self.panic.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(panic);
                    }
                    if self.unfinished.fetch_sub(1, SeqCst) == 1
                        && self.caller_sleeps.load(SeqCst)
                        && let Some(caller) = &*self.caller.lock().unwrap_or_else(|e| e.into_inner())
                    {
                        caller.unpark();
                    }
                    state = self.state.load(Acquire);
                }
            }
        }
    }

    fn worker(&self, number: usize) {
        while !self.stop.load(Acquire) {
            self.work(number);
            if self.spin_until(|| self.state.load(Acquire) & TASKS != 0 || self.stop.load(Acquire)) {
                continue;
            }
            // Whoever posts a step looks at `sleepers` after it has set `state`, and we look at `state` after we have
            // raised `sleepers`: one of the two sees the other. A wake-up in between makes `park` return at once. Both
            // write by an exchange, which is what such a store is on x86 anyway: qemu 7 lets ARM's plain store fall
            // behind the load that follows it, and then nobody sees anybody.
            self.sleepers.fetch_add(1, SeqCst);
            while self.state.load(SeqCst) & TASKS == 0 && !self.stop.load(SeqCst) {
                thread::park();
            }
            self.sleepers.fetch_sub(1, SeqCst);
        }
    }

    fn set_spin(&self, spin: Duration) {
        self.spin.store(spin.as_nanos().try_into().unwrap_or(u64::MAX), Relaxed);
    }

    /// Spins for a bounded time; says whether `ready` came true.
    fn spin_until(&self, ready: impl Fn() -> bool) -> bool {
        let limit = Duration::from_nanos(self.spin.load(Relaxed));
        let mut start = None;
        while !ready() {
            if limit.is_zero() {
                return false;
            }
            for _ in 0..64 {
                if ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.get_or_insert_with(Instant::now).elapsed() > limit {
                return false;
            }
        }
        true
    }
}

impl Team {
    /// A team of `threads` threads, of which the calling one is one.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            caller: Mutex::new(None),
            caller_sleeps: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            spin: AtomicU64::new(SPIN.as_nanos() as u64),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .map_while(|number| {
                let shared = shared.clone();
                let builder = thread::Builder::new().name(format!("pupil-{number}"));
                // Where the system grants no more threads, the team is smaller.
                builder.spawn(move || shared.worker(number)).ok()
            })
            .collect();
        Self { shared, workers }
    }

    /// Number of threads, the calling one included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Sets how long threads spin before they sleep: not at all with zero, forever with [`Duration::MAX`].
    pub fn set_spin(&mut self, spin: Duration) {
        self.shared.set_spin(spin);
    }

    /// Runs `task(worker, i)` for every `i` in `0..tasks`, each once and the last first, on whichever thread is free;
    /// `worker` is below [`Team::threads`] and no two tasks run under one number at the same time.
    ///
    /// # Panics
    /// If a task panics, after all others are finished.
    pub fn run<F: Fn(usize, usize) + Sync>(&mut self, tasks: usize, task: F) {
        if tasks <= 1 || self.workers.is_empty() {
            for i in (0..tasks).rev() {
                task(0, i);
            }
            return;
        }
        /// # Safety
        /// `data` points to an `F` that lives throughout the call.
        #[allow(unsafe_code)]
        unsafe fn call<F: Fn(usize, usize)>(data: *const (), worker: usize, task: usize) {
            // SAFETY: see above.
            unsafe { (*data.cast::<F>())(worker, task) }
        }
        assert!(tasks as u64 <= TASKS, "fewer than 2^{TASK_BITS} tasks");
        let shared = &*self.shared;
        let mut job = Job { data: (&raw const task).cast(), run: call::<F> };
        shared.job.store(&raw mut job, Relaxed);
        shared.unfinished.store(tasks, Relaxed);
        let epoch = (shared.state.load(Relaxed) >> TASK_BITS) + 1;
        shared.state.swap(epoch << TASK_BITS | tasks as u64, SeqCst);
        if shared.sleepers.load(SeqCst) > 0 {
            self.workers.iter().for_each(|worker| worker.thread().unpark());
        }
        shared.work(0);

        // As with the sleeping workers: we look at `unfinished` after we have raised `caller_sleeps`, and whoever
        // finishes the last task looks at `caller_sleeps` afterwards.
        let over = || shared.unfinished.load(SeqCst) == 0;
        if !shared.spin_until(over) {
            *shared.caller.lock().unwrap_or_else(|e| e.into_inner()) = Some(thread::current());
            shared.caller_sleeps.swap(true, SeqCst);
            while !over() {
                thread::park();
            }
            shared.caller_sleeps.store(false, SeqCst);
        }
        let panic = shared.panic.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Runs `task(worker, i, &mut items[i])` for every item.
    pub fn each<T: Send>(&mut self, items: &mut [T], task: impl Fn(usize, usize, &mut T) + Sync) {
        let n = items.len();
        let items = Shares(items.as_mut_ptr());
        self.run(n, |worker, i| {
            let items = &items;
            // SAFETY: `i` is below the slice's length and every `i` is run once, so no two references overlap; the
            // slice is borrowed until `run` returns.
            #[allow(unsafe_code)]
            task(worker, i, unsafe { &mut *items.0.add(i) });
        });
    }

    /// Cuts the matrix `out`, with rows of `stride` elements, at the given rows and columns, and runs
    /// `task(worker, row part, column part, block)` for every block. `rows` and `cols` are cut points: part i goes from
    /// the i-th to the next.
    ///
    /// # Panics
    /// If the cut points are not in ascending order or outside of the matrix.
    pub fn blocks(
        &mut self,
        out: &mut [f32],
        stride: usize,
        rows: &[usize],
        cols: &[usize],
        task: impl Fn(usize, usize, usize, Block<'_>) + Sync,
    ) {
        assert!(rows.is_sorted() && cols.is_sorted(), "cut points in order");
        let (Some(&last_row), Some(&last_col)) = (rows.last(), cols.last()) else { return };
        assert!(last_col <= stride && last_row * stride <= out.len(), "cut points inside");
        let start = Shares(out.as_mut_ptr());
        let col_parts = cols.len() - 1;
        self.run((rows.len() - 1) * col_parts, |worker, i| {
            let start = &start;
            let (r, c) = (i / col_parts, i % col_parts);
            let block = Block {
                start: start.0,
                stride,
                rows: rows[r]..rows[r + 1],
                cols: cols[c]..cols[c + 1],
                matrix: PhantomData,
            };
            task(worker, r, c, block);
        });
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker cannot panic: tasks' panics are caught.
            let _ = worker.join();
        }
    }
}

/// The start of a slice whose elements the tasks share out among themselves.
struct Shares<T>(*mut T);
// SAFETY: the users above hand every element to one task only, and `T` may go to another thread.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Shares<T> {}

/// A rectangular part of a matrix that one task may write.
pub struct Block<'a> {
    start: *mut f32,
    stride: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    matrix: PhantomData<&'a mut [f32]>,
}

impl Block<'_> {
    /// The rows of the matrix that the block covers.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The columns of the matrix that the block covers.
    pub fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// The block's part of row `row` of the matrix.
    ///
    /// # Panics
    /// If the block does not cover the row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row), "a row of the block");
        // SAFETY: `Team::blocks` checked that the cut points lie inside of the matrix, so row and columns do; blocks
        // of one call do not overlap, and this one is borrowed mutably for as long as the slice lives.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(row * self.stride + self.cols.start), self.cols.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let mut team = Team::new(threads);
            for tasks in [0, 1, 2, 7, 1000] {
                let mut counts = vec![0; tasks];
                team.each(&mut counts, |worker, _, count| {
                    assert!(worker < threads);
                    *count += 1;
                });
                assert!(counts.iter().all(|&count| count == 1));
            }
        }
    }

    #[test]
    fn thousands_of_short_steps_in_a_row() {
        let mut team = Team::new(4);
        let total = AtomicUsize::new(0);
        for step in 0..20_000 {
            team.run(step % 9, |_, i| {
                total.fetch_add(i + 1, Relaxed);
            });
        }
        let expected: usize = (0..20_000_usize).map(|step| (1..=step % 9).sum::<usize>()).sum();
        assert_eq!(total.into_inner(), expected);
    }

    #[test]
    fn nobody_sleeps_forever() {
        // Without spinning, callers and workers fall asleep and are woken at every step.
        for threads in [2, 5] {
            let mut team = Team::new(threads);
            team.set_spin(Duration::ZERO);
            let total = AtomicUsize::new(0);
            for step in 0..20_000 {
                team.run(2 + step % 3, |_, i| {
                    total.fetch_add(1, Relaxed);
                    if (step + i) % 64 == 0 {
                        thread::yield_now();
                    }
                });
            }
            assert_eq!(total.into_inner(), (0..20_000).map(|step| 2 + step % 3).sum::<usize>());
        }
    }

    #[test]
    fn workers_that_fell_asleep_wake_up() {
        let mut team = Team::new(3);
        for _ in 0..20 {
            thread::sleep(SPIN * 4);
            let seen = Mutex::new(std::collections::HashSet::new());
            team.run(64, |worker, _| {
                seen.lock().unwrap().insert(worker);
                thread::sleep(Duration::from_micros(200));
            });
            assert!(seen.into_inner().unwrap().len() > 1);
        }
    }

    #[test]
    fn blocks_cover_the_matrix_without_overlap() {
        let mut team = Team::new(2);
        let mut matrix = vec![0.0; 5 * 7];
        team.blocks(&mut matrix, 7, &[0, 2, 5], &[0, 3, 3, 7], |_, r, c, mut block| {
            for row in block.rows() {
                block.row(row).iter_mut().for_each(|x| *x += (10 * r + c + 1) as f32);
            }
        });
        for (i, x) in matrix.into_iter().enumerate() {
            let expected = 10 * usize::from(i / 7 >= 2) + if i % 7 >= 3 { 3 } else { 1 };
            assert_eq!(x, expected as f32);
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_team_goes_on() {
        let mut team = Team::new(2);
        let result = catch_unwind(AssertUnwindSafe(|| team.run(8, |_, i| assert!(i != 3, "three"))));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        team.run(8, |_, _| {
            count.fetch_add(1, Relaxed);
        });
        assert_eq!(count.into_inner(), 8);
    }
}
