//! x
fn main() { println!("{}", serde_saphyr::to_string(&konigle_operator::api::crd()).unwrap()); }
