//! What is explored: the protocol within its assumptions, with a person at work, the mutants, and two servers without bound.

use konigle_operator::api::{AdoptionPolicy, DriftPolicy, UnknownOutcomePolicy};

use crate::mutants::Mutant;
use crate::setting::{Budget, Busy, Image, Moves, Second, Setting, Standing};

const MOVES: [(Moves, &str); 3] = [(Moves::Accept, "accept"), (Moves::End, "end"), (Moves::Success, "success")];
const WORDS: [(Standing, &str); 3] =
    [(Standing::OldWord, "old word"), (Standing::Running, "running"), (Standing::OddWord, "odd word")];

/// Everything within the assumptions, and without anybody else: no property may break, and nothing may get stuck.
pub fn alone(large: bool) -> Vec<Setting> {
    // So much goes wrong in one history, of whatever kind.
    let total = total(large);
    let mut settings = Vec::new();
    // What the API does not tell, the three together.
    for (moves, moves_at) in MOVES {
        for (standing, word) in WORDS {
            for listed in [false, true] {
                let list = if listed { "list" } else { "no list" };
                let name = format!("uat; {moves_at}, {word}, {list}");
                let budget = Budget {
                    crashes: 1,
                    lost: 1,
                    failures: 1,
                    edits: 2,
                    refused: 1,
                    unheard: 1,
                    slow: 1,
                    total,
                    ..Budget::default()
                };
                settings.push(Setting::uat(name.leak()).server(moves, standing, listed).within(budget));
            }
        }
    }
    let none = Budget::default();
    let one = Budget { crashes: 1, lost: 1, edits: 1, slow: 1, total: total - 1, ..none };
    let fault = Budget { crashes: 1, lost: 1, failures: 1, refused: 1, unheard: 1, slow: 1, ..none };
    let beside = Budget { collisions: 2, ..none };
    let some = Budget { crashes: 1, lost: 1, edits: 1, slow: 1, total, ..Budget::default() };
    for (moves, moves_at) in MOVES {
        for (standing, word) in WORDS {
            let name = format!("reads lag; {moves_at}, {word}");
            let budget = Budget { failures: 1, ..one };
            settings.push(Setting::uat(name.leak()).server(moves, standing, true).within(budget).but(|setting| {
                setting.goes_back = true;
                (setting.read_lag, setting.effect_lag) = (1, Some(1));
            }));
        }
    }
    settings.extend([
        Setting::uat("two replicas").within(one).but(|setting| setting.replicas = 2),
        Setting::uat("busy: refused").within(some).but(|setting| setting.reading.busy = Busy::Refuse),
        Setting::uat("reset").within(Budget { resets: 1, ..some }),
        Setting::pair("pair").within(none),
        Setting::uat("an edit of the timeout").within(some).but(lowers_timeout),
        pair_with_an_edit("pair; an edit"),
        quick_pair("pair; a late effect", Budget { lost: 1, ..none }).but(|setting| setting.effect_lag = Some(1)),
        quick_pair("pair; a deletion", Budget { deletions: 1, ..none }),
        quick_pair("pair; a deletion, restored", Budget { deletions: 1, ..none })
            .but(|setting| setting.restored = true),
        quick_pair("pair; a fault", fault),
        Setting::uat("made anew").within(Budget { deletions: 1, crashes: 0, ..some }),
        Setting::uat("restored")
            .within(Budget { deletions: 1, crashes: 0, ..some })
            .but(|setting| setting.restored = true),
        Setting::uat("twins").within(if large { Budget { collisions: 2, ..one } } else { beside }).but(|setting| {
            setting.second = Second::Twin;
        }),
    ]);
    if large {
        let manual = |setting: &mut Setting| (setting.automatic, setting.reading.image) = (false, Image::AtAccept);
        let one = Budget { collisions: 1, ..one };
        settings.extend([
            quick_pair("pair; two replicas", none)
                .but(|setting| (setting.replicas, setting.budget.collisions) = (2, 0)),
            quick_pair("pair; a fault and an edit of a timeout", Budget { lost: 1, edits: 1, ..none })
                .but(lowers_timeout)
                .but(|setting| setting.budget.total = 2),
            // Both made anew while a job runs that each of them could follow.
            Setting::uat("twins; made anew").within(Budget { deletions: 2, total: 2, ..none }).but(quick).but(
                |setting| {
                    setting.second = Second::Twin;
                },
            ),
            Setting::pair("pair; faults").within(one),
            Setting::pair("pair; the image at accept, manual").within(one).but(manual),
        ]);
    }
    settings
}

/// An edit at any moment, also while what uat runs is promoted; with the least times, so that the search stays small.
fn pair_with_an_edit(name: &'static str) -> Setting {
    quick_pair(name, Budget { edits: 1, ..Budget::default() })
}

/// A promotion with one thing of these in one history, and the least times.
fn quick_pair(name: &'static str, budget: Budget) -> Setting {
    Setting::pair(name).within(Budget { total: 1, collisions: 1, ..budget }).but(quick)
}

/// The least times.
fn quick(setting: &mut Setting) {
    (setting.settle, setting.timeout, setting.longest_job, setting.effect_lag) = (1, 1, 1, Some(0));
}

/// An edit lowers `spec.timeout` by two ticks: by one, the pause before a retry would hide a wait that ends too early.
fn lowers_timeout(setting: &mut Setting) {
    (setting.timeout, setting.longest_job, setting.timeout_after_an_edit) = (3, 3, Some(1));
}

/// With one deployment of somebody else's, at any moment. What holds then is less.
pub fn with_a_human() -> Vec<Setting> {
    let budget = Budget { crashes: 1, lost: 1, humans: 1, edits: 1, total: 2, ..Budget::default() };
    let mut settings = vec![Setting::uat("human").within(budget)];
    for (moves, moves_at) in MOVES {
        let name = format!("pair; human; {moves_at}");
        let pair = quick_pair(name.leak(), Budget { humans: 1, ..Budget::default() });
        settings.push(pair.server(moves, Standing::OldWord, false));
    }
    settings
}

/// What the short run does not look into. It is printed with it.
pub const LEFT_OUT: &str = "Not in the short run: in a promotion (pair) two things in one history or two replicas, beyond the random schedules; \
     any fault with two resources for one Space (twins), beyond them; a manual approval, beyond them; three faults in one history, two with two \
     replicas or with reads that lag. Not in any: more than one deployment of somebody else's; a crash of the only process that saw a resource which was deleted; one that \
     is made anew while reads still lag; two processes beside two resources for one Space, or beside two deletions.";

/// How much goes wrong in one history; `MODEL_TOTAL` says otherwise.
fn total(large: bool) -> u8 {
    let said = std::env::var("MODEL_TOTAL").ok().and_then(|total| total.parse().ok());
    said.unwrap_or(if large { 3 } else { 2 })
}

/// Each mutant with the property that it must break, where it does.
pub fn mutants() -> Vec<(Mutant, &'static str, Setting)> {
    let none = Budget { total: u8::MAX, ..Budget::default() };
    let crash = Budget { crashes: 1, ..none };
    let lost = Budget { lost: 1, ..none };
    let edit = Budget { edits: 1, ..none };
    let uat = || Setting::uat("uat");
    let pair = || Setting::pair("pair");
    [
        (Mutant::NoWriteAhead, "S5", uat().within(crash)),
        (Mutant::ResendAtOnce, "S1d", uat().within(lost)),
        (Mutant::ResendBlindly, "S1d", uat().within(lost).but(|setting| setting.drift = DriftPolicy::Ignore)),
        (Mutant::IgnoreTheWord, "S3i", uat().within(Budget { failures: 1, ..lost })),
        (
            Mutant::GuardedReceipt,
            "S10",
            uat().within(edit).but(|setting| setting.unknown_outcome = UnknownOutcomePolicy::Hold),
        ),
        (Mutant::AbandonForNewer, "S4", uat().within(edit)),
        (Mutant::SettleIsEnough, "S1d", uat().within(lost)),
        (Mutant::HoldBeforeClaim, "S4", pair_with_an_edit("pair")),
        (Mutant::PromoteAssumed, "S3", pair().but(|setting| setting.adoption = AdoptionPolicy::AssumeCurrent)),
        (Mutant::UnguardedWrites, "S10", uat().but(|setting| setting.replicas = 2)),
        (Mutant::NumberFromHistory, "S10", uat().within(Budget { refused: 2, ..none })),
        (Mutant::TimeoutOfNow, "S4", uat().within(Budget { lost: 1, edits: 1, ..none }).but(lowers_timeout)),
        (
            Mutant::PinAtOnce,
            "S3i",
            uat().within(Budget { lost: 1, edits: 1, ..none }).but(|setting| {
                setting.read_lag = 2;
                setting.effect_lag = Some(0);
            }),
        ),
    ]
    .into_iter()
    .map(|(mutant, property, setting)| {
        let setting = setting.but(|setting| setting.mutant = Some(mutant));
        (mutant, property, setting)
    })
    .collect()
}

/// Servers that may take effect whenever they like: they must show a duplicate, else the model cannot see one.
pub fn without_bound() -> Vec<(&'static str, Setting)> {
    let unbounded = || {
        Setting::uat("uat")
            .within(Budget { lost: 1, total: 1, ..Budget::default() })
            .but(|setting| setting.effect_lag = None)
    };
    vec![
        (
            "V10: lag without bound, nonce in the list",
            unbounded().but(|setting| {
                setting.reading.listed = true;
                setting.reading.nonce_visible = true;
            }),
        ),
        ("V11: lag without bound", unbounded()),
    ]
}
