//! The Konigle API simulator, `konigle-sim`, as a process of its own, and its control API.
