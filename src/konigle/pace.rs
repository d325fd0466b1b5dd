//! How fast one account may ask: its own rate limit, and the pause after a 429, which holds for all its calls.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::{Instant, sleep, timeout_at};

use super::error::LONGEST_RETRY_AFTER;

/// The gate that every request of one account goes through.
#[derive(Debug)]
pub(super) struct Pace {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
    /// Whoever holds it is next; the mutex is fair, so requests go in the order in which they came.
    turn: tokio::sync::Mutex<()>,
    paused_until: Mutex<Option<Instant>>,
}

/// The request would have to wait for longer than it can; `retry_after` says how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooSoon {
    pub(super) retry_after: Duration,
}

impl Pace {
    /// `rate` requests a second, and `burst` of them at once.
    pub(super) fn new(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        Self {
            limiter: RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)),
            clock: DefaultClock::default(),
            turn: tokio::sync::Mutex::new(()),
            paused_until: Mutex::new(None),
        }
    }

    /// Waits for this request's turn, for `longest` at most.
    pub(super) async fn enter(&self, longest: Duration) -> Result<(), TooSoon> {
        let deadline = Instant::now() + longest;
        self.check_pause(deadline)?;
        let turn = timeout_at(deadline, self.turn.lock()).await;
        let _turn = turn.map_err(|_| TooSoon { retry_after: self.paused().unwrap_or(Duration::from_secs(1)) })?;
        loop {
            // The pause first, so that it uses up no permit of the limiter.
            let wait = match self.check_pause(deadline)? {
                Some(pause) => pause,
                None => match self.limiter.check() {
                    Ok(()) => return Ok(()),
                    Err(not_until) => not_until.wait_time_from(self.clock.now()),
                },
            };
            if Instant::now() + wait > deadline {
                return Err(TooSoon { retry_after: wait });
            }
            sleep(wait).await;
        }
    }

    /// Keeps all requests back for `length` from now, unless they are kept back for longer already.
    pub(super) fn pause(&self, length: Duration) {
        let until = Instant::now() + length.min(LONGEST_RETRY_AFTER);
        let mut paused_until = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused_until = (*paused_until).max(Some(until));
    }

    /// For how long requests are still kept back after a 429.
    pub(super) fn paused(&self) -> Option<Duration> {
        let mut paused_until = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        let left = (*paused_until)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            *paused_until = None;
            return None;
        }
        Some(left)
    }

    fn check_pause(&self, deadline: Instant) -> Result<Option<Duration>, TooSoon> {
        match self.paused() {
            Some(left) if Instant::now() + left > deadline => Err(TooSoon { retry_after: left }),
            left => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: u32, burst: u32) -> Pace {
        Pace::new(NonZeroU32::new(rate).unwrap(), NonZeroU32::new(burst).unwrap())
    }

    #[tokio::test]
    async fn lets_a_burst_through_and_then_refuses_to_wait_too_long() {
        let pace = pace(1, 3);
        for _ in 0..3 {
            pace.enter(Duration::ZERO).await.unwrap();
        }
        let TooSoon { retry_after } = pace.enter(Duration::from_millis(10)).await.unwrap_err();
        assert!(retry_after <= Duration::from_secs(1) && retry_after > Duration::from_millis(300), "{retry_after:?}");
    }

    #[tokio::test]
    async fn waits_for_its_turn() {
        let pace = pace(50, 1);
        let start = std::time::Instant::now();
        for _ in 0..4 {
            pace.enter(Duration::from_secs(5)).await.unwrap();
        }
        assert!(start.elapsed() >= Duration::from_millis(55), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_pause_holds_all_and_only_grows() {
        let pace = pace(1000, 1000);
        pace.pause(Duration::from_mins(1));
        pace.pause(Duration::from_secs(30));
        let TooSoon { retry_after } = pace.enter(Duration::from_secs(15)).await.unwrap_err();
        assert!(retry_after > Duration::from_secs(50) && retry_after <= Duration::from_mins(1), "{retry_after:?}");
        pace.pause(Duration::from_hours(24));
        assert!(pace.paused().unwrap() <= LONGEST_RETRY_AFTER);
    }

    #[tokio::test]
    async fn a_short_pause_is_waited_out() {
        let pace = pace(1000, 1000);
        pace.pause(Duration::from_millis(30));
        let start = Instant::now();
        pace.enter(Duration::from_secs(5)).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(25));
        assert_eq!(pace.paused(), None);
    }
}
