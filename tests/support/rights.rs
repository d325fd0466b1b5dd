//! An account with exactly the rights that `deploy/install.yaml` gives to the operator, in one namespace.
//!
//! Tests run the operator with it, so that a right which is missing there fails a test here.
