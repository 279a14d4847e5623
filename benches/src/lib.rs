//! The `benches` room.
