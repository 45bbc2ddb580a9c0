//! Shared by the tests: the real stack on one machine, and ways to inspect it from outside.

pub mod harness;
