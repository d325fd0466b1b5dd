//! Konigle Cloud, as the operator uses it.
