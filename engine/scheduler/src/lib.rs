//! engine/scheduler
