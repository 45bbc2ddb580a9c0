//! What can go wrong with one call of the log or the store, drawn from the seed, and how often each did.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::draws::Draws;

/// A kind of fault, for the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    StoreUnavailable,
    StoreRefused,
    StoreWriteInPart,
    StoreAnswerLost,
    StoreWriteLandsLate,
    StoreWriteOutlivesProcess,
    StoreOutage,
    StoreSlow,
    ReadUnavailable,
    LogUnavailable,
    LogAnswerLost,
    LogNotSetUp,
    LogRefused,
    LogOutage,
    LogSlow,
    CommitUnavailable,
    CommitAnswerLost,
    CommitByFormerOwner,
    EndOffsetUnknown,
    BeginningUnknown,
    CrashInCall,
    FenceInTheMidst,
    OwnerSleeps,
    WriteByFormerOwner,
    RecordByFormerOwner,
    Leave,
    LeaveFenced,
    ClockJump,
    TopicStalled,
    LateReading,
    DuplicateReading,
    CorrectedReading,
    FutureReading,
    /// Refused: further ahead than a clock may be, or older than what is kept.
    FarReading,
    DamagedRecord,
    PoisonRecord,
    PanicOnce,
    AnswerDropped,
    AnswerRepeated,
    AnswerInfeasible,
    AckRepeated,
}

/// How often each kind of fault happened.
pub type Counts = BTreeMap<Fault, u64>;

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// Nothing happens, and the caller is told so.
    Unavailable,
    Refused,
    /// Some of it happens, and the caller is told that it failed.
    InPart,
    /// All of it happens, and the caller is told that it failed.
    AnswerLost,
    /// The caller is told that it failed, and it happens afterwards.
    LandsLate(Duration),
}

/// The faults of one run.
#[derive(Debug)]
pub struct Faults {
    pub counts: Counts,
    /// No more faults: what is left is to finish.
    pub calm: bool,
    /// Share of calls that fail, of a thousand.
    pub share: u64,
    /// The same of commits: where few succeed, many lives begin where the one before began.
    pub commit_share: u64,
    pub store_away_until: Option<Instant>,
    pub log_away_until: Option<Instant>,
}

impl Faults {
    pub const fn new(share: u64, commit_share: u64) -> Self {
        Self {
            counts: Counts::new(),
            calm: false,
            share,
            commit_share,
            store_away_until: None,
            log_away_until: None,
        }
    }

    pub fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }

    /// How long a call takes before and after it does something.
    pub fn delay(&mut self, slow: Fault, draws: &mut Draws) -> Duration {
        if !self.calm && draws.permille(self.share / 4) {
            self.count(slow);
            return Duration::from_millis(draws.next() % 30_000);
        }
        Duration::from_millis(draws.next() % 8)
    }

    pub fn of_write(&mut self, draws: &mut Draws) -> Fate {
        if let Some(fate) = self.of_any(self.store_away_until, Fault::StoreOutage, draws) {
            return fate;
        }
        let late = late(draws);
        let (fault, fate) = draws.one_of(&[
            (Fault::StoreUnavailable, Fate::Unavailable),
            (Fault::StoreRefused, Fate::Refused),
            (Fault::StoreWriteInPart, Fate::InPart),
            (Fault::StoreAnswerLost, Fate::AnswerLost),
            (Fault::StoreWriteLandsLate, Fate::LandsLate(late)),
        ]);
        self.count(fault);
        fate
    }

    pub fn of_read(&mut self, draws: &mut Draws) -> Fate {
        if let Some(fate) = self.of_any(self.store_away_until, Fault::StoreOutage, draws) {
            return fate;
        }
        self.count(Fault::ReadUnavailable);
        Fate::Unavailable
    }

    pub fn of_produce(&mut self, draws: &mut Draws) -> Fate {
        if let Some(fate) = self.of_any(self.log_away_until, Fault::LogOutage, draws) {
            return fate;
        }
        let (fault, fate) = draws.one_of(&[
            (Fault::LogUnavailable, Fate::Unavailable),
            (Fault::LogNotSetUp, Fate::Refused),
            (Fault::LogAnswerLost, Fate::AnswerLost),
        ]);
        self.count(fault);
        fate
    }

    pub fn of_commit(&mut self, draws: &mut Draws) -> Fate {
        if let Some(fate) = self.of_call(
            self.log_away_until,
            Fault::LogOutage,
            self.commit_share,
            draws,
        ) {
            return fate;
        }
        let (fault, fate) = draws.one_of(&[
            (Fault::CommitUnavailable, Fate::Unavailable),
            (Fault::CommitAnswerLost, Fate::AnswerLost),
        ]);
        self.count(fault);
        fate
    }

    fn of_any(&mut self, away: Option<Instant>, outage: Fault, draws: &mut Draws) -> Option<Fate> {
        self.of_call(away, outage, self.share, draws)
    }

    /// What becomes of a call while what it asks is away until `away`, or where no fault strikes; `None` where one does.
    fn of_call(
        &mut self,
        away: Option<Instant>,
        outage: Fault,
        share: u64,
        draws: &mut Draws,
    ) -> Option<Fate> {
        if !self.calm && away.is_some_and(|until| Instant::now() < until) {
            self.count(outage);
            return Some(Fate::Unavailable);
        }
        (self.calm || !draws.permille(share)).then_some(Fate::Done)
    }
}

/// After what time a write lands that is late.
pub fn late(draws: &mut Draws) -> Duration {
    let ms_max = draws.one_of(&[500, 20_000, 120_000]);
    Duration::from_millis(draws.next() % ms_max)
}
