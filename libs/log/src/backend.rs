//! [`LogBackend`]: what a backend does. Arguments are checked by [`Log`](crate::Log) before they get here.

use std::future::Future;
use std::pin::Pin;

use crate::{Appended, Bounds, LogError, NewBatch, ReadLimits, StoredBatch, Topic, TopicUsage, Trimmed};

/// A boxed future, so that the trait can be an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, LogError>> + Send + 'a>>;

/// A place where the log is kept. The methods are those of [`Log`](crate::Log), which documents them.
pub trait LogBackend: Send + Sync + std::fmt::Debug + 'static {
    /// See [`Log::append_all`](crate::Log::append_all).
    fn append_all(&self, batches: Vec<(Topic, u16, NewBatch)>) -> BoxFuture<'_, Vec<Appended>>;
    /// See [`Log::read`](crate::Log::read).
    fn read(&self, topic: Topic, partition: u16, after: u64, limits: ReadLimits) -> BoxFuture<'_, Vec<StoredBatch>>;
    /// See [`Log::bounds`](crate::Log::bounds).
    fn bounds(&self, topic: Topic, partition: u16) -> BoxFuture<'_, Bounds>;
    /// See [`Log::last_sequence`](crate::Log::last_sequence).
    fn last_sequence<'a>(&'a self, topic: Topic, partition: u16, producer: &'a str) -> BoxFuture<'a, Option<u64>>;
    /// See [`Log::hold`](crate::Log::hold).
    fn hold<'a>(&'a self, topic: Topic, partition: u16, consumer: &'a str, position: u64) -> BoxFuture<'a, ()>;
    /// See [`Log::release`](crate::Log::release).
    fn release<'a>(&'a self, topic: Topic, consumer: &'a str) -> BoxFuture<'a, ()>;
    /// See [`Log::usage`](crate::Log::usage).
    fn usage(&self, topic: Topic) -> BoxFuture<'_, TopicUsage>;
    /// See [`Log::trim_now`](crate::Log::trim_now).
    fn trim_now(&self, now_us: i64) -> BoxFuture<'_, Trimmed>;
    /// See [`Log::close`](crate::Log::close).
    fn close(&self) -> BoxFuture<'_, ()>;
}
