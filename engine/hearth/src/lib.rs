//! engine/hearth
