//! The closed list of condition reasons. docs/conditions.md says for each what to do.

/// Defines the reasons once, each with its word.
macro_rules! reasons {
    ($($reason:ident)*) => {
        /// A reason of the conditions `Ready`, `Reconciling`, `Stalled`, `PromotionAllowed` and `ContentVerified`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the words are explained in docs/conditions.md, for the people who read them there")]
        pub enum Reason {
            $($reason,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// The word in the condition: the variant's own name.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$reason => stringify!($reason),)*
                }
            }
        }
    };
}

reasons! {
    // Ready=True
    Succeeded
    AwaitingApproval
    Assumed
    // With Reconciling
    Progressing
    Downloading
    DeployRunning
    PromotionRunning
    ResolvingOutcome
    ProgressingWithRetry
    HeldByPromotion
    AwaitingSource
    SpaceProvisioning
    SpaceBusy
    RateLimited
    ArtifactUnavailable
    // Alone
    Suspended
    KonigleUnreachable
    // Stalled
    InvalidSpec
    SecretNotFound
    SecretKeyMissing
    SecretInvalid
    CredentialsRejected
    SpaceForbidden
    SpaceNotFound
    SpaceChanged
    SpaceConflict
    SpaceStopped
    SpaceError
    SourceNotFound
    PairNotProven
    DigestMismatch
    ArtifactRejected
    ArtifactTooLarge
    RequestRejected
    RetriesExceeded
    OutcomeUnknown
    JobOverdue
    Drifted
    DriftLoop
    ContentNotVerified
    CRDOutdated
    // PromotionAllowed=False
    SourceNotConfirmed
    SourceDrifted
    SourceBusy
    // ContentVerified
    SourceUnchanged
    SourceChanged
    NotYetConfirmed
    AdoptedWithoutJob
}

impl Reason {
    /// The reason of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.word() == word)
    }

    /// The reason of that word. Quarantine records a reason as a word.
    #[must_use]
    pub fn of_quarantine(word: &str) -> Self {
        match word {
            "ArtifactRejected" => Self::ArtifactRejected,
            "ArtifactTooLarge" => Self::ArtifactTooLarge,
            "RequestRejected" => Self::RequestRejected,
            _ => Self::RetriesExceeded,
        }
    }

    /// Whether a change of a Secret is what heals it; looked at every 30 s.
    #[must_use]
    pub fn is_about_credentials(self) -> bool {
        matches!(
            self,
            Self::SecretNotFound
                | Self::SecretKeyMissing
                | Self::SecretInvalid
                | Self::CredentialsRejected
                | Self::SpaceForbidden
        )
    }
}
