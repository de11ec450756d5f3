//! The threads that answer onionskins: as many as there are cores, for all workers.
//!
//! A worker sends a few at once and gets their answers at once, so that a task is woken for a batch
//! and not for each. How many are under way is decided where they wait, with the worker's links.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cepa_circuit::{CircuitKey, OnionKeys, OnionskinError, OnionskinJob, OnionskinReply};
use cepa_crypto::Rng;
use cepa_relay::OnionskinLimits;
use tokio::sync::mpsc::UnboundedSender;

use crate::clock;
use crate::error::Failure;

/// Onionskins that one thread takes at once: few, as others wait behind them.
pub(crate) const BATCH: usize = 4;

/// Batches of one worker for each thread that is its share: one is answered, one is next.
const BATCHES_OUT: usize = 2;

/// How many threads answer onionskins.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What one of so many workers may have under way.
pub(crate) fn limits(workers: usize) -> OnionskinLimits {
    let share = cores().div_ceil(workers.max(1));
    OnionskinLimits {
        out_max: BATCH * BATCHES_OUT * share,
        threads: u32::try_from(share).unwrap_or(1),
        ..OnionskinLimits::default()
    }
}

/// Onionskins of one worker.
pub(crate) struct Batch {
    /// The circuits that are being made.
    pub(crate) jobs: Vec<(CircuitKey, Box<OnionskinJob>)>,
    /// What they are answered with.
    pub(crate) keys: Arc<OnionKeys>,
    /// Randomness.
    pub(crate) rng: Rng,
    /// Where the answers go.
    pub(crate) answers: UnboundedSender<Vec<Answer>>,
}

/// The answer to one onionskin.
pub(crate) struct Answer {
    /// The circuit.
    pub(crate) circuit: CircuitKey,
    /// What the job gave.
    pub(crate) reply: Result<OnionskinReply, OnionskinError>,
    /// How long it took.
    pub(crate) cost: Duration,
}

/// The threads, which end with the last worker.
#[derive(Clone)]
pub(crate) struct OnionThreads {
    batches: Sender<Batch>,
}

impl OnionThreads {
    /// Starts so many threads.
    pub(crate) fn start(threads: usize) -> Result<Self, Failure> {
        let (batches, queue) = std::sync::mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new()
                .name(format!("onion-{number}"))
                .spawn(move || answer_all(&queue))
                .map_err(|error| Failure::new("cannot start a thread", "this process", error))?;
        }
        Ok(OnionThreads { batches })
    }

    /// Has a batch answered.
    pub(crate) fn send(&self, batch: Batch) {
        // The threads end only when nobody can send any more.
        let _ = self.batches.send(batch);
    }
}

/// One thread's life.
fn answer_all(queue: &Mutex<Receiver<Batch>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else {
            return;
        };
        let Batch {
            jobs,
            keys,
            mut rng,
            answers,
        } = batch;
        let answered = jobs
            .into_iter()
            .map(|(circuit, job)| answer(circuit, &job, &keys, &mut rng));
        // A worker that has ended wants no answer.
        let _ = answers.send(answered.collect());
    }
}

fn answer(circuit: CircuitKey, job: &OnionskinJob, keys: &OnionKeys, rng: &mut Rng) -> Answer {
    let began = clock::now().mono;
    // A fault in one answer must not cost the thread, nor the others of its batch.
    let reply = catch_unwind(AssertUnwindSafe(|| job.run(keys, rng)))
        .unwrap_or(Err(OnionskinError::Handshake));
    Answer {
        circuit,
        reply,
        cost: clock::now().mono.saturating_duration_since(began),
    }
}
