//! What a flow prints: each step with when it was done and how long it took. Scenes that run at once say which they
//! are.

use std::cell::Cell;
use std::time::Instant;

use crate::say;

/// The steps of one scene.
pub(crate) struct Steps {
    scene: String,
    began: Instant,
    last: Cell<Instant>,
}

impl Steps {
    /// The steps of a scene of a flow that began then.
    pub(crate) fn new(scene: &str, began: Instant) -> Self {
        Self { scene: scene.to_owned(), began, last: Cell::new(Instant::now()) }
    }

    /// A step is done: what was seen.
    pub(crate) fn saw(&self, text: &str) {
        let took = self.last.replace(Instant::now()).elapsed().as_secs_f64();
        say(&format!("{:6.1}s {:<10} (+{took:.1}s) {text}", self.began.elapsed().as_secs_f64(), self.scene));
    }
}
