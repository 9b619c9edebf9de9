//! Independent pieces of work on a few threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::QueryError;

/// Does so many pieces of work on at most so many threads; what comes of them, in their order. The first that fails ends all.
pub(crate) fn each<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> Result<T, QueryError> + Sync,
) -> Result<Vec<T>, QueryError> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<QueryError>> = Mutex::new(None);
    let worker = || {
        let mut done = Vec::new();
        while failed.lock().is_none() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            match work(at) {
                Ok(result) => done.push((at, result)),
                Err(error) => {
                    failed.lock().get_or_insert(error);
                }
            }
        }
        done
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.clamp(1, count.max(1))).map(|_| scope.spawn(worker)).collect();
        let mut all = worker();
        for other in others {
            all.extend(other.join().map_err(|_| QueryError::BrokeOff)?);
        }
        Ok::<_, QueryError>(all)
    })?;
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    all.sort_unstable_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}
