//! What the tests share: the real stack on one machine, and means to look at it from outside.

pub mod harness;
