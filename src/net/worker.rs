//! One worker: a plane, the tasks that wait for it, and what it has to tell others.
//!
//! Lives on one thread; `RefCell` and `Rc` instead of locks. Every touch of the plane goes through
//! [`Worker::with`], which afterwards wakes each channel and stream task that has something to
//! do, once, and passes on commands and batches for other workers. A plane is never borrowed
//! across an `await`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cepa_circuit::StreamKey;
use cepa_limits::{MemoryClass, MemoryShare};
use cepa_link::ChannelKey;
use cepa_wire::Now;
use slotmap::SecondaryMap;
use tokio::sync::{Notify, mpsc};

use super::pace::{Pace, Paced, Room, Traffic, count};
use super::plane::Plane;
use crate::clock;

/// Batches on their way to one other worker; a full queue stops the channels that fill it.
pub(crate) const HANDOVER_BATCHES_MAX: usize = 64;

/// How long the timer task sleeps when the plane has no timeout of its own.
const IDLE_TICK: Duration = Duration::from_secs(60);

/// A plane and the tasks around it.
pub(crate) struct Worker<P: Plane> {
    plane: RefCell<P>,
    channels: RefCell<SecondaryMap<ChannelKey, Rc<Notify>>>,
    streams: RefCell<SecondaryMap<StreamKey, Rc<Notify>>>,
    ready: RefCell<Ready<P>>,
    commands: mpsc::UnboundedSender<P::Command>,
    outbox: RefCell<VecDeque<(usize, P::Handover)>>,
    outbox_filled: Notify,
    outbox_drained: Notify,
    timer_changed: Notify,
    timer: Cell<Option<Instant>>,
    traffic: Arc<Traffic>,
    pace: Option<Arc<Pace>>,
    /// Bytes in the buffers of TLS.
    tls_bytes: Cell<usize>,
    share: RefCell<MemoryShare>,
}

/// Lists that are filled and emptied at each step, kept for their capacity.
struct Ready<P: Plane> {
    channels: Vec<ChannelKey>,
    streams: Vec<StreamKey>,
    handovers: Vec<(usize, P::Handover)>,
}

impl<P: Plane> Worker<P> {
    /// A worker around `plane` that counts into `traffic` and `share` and keeps to `pace`, and the
    /// queue of the plane's commands. The queue has no bound of its own: a plane asks at most once
    /// for each circuit and stream, and it bounds those.
    pub(crate) fn new(
        plane: P,
        traffic: Arc<Traffic>,
        share: MemoryShare,
        pace: Option<Arc<Pace>>,
    ) -> (Rc<Self>, mpsc::UnboundedReceiver<P::Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let worker = Self {
            plane: RefCell::new(plane),
            channels: RefCell::default(),
            streams: RefCell::default(),
            ready: RefCell::new(Ready {
                channels: Vec::new(),
                streams: Vec::new(),
                handovers: Vec::new(),
            }),
            commands,
            outbox: RefCell::default(),
            outbox_filled: Notify::new(),
            outbox_drained: Notify::new(),
            timer_changed: Notify::new(),
            timer: Cell::new(None),
            traffic,
            pace,
            tls_bytes: Cell::new(0),
            share: RefCell::new(share),
        };
        (Rc::new(worker), receiver)
    }

    /// Applies one event to the plane, then passes on all that follows from it.
    pub(crate) fn with<R>(&self, event: impl FnOnce(&mut P, Now) -> R) -> R {
        let result = event(&mut self.plane.borrow_mut(), clock::now());
        self.settle();
        result
    }

    /// Reads from the plane where nothing can follow from it.
    pub(crate) fn peek<R>(&self, question: impl FnOnce(&P) -> R) -> R {
        question(&self.plane.borrow())
    }

    /// Pulls output for a channel; nothing else follows but streams that have room again.
    pub(crate) fn take_output(&self, channel: ChannelKey, out: &mut Vec<u8>) {
        self.plane
            .borrow_mut()
            .take_output(channel, out, clock::now());
    }

    /// The waker that rings when the channel has output.
    pub(crate) fn register_channel(&self, channel: ChannelKey) -> Rc<Notify> {
        let waker = Rc::new(Notify::new());
        self.channels
            .borrow_mut()
            .insert(channel, Rc::clone(&waker));
        // What was queued before anybody listened.
        waker.notify_one();
        waker
    }

    /// The waker that rings when the stream has bytes for its socket, or room for more.
    pub(crate) fn register_stream(&self, stream: StreamKey) -> Rc<Notify> {
        let waker = Rc::new(Notify::new());
        self.streams.borrow_mut().insert(stream, Rc::clone(&waker));
        waker.notify_one();
        waker
    }

    /// Returns once a stream is over, whose socket is not there yet: what was begun for it may be
    /// dropped.
    pub(crate) async fn stream_over(&self, stream: StreamKey) {
        let waker = self.register_stream(stream);
        while self.peek(|plane| plane.stream_end(stream)).is_none() {
            waker.notified().await;
        }
        self.unregister_stream(stream);
    }

    /// Ends the service of a channel; its task says goodbye and tells the plane.
    pub(crate) fn end_channel(&self, channel: ChannelKey) {
        if let Some(waker) = self.channels.borrow_mut().remove(channel) {
            waker.notify_one();
        }
    }

    /// Ends the service of all channels.
    pub(crate) fn end_all_channels(&self) {
        for (_, waker) in self.channels.borrow_mut().drain() {
            waker.notify_one();
        }
    }

    /// Forgets the waker of a stream.
    pub(crate) fn unregister_stream(&self, stream: StreamKey) {
        self.streams.borrow_mut().remove(stream);
    }

    /// Rings the waker of a stream from outside of the plane (its circuit is gone, say).
    pub(crate) fn ring_stream(&self, stream: StreamKey) {
        if let Some(waker) = self.streams.borrow().get(stream) {
            waker.notify_one();
        }
    }

    /// Whether a channel has a task that serves it.
    pub(crate) fn serves_channel(&self, channel: ChannelKey) -> bool {
        self.channels.borrow().contains_key(channel)
    }

    /// Wakes tasks and passes on commands after the plane changed.
    pub(crate) fn settle(&self) {
        let mut ready = self.ready.borrow_mut();
        let Ready {
            channels,
            streams,
            handovers,
        } = &mut *ready;
        {
            let mut plane = self.plane.borrow_mut();
            while let Some(command) = plane.poll_command() {
                // The receiver lives as long as the worker's thread; at its end nobody asks.
                let _ = self.commands.send(command);
            }
            plane.take_ready(channels, streams);
            plane.take_handovers(handovers);
            let timeout = plane.poll_timeout();
            if timeout != self.timer.get() {
                self.timer.set(timeout);
                self.timer_changed.notify_one();
            }
        }
        let wakers = self.channels.borrow();
        for key in channels.drain(..) {
            if let Some(waker) = wakers.get(key) {
                waker.notify_one();
            }
        }
        let wakers = self.streams.borrow();
        for key in streams.drain(..) {
            if let Some(waker) = wakers.get(key) {
                waker.notify_one();
            }
        }
        if !handovers.is_empty() {
            self.outbox.borrow_mut().extend(handovers.drain(..));
            self.outbox_filled.notify_one();
        }
    }

    /// Waits until the batches for other workers are few enough for this one to read more.
    pub(crate) async fn handover_room(&self) {
        while self.outbox.borrow().len() >= HANDOVER_BATCHES_MAX {
            self.outbox_drained.notified().await;
        }
    }

    /// So many bytes were read from and written to the sockets of channels: one batch.
    pub(crate) fn count(&self, read_bytes: usize, written_bytes: usize) {
        count(&self.traffic.read_bytes, read_bytes);
        count(&self.traffic.written_bytes, written_bytes);
        if let Some(pace) = &self.pace {
            pace.take(read_bytes, written_bytes);
        }
    }

    /// The buffers of a link have become so many bytes, from so many.
    pub(crate) fn count_buffers(&self, from: usize, to: usize) {
        if from != to {
            let bytes = (self.tls_bytes.get() + to).saturating_sub(from);
            self.tls_bytes.set(bytes);
            self.share.borrow_mut().tell(MemoryClass::Tls, bytes);
        }
    }

    /// Whether the relay's bandwidth lets links read and write now.
    pub(crate) fn room(&self) -> Room {
        self.pace
            .as_ref()
            .map(|pace| pace.room())
            .unwrap_or_default()
    }

    /// One half of a socket of a stream that leaves here, under the relay's bandwidth.
    pub(crate) fn paced<S>(&self, half: S) -> Paced<S> {
        let pace = self.pace.clone().unwrap_or_else(|| Arc::new(Pace::free()));
        Paced::new(half, pace, Arc::clone(&self.traffic))
    }

    /// Carries batches to the other workers, for as long as the worker lives.
    pub(crate) async fn run_courier(self: Rc<Self>, peers: Vec<mpsc::Sender<P::Handover>>) {
        loop {
            let next = self.outbox.borrow_mut().pop_front();
            let Some((peer, batch)) = next else {
                self.outbox_filled.notified().await;
                continue;
            };
            if let Some(peer) = peers.get(peer) {
                // An ended worker takes its circuits along; there is nothing to tell it.
                let _ = peer.send(batch).await;
            }
            self.outbox_drained.notify_waiters();
        }
    }

    /// Takes batches from the other workers.
    pub(crate) async fn run_inbox(self: Rc<Self>, mut inbox: mpsc::Receiver<P::Handover>) {
        while let Some(batch) = inbox.recv().await {
            self.with(|plane, now| plane.handle_handover(batch, now));
        }
    }

    /// Tells the plane when its time has come.
    pub(crate) async fn run_timer(self: Rc<Self>) {
        loop {
            let deadline = self
                .timer
                .get()
                .unwrap_or_else(|| clock::now().mono + IDLE_TICK);
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.timer.set(None);
                    self.with(P::handle_timeout);
                }
                () = self.timer_changed.notified() => {}
            }
        }
    }
}
